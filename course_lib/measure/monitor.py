"""What a program's calls take, cost and come to, counted wherever they run: threads, tasks, streams.

Main path: `with PerformanceMonitor() as monitor: ...` then print(monitor.report()).
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Collection, Mapping
from typing import Any

import psutil

from course_lib.measure.calls import LM, MODULE, Call, CallListener
from course_lib.measure.report import Report, Row
from course_lib.measure.usage import Usage
from course_lib.resilience import forks

CANCELLED = asyncio.CancelledError | KeyboardInterrupt | GeneratorExit
"""What a call ends with that was given up: no failure of its own."""
MOST_VALUES = 50
"""So many names of one sort are told apart; further ones are counted together, as OTHER."""
OTHER = "other"


class PerformanceMonitor(CallListener):
    """Counts calls, errors, latencies, tokens, cost and cache hits, in bounded memory.

    Of calls of a kind within one another, only the outermost is counted. After the first 50 models, the first
    50 programs and the first 50 errors of each, all further ones are counted together, as `other`. What it
    hears, as a context manager or installed for good, see CallListener.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        forks.things.add(self)
        self._rows: dict[tuple[str, str], Row] = {}
        self._first: tuple[float, float] | None = None
        self._last = 0.0, 0.0

    def report(self) -> Report:
        """Return what was counted so far; print it, or show it in a notebook."""
        with self._lock:
            rows = copy.deepcopy(self._rows)
            first_s, first_cpu_s = self._first or self._last
            span_s = self._last[0] - first_s
            return Report(
                models=[row for (kind, _), row in rows.items() if kind == LM],
                programs=[row for (kind, _), row in rows.items() if kind == MODULE],
                span_s=max(0.0, span_s),
                cpu_share=(self._last[1] - first_cpu_s) / span_s if span_s > 0 else 0.0,
                memory_bytes=psutil.Process().memory_info().rss,
            )

    def __repr__(self) -> str:
        return str(self.report())

    def began(self, call: Call, inputs: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Remember when the first call of all began."""
        if call.kind in (LM, MODULE) and call.is_outermost and self._first is None:
            with self._lock:
                self._first = self._first or (call.begun_s, time.process_time())

    def ended(self, call: Call, outputs: Any, error: BaseException | None) -> None:  # noqa: ARG002
        """Enter a call in its row."""
        if call.kind in (LM, MODULE) and call.is_outermost:
            with self._lock:
                self._enter(call, error)

    def _enter(self, call: Call, error: BaseException | None) -> None:
        now_s = time.perf_counter()
        self._last = now_s, time.process_time()
        name = call.name
        if (call.kind, name) not in self._rows:
            name = bounded(name, [known for kind, known in self._rows if kind == call.kind])
        row = self._rows.setdefault((call.kind, name), Row(name))
        usage = call.heard.usage if call.heard else None
        row.usage += usage or Usage()
        if call.heard and call.heard.first_token_s is not None:
            row.first_token_ms.append((call.heard.first_token_s - call.begun_s) * 1000)
        if isinstance(error, CANCELLED):
            row.cancelled += 1
        elif error is not None:
            row.errors[bounded(type(error).__name__, row.errors)] += 1
        elif call.kind == LM and usage is None:
            row.cached += 1
        else:
            row.answered += 1
            row.latency_ms.append((now_s - call.begun_s) * 1000)


def bounded(name: str, known: Collection[str]) -> str:
    """Return the name, or OTHER for a new one where MOST_VALUES are known."""
    return name if name in known or len(known) < MOST_VALUES else OTHER
