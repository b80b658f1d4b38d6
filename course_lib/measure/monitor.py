"""What a program's calls take, cost and come to, counted wherever they run: threads, tasks, streams.

Main path: `with PerformanceMonitor() as monitor: ...` then print(monitor.report()).
Source: dspy.utils.callback.BaseCallback and ACTIVE_CALL_ID; the settings `usage_tracker` and `send_stream`
as dspy/clients/execution.py uses them (DSPy 3.4.1). For the time of one model call both are replaced by taps
through dspy.context, which pass on all they get: a tracker of dspy.track_usage() counts as before, and
dspy.Parallel, which copies that tracker for each thread and drops the copy, has nothing of ours to drop.
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import dspy
import psutil
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback

from course_lib.errors import CourseError
from course_lib.lm import prices
from course_lib.measure.performance import Report, Row, Series, Use
from course_lib.measure.taps import StreamTap, Tokens, UsageTap

_LOOK_S = 0.05  # memory is looked at this often at most, when a call begins or ends
_MAX_SERIES = 200  # names of models and programs kept apart; beyond these, one row for the others
_OTHERS = "(others)"
_LM, _MODULE, _OTHER = "lm", "module", "other"


class MonitorError(CourseError):
    """The monitor was entered twice."""


@dataclass(slots=True)
class _Open:
    """A call under way."""

    kind: str
    name: str
    begun_s: float
    is_counted: bool
    """False for a model called by a model, or a module by a module: the outermost one is counted."""
    is_within_module: bool
    usage: Tokens | None = None
    """What DSPy reported for this call; stays None when the answer came from a cache."""
    first_token_s: float | None = None
    context: AbstractContextManager[None] | None = None


class PerformanceMonitor:
    """Counts calls, errors, latencies, tokens, cost, cache hits, CPU and memory, in bounded memory.

    As a context manager it hears everything that runs below the block: DSPy carries the context to the
    threads of dspy.Parallel, batch, Evaluate and asyncify, Python to tasks and asyncio.to_thread. Threads of
    one's own do not inherit it; for those, and for a service, install `monitor.callback` for good:
    `dspy.configure(callbacks=[monitor.callback])`.
    """

    def __init__(self, *, exact_limit: int = 4096, clock: Callable[[], float] = time.perf_counter) -> None:
        """Keep `exact_limit` latencies per row as they are; beyond that within 1 % (see quantiles.py)."""
        self.callback = _Listener(self)
        self._exact_limit = exact_limit
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._series: dict[tuple[str, str], Series] = {}
        self._in_flight = self._most_in_flight = 0
        self._first_s: float | None = None
        self._last_s = 0.0
        self._context: ExitStack | None = None
        self._process = psutil.Process()
        self._began = _Usage.of(self._process, clock())
        self._ended: _Usage | None = None
        self._looked_s = 0.0
        self._rss_most = self._began.rss_bytes

    def __enter__(self) -> Self:
        """Begin to listen in this context; what was counted before stays.

        Raises:
            MonitorError: this monitor is already listening.
        """
        if self._context is not None:
            raise MonitorError("this monitor is already listening; make another one for a block within it")
        self._began, self._ended = _Usage.of(self._process, self._clock()), None
        self._context = ExitStack()
        self._context.enter_context(dspy.context(callbacks=[*dspy.settings.callbacks, self.callback]))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening; calls of the block that are still under way are counted when they end."""
        assert self._context is not None
        self._context.close()
        self._context = None
        self._ended = _Usage.of(self._process, self._clock())

    def report(self) -> Report:
        """Return what was counted so far; print it, or show it in a notebook."""
        until = self._ended or _Usage.of(self._process, self._clock())
        with self._lock:
            series = {key: each.copy() for key, each in self._series.items()}
            span_s = self._last_s - self._first_s if self._first_s is not None else 0.0
            most, under_way = self._most_in_flight, self._in_flight
            rss_most = max(self._rss_most, until.rss_bytes)
        return Report(
            models=_rows(series, _LM),
            programs=_rows(series, _MODULE),
            span_s=max(span_s, 0.0),
            most_in_flight=most,
            under_way=under_way,
            use=Use(
                wall_s=until.clock_s - self._began.clock_s,
                cpu_s=until.cpu_s - self._began.cpu_s,
                rss_bytes=until.rss_bytes,
                rss_most_bytes=rss_most,
            ),
        )

    def __repr__(self) -> str:
        return str(self.report())

    def _repr_html_(self) -> str:
        return self.report()._repr_html_()

    # -- what the listener hears -------------------------------------------------------------------

    def begin(self, call_id: str, kind: str, name: str) -> _Open | None:
        """Open a call; None if it is open already (a listener installed twice hears everything twice)."""
        parent_id = ACTIVE_CALL_ID.get()
        with self._lock:
            if call_id in self._open:
                return None
            parent = self._open.get(parent_id) if parent_id else None
            is_within_module = parent is not None and (parent.kind == _MODULE or parent.is_within_module)
            is_counted = {
                _LM: parent is None or parent.kind != _LM,
                _MODULE: not is_within_module,
                _OTHER: False,
            }[kind]
            now_s = self._clock()
            opened = _Open(kind, name, now_s, is_counted, is_within_module)
            self._open[call_id] = opened
            if is_counted and self._first_s is None:
                self._first_s = now_s
            if kind == _LM and is_counted:
                self._in_flight += 1
                self._most_in_flight = max(self._most_in_flight, self._in_flight)
            self._look(now_s)
        return opened

    def end(self, call_id: str, exception: BaseException | None) -> None:
        """Close a call and enter it in its row."""
        now_s = self._clock()
        with self._lock:
            opened = self._open.pop(call_id, None)
            if opened is None:
                return
            self._look(now_s)
            if opened.is_counted:
                self._enter(opened, now_s, exception)
        if opened.context is not None:
            # A coroutine thrown away while suspended ends in another context: nothing to put back there.
            with suppress(ValueError):
                opened.context.__exit__(None, None, None)

    def _enter(self, opened: _Open, now_s: float, exception: BaseException | None) -> None:
        row = self._row(opened.kind, opened.name)
        ms = (now_s - opened.begun_s) * 1000
        self._last_s = max(self._last_s, now_s)
        if opened.kind == _LM:
            self._in_flight -= 1
            used = opened.usage or Tokens(0, 0, 0)
            row.add_usage(used, _cost_usd(opened.name, used))
            if opened.first_token_s is not None:
                row.first_token.add((opened.first_token_s - opened.begun_s) * 1000)
        is_cached = opened.kind == _LM and exception is None and opened.usage is None
        is_cancelled = isinstance(exception, asyncio.CancelledError | KeyboardInterrupt | GeneratorExit)
        if is_cancelled:
            row.cancelled += 1
        elif exception is not None:
            row.errors[type(exception).__name__] += 1
        else:
            (row.cached if is_cached else row.latency).add(ms)

    def _row(self, kind: str, name: str) -> Series:
        if (kind, name) not in self._series and len(self._series) >= _MAX_SERIES:
            name = _OTHERS
        return self._series.setdefault((kind, name), Series.empty(self._exact_limit))

    def _look(self, now_s: float) -> None:
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            self._rss_most = max(self._rss_most, self._process.memory_info().rss)

    def tap(self, call_id: str, opened: _Open) -> None:
        """Put the taps in place for the time of this model call; both run where the call runs."""
        settings = dspy.settings
        replaced: dict[str, Any] = {"usage_tracker": UsageTap(call_id, opened, settings.get("usage_tracker"))}
        stream = settings.get("send_stream")
        if stream is not None:
            replaced["send_stream"] = StreamTap(opened, stream, self._clock)
        opened.context = dspy.context(**replaced)
        opened.context.__enter__()


class _Listener(BaseCallback):
    """DSPy's hooks, on the thread or task of the call."""

    def __init__(self, monitor: PerformanceMonitor) -> None:
        self._monitor = monitor

    def __deepcopy__(self, _memo: dict[int, Any]) -> _Listener:
        return self  # a program copied by an optimizer still reports here

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        opened = self._monitor.begin(call_id, _LM, str(getattr(instance, "model", type(instance).__name__)))
        if opened is not None and opened.is_counted:
            self._monitor.tap(call_id, opened)

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        self._monitor.begin(call_id, _MODULE, type(instance).__name__)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        self._monitor.begin(call_id, _OTHER, "tool")

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        self._monitor.begin(call_id, _OTHER, "evaluate")

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        self._monitor.end(call_id, exception)

    on_module_end = on_tool_end = on_evaluate_end = on_lm_end


@dataclass(frozen=True, slots=True)
class _Usage:
    """What the process had used at one moment."""

    clock_s: float
    cpu_s: float
    rss_bytes: int

    @classmethod
    def of(cls, process: psutil.Process, clock_s: float) -> _Usage:
        times = process.cpu_times()
        return cls(clock_s, times.user + times.system, process.memory_info().rss)


def _cost_usd(model: str, used: Tokens) -> float | None:
    """Return the price of a call by course_lib.lm.prices; None for a model that no list knows."""
    name = model.removeprefix("course/").partition("@")[0]
    if prices.price(name) is prices.ASSUMED:
        return None
    return prices.cost_usd(name, *used)


def _rows(series: dict[tuple[str, str], Series], kind: str) -> tuple[Row, ...]:
    return tuple(Row.of(name, each) for (of_kind, name), each in series.items() if of_kind == kind)
