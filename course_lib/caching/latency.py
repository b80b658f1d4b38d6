"""Where the milliseconds of one answer go, from the question to the parsed prediction.

Main path: latency_budget(desk.Answer(), question=...) -> Budget, whose parts sum to the whole; draw({...}).
Source: spans from dspy.utils.callback.BaseCallback, cache times from a stopwatch around dspy.cache, the
model's own times from the endpoint's ledger; the program runs through dspy.streamify, because only a stream
tells the wait for the first token from the writing of the rest (DSPy 3.4.1).
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from course_lib import lm
from course_lib.errors import CourseError
from course_lib.measure import PerformanceMonitor

_SETTLE_S, _SETTLE_TRIES = 0.005, 40  # a request is entered in the ledger just after its last byte
_SAME_S = 1e-4

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
    total_ms: float
    """From the program's beginning to its end."""
    requests: int
    """Requests at the endpoint: 0 when the answer came from a cache."""
    prediction: Any
    """What the program returned."""

    @property
    def model_share(self) -> float:
        """The share of the time that passed at the model."""
        return (self.parts_ms[FIRST] + self.parts_ms[WRITING]) / self.total_ms

    def __str__(self) -> str:
        width = max(map(len, self.parts_ms))
        lines = [
            f"{name:<{width}}  {ms:>8.2f} ms  {ms / self.total_ms:>6.1%}"
            for name, ms in self.parts_ms.items()
        ]
        return "\n".join([*lines, f"{'all':<{width}}  {self.total_ms:>8.2f} ms"])

    __repr__ = __str__


def latency_budget(program: dspy.Module, **inputs: Any) -> Budget:
    """Ask `program` once, and say where the time went. Measuring adds about half a millisecond.

    While it runs, `dspy.cache` is wrapped in a stopwatch, for the whole process, and nothing else should use
    the course's endpoint: its ledger tells times, not callers.

    Raises:
        LatencyError: the program has several model calls under way at once, so that its times overlap; or it
            called a model elsewhere, whose own times nobody tells us.
    """
    before = lm.ledger().requests
    spans = _Spans()
    with (
        _timed_cache() as cache,
        dspy.context(callbacks=[*dspy.settings.callbacks, spans]),
        PerformanceMonitor() as monitor,
    ):
        answered = list(dspy.streamify(_Asked(program), async_streaming=False)(**inputs))[-1]
    calls = _settled(before, monitor.report().calls - monitor.report().cached)
    return _budget(spans, cache, calls, answered.result)


class _Asked(dspy.Module):
    """Wraps a program's result in a Prediction: a stream that ends with anything else never ends."""

    def __init__(self, program: dspy.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, **inputs: Any) -> dspy.Prediction:
        return dspy.Prediction(result=self.program(**inputs))


def _settled(before: int, expected: int) -> Sequence[lm.Call]:
    for _ in range(_SETTLE_TRIES):
        ledger = lm.ledger(since=before)
        if ledger.requests >= expected and not ledger.under_way:
            return ledger.calls
        time.sleep(_SETTLE_S)
    if ledger.requests < expected:
        raise LatencyError(
            f"the program made {expected} calls of a model, the course's endpoint saw {ledger.requests}; "
            "measure it on a model of lm.connect()"
        )
    return ledger.calls


def _budget(spans: _Spans, cache: _TimedCache, calls: Sequence[lm.Call], answer: Any) -> Budget:
    root = spans.root()
    at_model = spans.of("lm")
    if sum(end - begin for begin, end in at_model) > _length(at_model) + _SAME_S:
        raise LatencyError(
            "the program has several model calls under way at once, so their times overlap; "
            "measure one of its steps instead"
        )
    total_ms = _ms([root])
    looking_ms = _ms(_within(cache.spans, at_model))
    # Server and client stop their watches a moment apart; the client's is the one that must add up.
    first_ms = sum(call.ttft_ms for call in calls)
    served_ms = min(sum(call.duration_ms for call in calls), _ms(at_model) - looking_ms)
    parts = {name: _ms(found) for name, found in spans.steps_without_model().items()}
    parts |= {
        FORMAT: _ms(spans.of("format")),
        LOOK_UP: looking_ms,
        CLIENT: _ms(at_model) - looking_ms - served_ms,
        FIRST: min(first_ms, served_ms),
        WRITING: max(0.0, served_ms - first_ms),
        PARSE: _ms(spans.of("parse")),
    }
    parts[REST] = total_ms - sum(parts.values())
    return Budget(parts, total_ms, len(calls), answer)


Span = tuple[float, float]
"""Beginning and end, in seconds of the performance counter."""


class _Spans(BaseCallback):
    """Notes when what began and ended."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str, str, float]] = {}
        self._spans: list[tuple[str, str, Span]] = []

    def of(self, kind: str) -> list[Span]:
        """Return the spans of a kind, by their beginnings."""
        return sorted(span for of_kind, _, span in self._spans if of_kind == kind)

    def root(self) -> Span:
        """Return the span of the whole program."""
        return max(self.of("module"), key=lambda span: span[1] - span[0])

    def steps_without_model(self) -> dict[str, list[Span]]:
        """Return the outermost modules in which no model is called, such as a search, by class."""
        asking = self.of("lm") + self.of("format") + self.of("parse")
        root, steps = self.root(), dict[str, list[Span]]()
        for kind, name, span in sorted(self._spans, key=lambda each: each[2]):
            if kind in {"module", "tool"} and span != root and not _within(asking, [span]):
                steps.setdefault(name, []).append(span)
        return steps

    def _begin(self, call_id: str, kind: str, instance: Any) -> None:
        self._open[call_id] = kind, type(instance).__name__, time.perf_counter()

    def _end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:  # noqa: ARG002
        kind, name, begun_s = self._open.pop(call_id)
        self._spans.append((kind, name, (begun_s, time.perf_counter())))

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        self._begin(call_id, "module", instance)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        self._begin(call_id, "tool", instance)

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        self._begin(call_id, "lm", instance)

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        self._begin(call_id, "format", instance)

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        self._begin(call_id, "parse", instance)

    on_module_end = on_tool_end = on_lm_end = on_adapter_format_end = on_adapter_parse_end = _end


class _TimedCache:
    """Stands in for dspy.cache, with a stopwatch on `get` and `put`."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self.spans: list[Span] = []

    def get(self, *args: Any, **options: Any) -> Any:
        """Look up, timed."""
        begun_s = time.perf_counter()
        found = self._cache.get(*args, **options)
        self.spans.append((begun_s, time.perf_counter()))
        return found

    def put(self, *args: Any, **options: Any) -> None:
        """Keep, timed."""
        begun_s = time.perf_counter()
        self._cache.put(*args, **options)
        self.spans.append((begun_s, time.perf_counter()))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


@contextmanager
def _timed_cache() -> Iterator[_TimedCache]:
    former = dspy.cache
    dspy.cache = timed = _TimedCache(former)
    try:
        yield timed
    finally:
        dspy.cache = former


def _ms(spans: Sequence[Span]) -> float:
    return _length(spans) * 1000


def _length(spans: Sequence[Span]) -> float:
    """Return how long at least one of the spans lasts; adapters report a format within a format."""
    covered, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        covered += max(0.0, end - max(begin, until))
        until = max(until, end)
    return covered


def _within(spans: Sequence[Span], outer: Sequence[Span]) -> list[Span]:
    return [span for span in spans if any(begin <= span[0] and span[1] <= end for begin, end in outer)]


_LOOKS = (
    ("#3b6ea5", ""),
    ("#d9a441", "//"),
    ("#6b9e78", ""),
    ("#b5651d", "\\\\"),
    ("#7d7d7d", ""),
    ("#c9ced6", ".."),
    ("#8a5a83", ""),
    ("#e5c9a8", "xx"),
)


def draw(budgets: Mapping[str, Budget], *, title: str = "") -> Any:
    """Return a matplotlib figure: a stacked bar per named budget, one pattern and colour per part."""
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(part for budget in budgets.values() for part in budget.parts_ms))
    figure, axes = plt.subplots(figsize=(9, 1.3 + 0.55 * len(budgets)), layout="constrained")
    begun = [0.0] * len(budgets)
    for at, name in enumerate(names):
        widths = [max(0.0, budget.parts_ms.get(name, 0.0)) for budget in budgets.values()]
        colour, hatch = _LOOKS[at % len(_LOOKS)]
        axes.barh(list(budgets), widths, left=begun, color=colour, hatch=hatch, edgecolor="white", label=name)
        begun = [start + width for start, width in zip(begun, widths, strict=True)]
    for at, budget in enumerate(budgets.values()):
        axes.annotate(
            f"{budget.total_ms:,.0f} ms",
            (begun[at], at),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
        )
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set(xlabel="milliseconds", title=title)
    figure.legend(loc="outside lower center", ncols=4, fontsize=8)
    return figure
