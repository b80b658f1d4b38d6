"""Where the milliseconds of one answer go, from the question to the parsed prediction.

Main path: latency_budget(desk.Answer(), question=...) -> Budget, whose parts sum to the whole;
draw_latency_budget({...}) -> a figure.
Source: spans from dspy.utils.callback.BaseCallback, cache times from a stopwatch around dspy.cache, the
model's own times from the endpoint's ledger; the program runs through dspy.streamify, because only a stream
tells the wait for the first token from the writing of the rest (DSPy 3.4.1).
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partialmethod
from itertools import cycle
from typing import Any

import dspy
import numpy as np
from dspy.utils.callback import BaseCallback

from course_lib import lm
from course_lib.errors import CourseError
from course_lib.measure import PerformanceMonitor

FORMAT, LOOK_UP, CLIENT, FIRST, WRITING, PARSE, REST = (
    "format the prompt",
    "look into the cache",
    "DSPy's client and HTTP",
    "wait for the first token",
    "write the rest",
    "parse the reply",
    "DSPy's modules and callbacks",
)


class LatencyError(CourseError):
    """The time of an answer cannot be told apart."""


@dataclass(frozen=True, slots=True, repr=False)
class Budget:
    """One answer's time; the parts sum to the whole."""

    parts_ms: dict[str, float]
    """In the order in which they begin; DSPy's own rest, the only part that is not measured, comes last."""

    @property
    def total_ms(self) -> float:
        """From the program's beginning to its end."""
        return sum(self.parts_ms.values())

    def __str__(self) -> str:
        lines = [
            f"{name:28}  {ms:>8.2f} ms  {ms / self.total_ms:>6.1%}" for name, ms in self.parts_ms.items()
        ]
        return "\n".join([*lines, f"{'all':28}  {self.total_ms:>8.2f} ms"])

    __repr__ = __str__


def latency_budget(program: dspy.Module, **inputs: Any) -> Budget:
    """Call `program` once, and say where the time went. Measuring adds about half a millisecond.

    While it runs, `dspy.cache` has a stopwatch, for the whole process, and nothing else should use
    the course's endpoint: its ledger knows times, not callers.

    Raises:
        LatencyError: the program has several model calls under way at once, so that its times overlap; or it
            called a model elsewhere, whose own times nobody knows.
    """
    before = lm.ledger().requests
    spans = _Spans()
    with (
        spans.timed_cache(),
        dspy.context(callbacks=[*dspy.settings.callbacks, spans]),
        PerformanceMonitor() as monitor,
    ):
        list(dspy.streamify(_Wrapped(program), async_streaming=False)(**inputs))
    calls = _calls_since(before, monitor.report().calls - monitor.report().cached)
    return Budget(_parts_ms(spans, calls))


class _Wrapped(dspy.Module):
    """Wraps a program's result in a Prediction: a stream that ends with anything else never ends."""

    def __init__(self, program: dspy.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, **inputs: Any) -> dspy.Prediction:
        return dspy.Prediction(result=self.program(**inputs))


def _calls_since(before: int, expected: int) -> Sequence[lm.Call]:
    for _ in range(40):  # a request is entered in the ledger just after its last byte
        ledger = lm.ledger(since=before)
        if ledger.requests >= expected and not ledger.under_way:
            return ledger.calls
        time.sleep(0.005)
    raise LatencyError(
        f"the program made {expected} calls of a model, the course's endpoint saw {ledger.requests}; "
        "measure it on a model of lm.connect()"
    )


def _parts_ms(spans: _Spans, calls: Sequence[lm.Call]) -> dict[str, float]:
    at_model = spans.of("lm")
    if sum(end - begin for begin, end in at_model) * 1000 > _ms(at_model) + 0.1:
        raise LatencyError("several model calls are made at once and overlap; measure one of the steps")
    looking_ms = _ms([span for span in spans.of("cache") if _is_within(span, at_model)])
    # Server and client stop their watches a moment apart; the client's is the one that must add up.
    served_ms = min(sum(call.duration_ms for call in calls), _ms(at_model) - looking_ms)
    first_ms = min(sum(call.ttft_ms for call in calls), served_ms)
    parts = spans.steps_ms() | {
        FORMAT: _ms(spans.of("format")),
        LOOK_UP: looking_ms,
        CLIENT: _ms(at_model) - looking_ms - served_ms,
        FIRST: first_ms,
        WRITING: served_ms - first_ms,
        PARSE: _ms(spans.of("parse")),
    }
    return parts | {REST: _ms(spans.of("module")) - sum(parts.values())}


# -- spans ----------------------------------------------------------------------------------------------

Span = tuple[float, float]
"""Beginning and end, in seconds of the performance counter."""


def _ms(spans: Sequence[Span]) -> float:
    """Return how long at least one of the spans lasts; adapters report a format within a format."""
    covered_s, until_s = 0.0, float("-inf")
    for begin_s, end_s in sorted(spans):
        covered_s += max(0.0, end_s - max(begin_s, until_s))
        until_s = max(until_s, end_s)
    return covered_s * 1000


def _is_within(span: Span, outer: Sequence[Span]) -> bool:
    return any(begin <= span[0] and span[1] <= end for begin, end in outer)


class _Spans(BaseCallback):
    """Notes when what began and ended."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, str, float]] = {}
        self._spans: list[tuple[str, str, Span]] = []

    def of(self, *kinds: str) -> list[Span]:
        """Return the spans of these kinds."""
        return [span for kind, _, span in self._spans if kind in kinds]

    def steps_ms(self) -> dict[str, float]:
        """Return how long the modules and tools took in which no model is called, such as a search."""
        asking = [*self.of("lm", "format", "parse"), min(self.of("module"))]
        steps: dict[str, list[Span]] = {}
        for kind, name, span in sorted(self._spans, key=lambda each: each[2]):
            if kind in {"module", "tool"} and not any(_is_within(each, [span]) for each in asking):
                steps.setdefault(name, []).append(span)
        return {name: _ms(spans) for name, spans in steps.items()}

    def _begin(self, kind: str, *, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        self._open[call_id] = kind, type(instance).__name__, time.perf_counter()

    def _end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        kind, name, begun_s = self._open.pop(call_id)
        self._spans.append((kind, name, (begun_s, time.perf_counter())))

    on_module_start = partialmethod(_begin, "module")
    on_tool_start = partialmethod(_begin, "tool")
    on_lm_start = partialmethod(_begin, "lm")
    on_adapter_format_start = partialmethod(_begin, "format")
    on_adapter_parse_start = partialmethod(_begin, "parse")
    on_module_end = on_tool_end = on_lm_end = on_adapter_format_end = on_adapter_parse_end = _end

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            begun_s = time.perf_counter()
            try:
                return method(*args, **options)
            finally:
                self._spans.append(("cache", "", (begun_s, time.perf_counter())))

        return call

    @contextmanager
    def timed_cache(self) -> Iterator[None]:
        """Put a stopwatch on `get` and `put` of dspy.cache."""
        cache = dspy.cache
        cache.get, cache.put = self._timed(cache.get), self._timed(cache.put)
        try:
            yield
        finally:
            del cache.get, cache.put  # what the class has comes to light again


_COLOURS = ("#3b6ea5", "#d9a441", "#6b9e78", "#b5651d", "#7d7d7d", "#c9ced6", "#8a5a83", "#e5c9a8")
_HATCHES = ("", "//", "", "\\\\", "", "..", "", "xx")


def draw_latency_budget(budgets: Mapping[str, Budget]) -> Any:
    """Return a matplotlib figure: a stacked bar per named budget, one pattern and colour per part."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.3 + 0.55 * len(budgets)), layout="constrained")
    left_ms = np.zeros(len(budgets))
    names = dict.fromkeys(part for budget in budgets.values() for part in budget.parts_ms)
    for name, colour, hatch in zip(names, cycle(_COLOURS), cycle(_HATCHES), strict=False):
        ms = np.array([max(0.0, budget.parts_ms.get(name, 0.0)) for budget in budgets.values()])
        axes.barh([*budgets], ms, left=left_ms, label=name, color=colour, hatch=hatch, edgecolor="white")
        left_ms += ms
    for at, budget in enumerate(budgets.values()):
        whole, end = f"{budget.total_ms:,.0f} ms", (left_ms[at], at)
        axes.annotate(whole, end, xytext=(4, 0), textcoords="offset points", va="center")
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("milliseconds")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure
