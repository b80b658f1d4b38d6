"""What a program's calls take, cost and come to, counted wherever they run: threads, tasks, streams.

Main path: `with PerformanceMonitor() as monitor: ...` then print(monitor.report()).
Source: dspy.utils.callback.BaseCallback and ACTIVE_CALL_ID; the settings `usage_tracker` and `send_stream` as
dspy/clients/execution.py uses them (DSPy 3.4.1). For the time of one model call both are replaced through
dspy.context by proxies that pass on all they get, so that a tracker or stream of the program's own goes on.
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import dspy
import psutil
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback

from course_lib.errors import CourseError
from course_lib.measure.report import ProcessUse, Report, Row
from course_lib.measure.usage import CallTracker, Usage

_MEMORY_EVERY_S = 0.05  # memory is looked at this often at most, when a call begins or ends
_LM, _MODULE, _OTHER = "lm", "module", "other"
_CANCELLED = asyncio.CancelledError | KeyboardInterrupt | GeneratorExit


class MonitorError(CourseError):
    """The monitor was entered twice."""


@dataclass(slots=True)
class _Call:
    """A call under way."""

    kind: str
    name: str
    begun_s: float
    is_counted: bool
    """False for a model called by a model, or a module by a module: the outermost one is counted."""
    is_within_module: bool
    tracker: CallTracker | None = None
    first_token_s: float | None = None
    context: ExitStack = field(default_factory=ExitStack)


class PerformanceMonitor(BaseCallback):
    """Counts calls, errors, latencies, tokens, cost, cache hits, CPU and memory, in bounded memory.

    As a context manager it hears everything that runs below the block: DSPy carries the context to the
    threads of dspy.Parallel, batch, Evaluate and asyncify, Python to tasks and asyncio.to_thread. Threads of
    one's own do not inherit it; for those, and for a service, install the monitor for good:
    `dspy.configure(callbacks=[monitor])`.
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        """Count from now on; `clock` returns seconds."""
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, _Call] = {}
        self._rows: dict[tuple[str, str], Row] = {}
        self._in_flight = self._most_in_flight = 0
        self._first_s = self._last_s = 0.0
        self._context: ExitStack | None = None
        self._process = psutil.Process()
        self._memory_at_s = 0.0
        self._rss_most_bytes = 0
        self._begin = self._now()
        self._end: tuple[float, float, int] | None = None

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self  # a program copied by an optimizer still reports here

    def __enter__(self) -> Self:
        """Begin to listen in this context; what was counted before stays.

        Raises:
            MonitorError: this monitor is already listening.
        """
        if self._context is not None:
            raise MonitorError("this monitor is already listening; make another one for a block within it")
        self._begin, self._end = self._now(), None
        self._context = ExitStack()
        self._context.enter_context(dspy.context(callbacks=[*dspy.settings.callbacks, self]))
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop listening; calls of the block that are still under way are counted when they end."""
        assert self._context is not None
        self._context.close()
        self._context = None
        self._end = self._now()

    def _now(self) -> tuple[float, float, int]:
        """Return wall seconds, CPU seconds and bytes of memory."""
        times = self._process.cpu_times()
        return self._clock(), times.user + times.system, self._process.memory_info().rss

    def report(self) -> Report:
        """Return what was counted so far; print it, or show it in a notebook."""
        (began_s, cpu_before_s, _), (now_s, cpu_s, rss_bytes) = self._begin, self._end or self._now()
        with self._lock:
            most_bytes = max(self._rss_most_bytes, rss_bytes)
            use = ProcessUse(now_s - began_s, cpu_s - cpu_before_s, rss_bytes, most_bytes)
            rows = copy.deepcopy(self._rows)
            models, programs = (
                [row for (of, _), row in rows.items() if of == kind] for kind in (_LM, _MODULE)
            )
            span_s = max(0.0, self._last_s - self._first_s)
            return Report(models, programs, span_s, self._most_in_flight, self._in_flight, use)

    def __repr__(self) -> str:
        return str(self.report())

    def _repr_html_(self) -> str:
        return self.report()._repr_html_()

    # -- what DSPy calls, on the thread or task of the call ------------------------------------------

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Open a model's call, with proxies for the usage tracker and the stream of its context."""
        call = self._open_call(call_id, _LM, str(getattr(instance, "model", type(instance).__name__)))
        if call is None or not call.is_counted:
            return
        settings = dspy.settings
        call.tracker = CallTracker(call_id, settings.get("usage_tracker"))
        replaced: dict[str, Any] = {"usage_tracker": call.tracker}
        if (stream := settings.get("send_stream")) is not None:
            replaced["send_stream"] = _StreamProxy(call, stream, self._clock)
        call.context.enter_context(dspy.context(**replaced))

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        """Open the call of a module; of a tool or an evaluation, only to link the calls around and within."""
        kind = _MODULE if isinstance(instance, dspy.Module) else _OTHER
        self._open_call(call_id, kind, type(instance).__name__)

    on_tool_start = on_evaluate_start = on_module_start

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        """Close a call and enter it in its row."""
        now_s = self._clock()
        with self._lock:
            call = self._open.pop(call_id, None)
            if call is None:
                return
            self._look_at_memory(now_s)
            if call.is_counted:
                self._enter(call, now_s, exception)
        # A coroutine thrown away while suspended ends in another context: nothing to put back there.
        with suppress(ValueError):
            call.context.close()

    on_module_end = on_tool_end = on_evaluate_end = on_lm_end

    def _open_call(self, call_id: str, kind: str, name: str) -> _Call | None:
        """Open a call; None if it is open already (a callback installed twice is called twice)."""
        now_s = self._clock()
        with self._lock:
            if call_id in self._open:
                return None
            outer = self._open.get(ACTIVE_CALL_ID.get() or "")
            is_within_module = outer is not None and (outer.kind == _MODULE or outer.is_within_module)
            is_within_model = outer is not None and outer.kind == _LM
            is_counted = {_LM: not is_within_model, _MODULE: not is_within_module, _OTHER: False}[kind]
            call = self._open[call_id] = _Call(kind, name, now_s, is_counted, is_within_module)
            if is_counted:
                self._first_s = self._first_s or now_s
                self._in_flight += kind == _LM
                self._most_in_flight = max(self._most_in_flight, self._in_flight)
            self._look_at_memory(now_s)
        return call

    def _enter(self, call: _Call, now_s: float, exception: BaseException | None) -> None:
        row = self._rows.setdefault((call.kind, call.name), Row(call.name))
        self._last_s = max(self._last_s, now_s)
        is_hit = False
        if call.tracker is not None:
            self._in_flight -= 1
            is_hit = call.tracker.usage is None
            row.usage += call.tracker.usage or Usage()
        if call.first_token_s is not None:
            row.first_token.add((call.first_token_s - call.begun_s) * 1000)
        if isinstance(exception, _CANCELLED):
            row.cancelled += 1
        elif exception is not None:
            row.errors[type(exception).__name__] += 1
        else:
            (row.cached_latency if is_hit else row.latency).add((now_s - call.begun_s) * 1000)

    def _look_at_memory(self, now_s: float) -> None:
        if now_s - self._memory_at_s >= _MEMORY_EVERY_S:
            self._memory_at_s = now_s
            self._rss_most_bytes = max(self._rss_most_bytes, self._process.memory_info().rss)


class _StreamProxy:
    """Stands where DSPy sends a stream's chunks: notes when the first text left, and passes all on."""

    def __init__(self, call: _Call, stream: Any, clock: Callable[[], float]) -> None:
        self._call, self._stream, self._clock = call, stream, clock

    async def send(self, chunk: Any) -> None:
        """Send one chunk."""
        if self._call.first_token_s is None and _has_text(chunk):
            self._call.first_token_s = self._clock()
        await self._stream.send(chunk)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _has_text(chunk: Any) -> bool:
    choices = getattr(chunk, "choices", None)
    delta = getattr(choices[0], "delta", None) if choices else None
    return bool(getattr(delta, "content", None) or getattr(delta, "reasoning_content", None))
