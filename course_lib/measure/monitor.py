"""What a program's calls take, cost and come to, counted wherever they run: threads, tasks, streams.

Main path: `with PerformanceMonitor() as monitor: ...` then print(monitor.report()).
Source: dspy.utils.callback.BaseCallback and ACTIVE_CALL_ID; the settings `usage_tracker` and `send_stream` as
dspy/clients/execution.py uses them (DSPy 3.4.1). For the time of one model call the call stands for both, and
passes on all it gets, so that a tracker or stream of the program's own goes on.
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any, Self

import dspy
import psutil
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback

from course_lib.errors import CourseError
from course_lib.measure.report import Report, Row
from course_lib.measure.usage import Usage, UsageTracker, usage_of

_LM, _MODULE, _OTHER = "lm", "module", "other"
_CANCELLED = asyncio.CancelledError | KeyboardInterrupt | GeneratorExit


class _Call(UsageTracker):
    """A call under way; while a model is called, DSPy reports usage and sends a stream's chunks to it."""

    def __init__(self, kind: str, name: str, around: frozenset[str]) -> None:
        super().__init__()
        self.kind, self.name, self.around = kind, name, around
        self.is_counted = kind != _OTHER and kind not in around
        """Of calls of a kind within one another, only the outermost is counted."""
        self.begun_s = time.perf_counter()
        self.first_token_s: float | None = None
        self.usage: Usage | None = None
        """What a model reported; None when a cache answered."""
        self.context = ExitStack()

    def listen(self, call_id: str) -> None:
        """Take the place of the usage tracker and of the stream of this context, until `context` closes."""
        self._call_id, settings = call_id, dspy.settings
        self._tracker, self._stream = settings.get("usage_tracker"), settings.get("send_stream")
        if self._tracker is not None:  # a track_usage() within the call adds its entries here
            self.usage_data = self._tracker.usage_data
        stream = None if self._stream is None else self
        self.context.enter_context(dspy.context(usage_tracker=self, send_stream=stream))

    def add_usage(self, lm: str, usage_entry: Mapping[str, Any]) -> None:
        """Take a report; that of a model which this model calls is only passed on."""
        if self._call_id == ACTIVE_CALL_ID.get():
            self.usage = (self.usage or Usage()) + usage_of([(lm, usage_entry)])
        if self._tracker is not None:
            self._tracker.add_usage(lm, usage_entry)

    async def send(self, chunk: Any) -> None:
        """Note when the first text of the stream left, and pass all on."""
        if self.first_token_s is None and _has_text(chunk):
            self.first_token_s = time.perf_counter()
        await self._stream.send(chunk)


class PerformanceMonitor(BaseCallback):
    """Counts calls, errors, latencies, tokens, cost and cache hits, in bounded memory.

    As a context manager it hears everything that runs below the block: DSPy carries the context to the
    threads of dspy.Parallel, batch, Evaluate and asyncify, Python to tasks and asyncio.to_thread. Threads of
    one's own do not inherit it; for those, and for a service, install the monitor for good:
    `dspy.configure(callbacks=[monitor])`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, _Call] = {}
        self._rows: dict[tuple[str, str], Row] = {}
        self._first: tuple[float, float] | None = None
        self._last = 0.0, 0.0
        self._context: Any = None

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self  # a program copied by an optimizer still reports here

    def __enter__(self) -> Self:
        """Begin to listen in this context; what was counted before stays.

        Raises:
            CourseError: this monitor is already listening.
        """
        if self._context is not None:
            raise CourseError("this monitor is already listening; make another one for a block within it")
        self._context = dspy.context(callbacks=[*dspy.settings.callbacks, self])
        self._context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop listening; calls of the block that are still under way are counted when they end."""
        self._context.__exit__(*error)
        self._context = None

    def report(self) -> Report:
        """Return what was counted so far; print it, or show it in a notebook."""
        with self._lock:
            rows = copy.deepcopy(self._rows)
            first_s, first_cpu_s = self._first or self._last
            span_s = self._last[0] - first_s
            return Report(
                models=[row for (kind, _), row in rows.items() if kind == _LM],
                programs=[row for (kind, _), row in rows.items() if kind == _MODULE],
                span_s=max(0.0, span_s),
                cpu_share=(self._last[1] - first_cpu_s) / span_s if span_s > 0 else 0.0,
                memory_bytes=psutil.Process().memory_info().rss,
            )

    def __repr__(self) -> str:
        return str(self.report())

    # -- what DSPy calls, on the thread or task of the call ------------------------------------------

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Open a model's call."""
        call = self._begin(call_id, _LM, str(getattr(instance, "model", type(instance).__name__)))
        if call and call.is_counted:
            call.listen(call_id)

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Open the call of a module; of a tool or an evaluation, only to link the calls around and within."""
        self._begin(
            call_id, _MODULE if isinstance(instance, dspy.Module) else _OTHER, type(instance).__name__
        )

    on_tool_start = on_evaluate_start = on_module_start

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """Close a call and enter it in its row."""
        with self._lock:
            call = self._open.pop(call_id, None)
            if call is None:
                return
            if call.is_counted:
                self._enter(call, exception)
        # A coroutine thrown away while suspended ends in another context: nothing to put back there.
        with suppress(ValueError):
            call.context.close()

    on_module_end = on_tool_end = on_evaluate_end = on_lm_end

    def _begin(self, call_id: str, kind: str, name: str) -> _Call | None:
        """Open a call; None if it is open already (a callback installed twice is called twice)."""
        with self._lock:
            if call_id in self._open:
                return None
            outer = self._open.get(ACTIVE_CALL_ID.get() or "")
            call = _Call(kind, name, outer.around | {outer.kind} if outer else frozenset())
            self._open[call_id] = call
            if call.is_counted:
                self._first = self._first or (call.begun_s, time.process_time())
        return call

    def _enter(self, call: _Call, exception: BaseException | None) -> None:
        now_s = time.perf_counter()
        self._last = now_s, time.process_time()
        row = self._rows.setdefault((call.kind, call.name), Row(call.name))
        row.usage += call.usage or Usage()
        if call.first_token_s is not None:
            row.first_token_ms.append((call.first_token_s - call.begun_s) * 1000)
        if isinstance(exception, _CANCELLED):
            row.cancelled += 1
        elif exception is not None:
            row.errors[type(exception).__name__] += 1
        elif call.kind == _LM and call.usage is None:
            row.cached += 1
        else:
            row.answered += 1
            row.latency_ms.append((now_s - call.begun_s) * 1000)


def _has_text(chunk: Any) -> bool:
    choices = getattr(chunk, "choices", None)
    delta = getattr(choices[0], "delta", None) if choices else None
    return bool(getattr(delta, "content", None) or getattr(delta, "reasoning_content", None))
