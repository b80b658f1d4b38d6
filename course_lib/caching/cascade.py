"""A small model first, a large one for what the small one cannot be trusted with: what that would be worth.

Main path: ask_both(small, large, examples, accepts=..., metric=...) -> outcomes; each_alone and cascade_at ->
points, one for each threshold; draw_pareto(points) -> a figure.
Source: the idea is that of FrugalGPT (Chen, Zaharia and Zou 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import dspy
import numpy as np
from dspy.utils.exceptions import AdapterParseError

from course_lib import desk
from course_lib.desk.search import search_articles
from course_lib.measure import PerformanceMonitor

Accepts = Callable[[Mapping[str, Any], dspy.Prediction], float]
"""How far to trust an answer, 0 to 1, from the inputs and the small model's prediction (True counts as 1)."""
Metric = Callable[[dspy.Example, dspy.Prediction], float]


def search_agrees(inputs: Mapping[str, Any], prediction: dspy.Prediction) -> float:
    """Trust a ticket's category by what plain search of the help centre says; no model is called.

    Returns the best score of an article of that category over the best score of any article.
    """
    hits = search_articles(inputs["ticket"])
    categories = {ticket.article: ticket.category for ticket in desk.tickets("train")}
    of_category = [hit.score for hit in hits if categories.get(hit.article.id) == prediction.category]
    return max(of_category) / hits[0].score if of_category else 0.0


class Answer(NamedTuple):
    """What a program made of one example."""

    score: float
    cost_usd: float
    confidence: float
    """How far `accepts` trusts it; 0 when it could not be parsed."""


Outcome = tuple[Answer, Answer]
"""Of the small and of the large program, so that any threshold can be judged without asking again."""


@dataclass(frozen=True, slots=True)
class Point:
    """One way to answer, measured; shares and scores from 0 to 1."""

    name: str
    quality_score: float
    """Mean of the metric."""
    error_score: float
    """Standard error of the quality."""
    cost_usd_per_1000: float
    """For a thousand answers."""
    gain_score: float
    """The quality less that of the large program alone; below 0 it is worse."""
    gain_error_score: float
    """Standard error of the gain: pairs of answers vary less than the two scores do."""
    saved_share: float
    """Share of the large program's cost that it saves."""
    threshold: float | None = None


def ask_both(
    small: dspy.Module,
    large: dspy.Module,
    examples: Iterable[dspy.Example],
    *,
    accepts: Accepts,
    metric: Metric,
) -> list[Outcome]:
    """Call both programs once on every example, one after the other, and score what they answer.

    An answer that cannot be parsed scores 0, is not trusted, and is paid for.
    """

    def judged(program: dspy.Module, example: dspy.Example) -> Answer:
        score, confidence, inputs = 0.0, 0.0, dict(example.inputs())
        with PerformanceMonitor() as monitor, suppress(AdapterParseError):
            prediction = program(**inputs)
            score, confidence = float(metric(example, prediction)), float(accepts(inputs, prediction))
        return Answer(score, monitor.report().usage.cost_usd, confidence)

    return [(judged(small, example), judged(large, example)) for example in examples]


def each_alone(seen: Sequence[Outcome]) -> tuple[Point, Point]:
    """Return the small program alone and the large one alone."""
    small, large = zip(*seen, strict=True)
    return _point("small alone", small, large), _point("large alone", large, large)


def cascade_at(seen: Sequence[Outcome], threshold: float) -> Point:
    """Return what a cascade over these outcomes scores and costs at a threshold."""
    answers = [
        small if small.confidence >= threshold else large._replace(cost_usd=small.cost_usd + large.cost_usd)
        for small, large in seen
    ]
    return _point(f"cascade {threshold:.2g}", answers, [large for _, large in seen], threshold)


def _point(
    name: str, answers: Sequence[Answer], large: Sequence[Answer], threshold: float | None = None
) -> Point:
    """Return the point of some answers, beside those of the large program."""
    scores, costs_usd, _ = np.array(answers).T
    large_scores, large_usd, _ = np.array(large).T
    quality, gain = (
        (x.mean(), np.std(x, ddof=min(1, len(x) - 1)) / len(x) ** 0.5)
        for x in (scores, scores - large_scores)
    )
    saved_share = 1 - costs_usd.mean() / large_usd.mean()
    return Point(name, *quality, 1000 * costs_usd.mean(), *gain, saved_share, threshold)


def pareto(points: Iterable[Point]) -> list[Point]:
    """Return the points that no other beats in both, from the cheapest up."""
    front: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost_usd_per_1000, -point.quality_score)):
        if not front or point.quality_score > front[-1].quality_score:
            front.append(point)
    return front


def draw_pareto(points: Sequence[Point], *, title: str) -> Any:
    """Return a matplotlib figure: quality over cost, with standard errors and the front as a line."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    front = pareto(points)
    axes.plot(*_places(front), color="#d9a441", linewidth=2.5, label="nothing beats these", zorder=1)
    errors = [100 * point.error_score for point in points]
    dots = {"fmt": "o", "color": "#3b6ea5", "ecolor": "#9db7d2", "capsize": 3}
    axes.errorbar(*_places(points), yerr=errors, **dots, zorder=2)
    ordered = sorted(points, key=lambda point: (point.cost_usd_per_1000, point.quality_score))
    places = groupby(ordered, lambda point: (point.cost_usd_per_1000, point.quality_score))
    for at, (_, (point, *same)) in enumerate(places):
        side, va = (1, "bottom") if at % 2 else (-1, "top")  # in turn, so that names do not overlap
        end = point.cost_usd_per_1000, 100 * (point.quality_score + side * point.error_score)
        name = ", ".join([point.name, *(each.name.removeprefix("cascade ") for each in same)])
        where = {"xytext": (0, 4 * side), "textcoords": "offset points", "ha": "center", "va": va}
        axes.annotate(name, end, fontsize=8, **where)
    axes.set(xlabel="dollars per 1,000 answers", ylabel="right answers (%)", title=title)
    axes.margins(x=0.08, y=0.15)
    axes.legend(fontsize=8, loc="lower right")
    return figure


def _places(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [each.cost_usd_per_1000 for each in points], [100 * each.quality_score for each in points]
