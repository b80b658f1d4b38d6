"""Where the milliseconds of one answer go, from the question to the parsed prediction.

Main path: latency_budget(desk.Answer(), question=...) -> the milliseconds of each part;
draw_latency_budget({...}) -> a figure.
Source: spans from dspy.utils.callback.BaseCallback, cache times from a stopwatch around dspy.cache, the
model's own times from the endpoint's ledger; the program runs through dspy.streamify, because only a stream
tells the wait for the first token from the writing of the rest (DSPy 3.4.1).
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partialmethod
from itertools import cycle
from typing import Any, NamedTuple

import dspy
import numpy as np
from dspy.utils.callback import BaseCallback

from course_lib import lm
from course_lib.errors import CourseError
from course_lib.measure import PerformanceMonitor

FORMAT = "format the prompt"
LOOK_UP = "look into the cache"
CLIENT = "DSPy's client and HTTP"
FIRST = "wait for the first token"
WRITING = "write the rest"
PARSE = "parse the reply"
REST = "DSPy's modules and callbacks"


class LatencyError(CourseError):
    """The time of an answer cannot be told apart."""


def latency_budget(program: dspy.Module, **inputs: Any) -> dict[str, float]:
    """Call `program` once, and return the milliseconds of each part, in the order in which they begin.

    They sum to the whole: DSPy's own rest, the only part that is not measured, comes last.

    While it runs, `dspy.cache` has a stopwatch, for the whole process, and nothing else should use
    the course's endpoint: its ledger knows times, not callers.

    Raises:
        LatencyError: the program has several model calls under way at once, so that its times overlap; or it
            called a model elsewhere, whose own times nobody knows.
    """
    before = lm.ledger().requests
    spans = _Spans()
    callbacks, cache = [*dspy.settings.callbacks, spans], dspy.cache
    cache.get, cache.put = spans.stopwatch()(cache.get), spans.stopwatch()(cache.put)
    try:
        with dspy.context(callbacks=callbacks), PerformanceMonitor() as monitor:
            # A stream that ends with anything but a Prediction never ends.
            whole = dspy.streamify(lambda: dspy.Prediction(result=program(**inputs)), async_streaming=False)
            list(whole())
    finally:
        del cache.get, cache.put  # what the class has comes to light again
    calls = _calls_since(before, monitor.report().calls - monitor.report().cached)
    return _parts_ms(spans, calls)


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
    if sum(_ms([span]) for span in at_model) > _ms(at_model) + 0.1:
        raise LatencyError("several model calls are made at once and overlap; measure one of the steps")
    looking_ms = _ms([span for span in spans.of("cache") if span.is_within(at_model)])
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


class Span(NamedTuple):
    """When something began and ended, in seconds of the performance counter."""

    begin_s: float
    end_s: float
    kind: str
    name: str

    def is_within(self, outer: Sequence[Span]) -> bool:
        """Return whether one of the spans holds this one."""
        return any(each.begin_s <= self.begin_s and self.end_s <= each.end_s for each in outer)


def _ms(spans: Sequence[Span]) -> float:
    """Return how long at least one of these ordered spans lasts; adapters report a format within a format."""
    covered_s, until_s = 0.0, float("-inf")
    for span in spans:
        covered_s += max(0.0, span.end_s - max(span.begin_s, until_s))
        until_s = max(until_s, span.end_s)
    return covered_s * 1000


class _Spans(BaseCallback):
    """Notes when what began and ended."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[float, str, str]] = {}
        self._spans: list[Span] = []

    def of(self, *kinds: str) -> list[Span]:
        """Return the spans of these kinds, in the order in which they began."""
        return sorted(span for span in self._spans if span.kind in kinds)

    def steps_ms(self) -> dict[str, float]:
        """Return how long the modules and tools took in which no model is called, such as a search."""
        asking = [*self.of("lm", "format", "parse"), self.of("module")[0]]
        steps: dict[str, list[Span]] = {}
        for span in self.of("module", "tool"):
            if not any(each.is_within([span]) for each in asking):
                steps.setdefault(span.name, []).append(span)
        return {name: _ms(spans) for name, spans in steps.items()}

    def _begin(self, kind: str, *, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        self._open[call_id] = time.perf_counter(), kind, type(instance).__name__

    def _end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        begun_s, kind, name = self._open.pop(call_id)
        self._spans.append(Span(begun_s, time.perf_counter(), kind, name))

    on_module_start = partialmethod(_begin, "module")
    on_tool_start = partialmethod(_begin, "tool")
    on_lm_start = partialmethod(_begin, "lm")
    on_adapter_format_start = partialmethod(_begin, "format")
    on_adapter_parse_start = partialmethod(_begin, "parse")
    on_module_end = on_tool_end = on_lm_end = on_adapter_format_end = on_adapter_parse_end = _end

    @contextmanager
    def stopwatch(self) -> Iterator[None]:
        """Note how long each call of a function that this decorates takes."""
        begun_s = time.perf_counter()
        try:
            yield
        finally:
            self._spans.append(Span(begun_s, time.perf_counter(), "cache", ""))


_COLOURS = ("#3b6ea5", "#b8862b", "#5f9170", "#b5651d", "#7d7d7d", "#8391a8", "#8a5a83", "#a8895e")
"""Neither light nor dark: each stands out from a white page, and inverted from a black one."""
_HATCHES = ("", "//", "", "\\\\", "", "..", "", "xx")


def draw_latency_budget(budgets: Mapping[str, Mapping[str, float]]) -> Any:
    """Return a matplotlib figure: a stacked bar per named budget, one pattern and colour per part."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 1.3 + 0.55 * len(budgets)), layout="constrained")
    left_ms = np.zeros(len(budgets))
    names = dict.fromkeys(part for budget in budgets.values() for part in budget)
    for name, colour, hatch in zip(names, cycle(_COLOURS), cycle(_HATCHES), strict=False):
        ms = np.array([max(0.0, budget.get(name, 0.0)) for budget in budgets.values()])
        looks = {"color": colour, "hatch": hatch, "edgecolor": "white"}
        bars = axes.barh([*budgets], ms, left=left_ms, label=name, **looks)
        left_ms += ms
    axes.bar_label(bars, [f"{whole:,.0f} ms" for whole in left_ms], padding=4)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("milliseconds")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure
