"""A small model first, a large one for what the small one cannot be trusted with; and what that is worth.

Main path: Cascade(small, large, accepts=search_agrees, threshold=0.6)(ticket=...) -> answer, and who gave it.
To choose the threshold: ask_both(small, large, examples, accepts=..., metric=...) -> outcomes; each_alone and
cascade_at -> points; draw_pareto(points) -> a figure.
Source: dspy.Module (DSPy 3.4.1); the idea is that of FrugalGPT (Chen, Zaharia and Zou 2023).
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import dspy
import numpy as np
from dspy.utils.exceptions import AdapterParseError

from course_lib import desk
from course_lib.desk.search import search_articles
from course_lib.measure import PerformanceMonitor

Accepts = Callable[[Mapping[str, Any], dspy.Prediction], float]
"""How far to trust an answer, 0 to 1, from the inputs and the small model's prediction (True counts as 1)."""
Metric = Callable[[dspy.Example, dspy.Prediction], float]


class Cascade(dspy.Module):
    """Ask `small`; keep its answer if `accepts` trusts it enough, else ask `large`.

    Both are programs with a model of their own (`program.set_lm(lm)`; on the cascade itself it would give
    both the same), so that each has the demos that suit it. A reply of the small one that cannot be parsed
    is not trusted; other errors are raised. The prediction also has `answered_by` ("small" or "large") and
    `confidence`. In an event loop, call `dspy.asyncify(cascade)`.
    """

    def __init__(self, small: dspy.Module, large: dspy.Module, *, accepts: Accepts, threshold: float) -> None:
        """Keep the small program's answers whose confidence is at least `threshold`; above 1 keeps none."""
        super().__init__()
        self.small, self.large = small, large
        self.accepts, self.threshold = accepts, threshold

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Answer."""
        prediction, answered_by = _parsed(self.small, inputs), "small"
        confidence = _confidence(self.accepts, inputs, prediction)
        if prediction is None or confidence < self.threshold:
            prediction, answered_by = self.large(**inputs), "large"
        prediction.answered_by, prediction.confidence = answered_by, confidence
        return prediction


def _parsed(program: dspy.Module, inputs: Mapping[str, Any]) -> dspy.Prediction | None:
    """Return a program's prediction, or None if the model's reply could not be parsed."""
    try:
        return program(**inputs)
    except AdapterParseError:
        return None


def _confidence(accepts: Accepts, inputs: Mapping[str, Any], prediction: dspy.Prediction | None) -> float:
    return 0.0 if prediction is None else float(accepts(inputs, prediction))


def search_agrees(inputs: Mapping[str, Any], prediction: dspy.Prediction) -> float:
    """Trust a ticket's category by what plain search of the help centre says; no model is called.

    Returns the best score of an article of that category over the best score of any article.
    """
    hits, known = search_articles(inputs["ticket"]), _categories()
    of_category = [hit.score for hit in hits if known.get(hit.article.id) == prediction.category]
    return max(of_category) / hits[0].score if of_category else 0.0


@cache
def _categories() -> dict[str, str]:
    """Return each article's category, as the train tickets that it answers have it."""
    return {ticket.article: ticket.category for ticket in desk.tickets("train") if ticket.article}


# -- quality against cost -------------------------------------------------------------------------------


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
    """One way to answer, measured; shares and scores from 0 to 1."""

    name: str
    quality_score: float
    """Mean of the metric."""
    cost_usd_per_1000: float
    """For a thousand answers."""
    error_score: float
    """Standard error of the quality."""
    threshold: float | None = None
    kept_share: float = 0.0
    """Answers that were the small program's."""
    gain_score: float = 0.0
    """The quality less that of the large program alone; below 0 it is worse."""
    gain_error_score: float = 0.0
    """Standard error of the gain: pairs of answers vary less than the two scores do."""
    saved_share: float = 0.0
    """Share of the large program's cost that it saves."""


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

    def judged(example: dspy.Example) -> Outcome:
        inputs = dict(example.inputs())
        (first, small_usd), (second, large_usd) = (_paid(program, inputs) for program in (small, large))
        small_score, large_score = (float(metric(example, each)) if each else 0.0 for each in (first, second))
        return Outcome(_confidence(accepts, inputs, first), small_score, large_score, small_usd, large_usd)

    return [judged(example) for example in examples]


def _paid(program: dspy.Module, inputs: Mapping[str, Any]) -> tuple[dspy.Prediction | None, float]:
    """Return the prediction, None if the reply could not be parsed, and what it cost in dollars."""
    with PerformanceMonitor() as monitor:
        prediction = _parsed(program, inputs)
    return prediction, monitor.report().usage.cost_usd


def each_alone(seen: Sequence[Outcome]) -> tuple[Point, Point]:
    """Return the small program alone and the large one alone."""
    large = [(each.large_score, each.large_usd) for each in seen]
    small = [(each.small_score, each.small_usd) for each in seen]
    return _point("small alone", seen, small, kept_share=1.0), _point("large alone", seen, large)


def cascade_at(seen: Sequence[Outcome], threshold: float) -> Point:
    """Return what a cascade over these outcomes scores and costs at a threshold."""
    kept = [each.confidence >= threshold for each in seen]
    answers = [
        (each.small_score, each.small_usd) if is_kept else (each.large_score, each.small_usd + each.large_usd)
        for each, is_kept in zip(seen, kept, strict=True)
    ]
    share = sum(kept) / len(kept)
    return _point(f"cascade {threshold:.2g}", seen, answers, kept_share=share, threshold=threshold)


def _point(name: str, seen: Sequence[Outcome], answers: Sequence[tuple[float, float]], **more: Any) -> Point:
    """Return the point of some answers, each a score and its cost, beside those of the large program."""
    scores, costs_usd = np.array(answers).T
    gains = scores - [each.large_score for each in seen]
    saved_share = 1 - costs_usd.mean() / np.mean([each.large_usd for each in seen])
    gained = {"gain_score": gains.mean(), "gain_error_score": _error(gains), "saved_share": saved_share}
    return Point(name, scores.mean(), 1000 * costs_usd.mean(), _error(scores), **gained, **more)


def _error(scores: Any) -> Any:
    """Return the standard error of a mean."""
    return np.std(scores, ddof=min(1, len(scores) - 1)) / len(scores) ** 0.5


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


def draw_pareto(points: Sequence[Point], *, title: str) -> Any:
    """Return a matplotlib figure: quality over cost, with standard errors and the front as a line."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    front = pareto(points)
    axes.plot(*_places(front), color="#d9a441", linewidth=2.5, label="nothing beats these", zorder=1)
    errors = [100 * point.error_score for point in points]
    axes.errorbar(
        *_places(points), yerr=errors, fmt="o", color="#3b6ea5", ecolor="#9db7d2", capsize=3, zorder=2
    )
    named = [point for point in points if point in front or point.threshold is None]
    for at, (point, x, y) in enumerate(
        sorted(zip(named, *_places(named), strict=True), key=lambda each: each[1])
    ):
        side, va = (1, "bottom") if at % 2 else (-1, "top")  # in turn, so that names do not overlap
        end = (x, y + side * 100 * point.error_score)
        axes.annotate(
            point.name, end, (0, 4 * side), textcoords="offset points", ha="center", va=va, fontsize=8
        )
    axes.set(xlabel="dollars per 1,000 answers", ylabel="right answers (%)", title=title)
    axes.margins(x=0.08, y=0.15)
    axes.legend(fontsize=8, loc="lower right")
    return figure


def _places(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [each.cost_usd_per_1000 for each in points], [100 * each.quality_score for each in points]
