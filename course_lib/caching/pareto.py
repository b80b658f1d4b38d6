"""Quality against cost: what a cascade would do at every threshold, and which choices nothing else beats.

Main path: seen = ask_both(small, large, examples, accepts=..., metric=...); each_alone(seen) and
cascade_at(seen, threshold) -> points; draw_pareto(points) -> a figure; cascade_gain(seen, threshold).
Every program is called once per example; a large prompt sent twice would be cheaper the second time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from course_lib.caching.cascade import Accepts
from course_lib.measure import PerformanceMonitor

Metric = Callable[[dspy.Example, dspy.Prediction], float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What both programs made of one example, so that any threshold can be judged without asking again."""

    confidence: float
    """In the small program's answer; 0 when it could not be parsed."""
    small_score: float
    large_score: float
    small_usd: float
    large_usd: float


@dataclass(frozen=True, slots=True)
class Point:
    """One way to answer, measured."""

    name: str
    quality_score: float
    """Mean of the metric, 0 to 1."""
    cost_usd_per_1000: float
    """For a thousand answers."""
    error_score: float
    """Standard error of the quality."""
    kept_share: float = 0.0
    """Answers that were the small program's."""
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Gain:
    """What a cascade changes against the large program alone, on the same examples."""

    quality_score: float
    """Its mean score less that of the large program; below 0 it is worse."""
    error_score: float
    """Standard error of that difference: pairs vary less than the two scores do."""
    saved_share: float
    """Share of the large program's cost that it saves."""


def ask_both(
    small: dspy.Module,
    large: dspy.Module,
    examples: Iterable[dspy.Example],
    *,
    accepts: Accepts,
    metric: Metric,
) -> list[Outcome]:
    """Call both programs on every example, one after the other, and score what they answer.

    An answer that cannot be parsed scores 0, is not trusted, and is paid for.
    """

    def judged(example: dspy.Example) -> Outcome:
        (first, small_usd), (second, large_usd) = (_answer(program, example) for program in (small, large))
        confidence = 0.0 if first is None else float(accepts(dict(example.inputs()), first))
        small_score, large_score = (
            0.0 if answer is None else float(metric(example, answer)) for answer in (first, second)
        )
        return Outcome(confidence, small_score, large_score, small_usd, large_usd)

    return [judged(example) for example in examples]


def _answer(program: dspy.Module, example: dspy.Example) -> tuple[dspy.Prediction | None, float]:
    """Return the prediction, None if the reply could not be parsed, and what it cost in dollars."""
    with PerformanceMonitor() as monitor:
        try:
            prediction: dspy.Prediction | None = program(**example.inputs())
        except AdapterParseError:
            prediction = None
    return prediction, monitor.report().usage.cost_usd


def each_alone(seen: Sequence[Outcome]) -> tuple[Point, Point]:
    """Return the small program alone and the large one alone."""
    return (
        _point("small alone", [(each.small_score, each.small_usd) for each in seen], kept_share=1.0),
        _point("large alone", [(each.large_score, each.large_usd) for each in seen]),
    )


def cascade_at(seen: Sequence[Outcome], threshold: float) -> Point:
    """Return what a cascade over these outcomes scores and costs at a threshold."""
    kept = [each.confidence >= threshold for each in seen]
    answers = [
        (each.small_score, each.small_usd) if keep else (each.large_score, each.small_usd + each.large_usd)
        for each, keep in zip(seen, kept, strict=True)
    ]
    share = sum(kept) / len(kept)
    return _point(f"cascade {threshold:.2g}", answers, kept_share=share, threshold=threshold)


def cascade_gain(seen: Sequence[Outcome], threshold: float) -> Gain:
    """Compare a cascade at `threshold` with the large program, answer by answer."""
    (_, large), cascade = each_alone(seen), cascade_at(seen, threshold)
    changes = [each.small_score - each.large_score if each.confidence >= threshold else 0.0 for each in seen]
    change = _point("change", [(score, 0.0) for score in changes])
    saved_share = 1 - cascade.cost_usd_per_1000 / large.cost_usd_per_1000 if large.cost_usd_per_1000 else 0.0
    return Gain(change.quality_score, change.error_score, saved_share)


def _point(name: str, answers: Sequence[tuple[float, float]], **more: Any) -> Point:
    count = len(answers)
    mean = sum(score for score, _ in answers) / count
    spread = sum((score - mean) ** 2 for score, _ in answers) / max(1, count - 1)
    cost_usd = sum(cost for _, cost in answers) / count * 1000
    return Point(name, mean, cost_usd, math.sqrt(spread / count), **more)


def pareto(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other beats in both, from the cheapest up.

    >>> cheap, good, bad = Point("a", 0.5, 1, 0), Point("b", 0.8, 3, 0), Point("c", 0.7, 4, 0)
    >>> [point.name for point in pareto([bad, good, cheap])]
    ['a', 'b']
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost_usd_per_1000, -point.quality_score)):
        if not front or point.quality_score > front[-1].quality_score:
            front.append(point)
    return front


def draw_pareto(points: Sequence[Point], *, title: str = "") -> Any:
    """Return a matplotlib figure: quality over cost, with standard errors and the front as a line."""
    import matplotlib.pyplot as plt

    def places(some: Sequence[Point]) -> tuple[list[float], list[float]]:
        return [each.cost_usd_per_1000 for each in some], [100 * each.quality_score for each in some]

    front = pareto(points)
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    axes.plot(*places(front), color="#d9a441", linewidth=2.5, label="nothing beats these", zorder=1)
    errors = [100 * point.error_score for point in points]
    axes.errorbar(
        *places(points), yerr=errors, fmt="o", color="#3b6ea5", ecolor="#9db7d2", capsize=3, zorder=2
    )
    named = [point for point in points if point in front or point.threshold is None]
    for at, point in enumerate(sorted(named, key=lambda point: point.cost_usd_per_1000)):
        side, align = (1, "bottom") if at % 2 else (-1, "top")  # in turn, so that names do not overlap
        end = (point.cost_usd_per_1000, 100 * (point.quality_score + side * point.error_score))
        axes.annotate(
            point.name,
            end,
            xytext=(0, 4 * side),
            textcoords="offset points",
            ha="center",
            va=align,
            fontsize=8,
        )
    axes.set(xlabel="dollars per 1,000 answers", ylabel="right answers (%)", title=title)
    axes.margins(x=0.08, y=0.15)
    axes.legend(fontsize=8, loc="lower right")
    return figure
