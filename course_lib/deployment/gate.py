"""The gate: may a candidate take the live version's place? Both versions are scored on the same examples.

Main path: compare(live, candidate) -> Verdict, from the interval of the mean difference that the pairs give.
Source: Gaffke's bounds for a mean of bounded values (N. Gaffke, 2005; Learned-Miller and Thomas, 2019,
arXiv:1905.06208): a Bayesian bootstrap of the differences and of one value more, the worst there could have
been. No shape is assumed and no number of samples is too small. For scores of 0 and 1 and no margin, the
decision is that of the exact sign test. For other shapes the bounds' coverage is a conjecture, which the
tests hold against simulated scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dspy
import numpy as np

from course_lib import desk, lm
from course_lib.deployment.programs import SERVED
from course_lib.deployment.registry import Registry
from course_lib.desk.records import Split
from course_lib.errors import CourseError

_DRAWS, _AT_ONCE = 10_000, 1_000_000
_MOST_CONFIDENCE = 0.999
"""In a tail of this interval there are five of the draws; for a smaller one they are too few."""
_MOST_TIMES = 50
"""So many times the samples are looked ahead; what takes more is not told."""


class GateError(CourseError):
    """These scores cannot be compared."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of a candidate."""

    decision: Literal["promote", "refuse", "undecided"]
    difference: float
    """Of the mean scores, candidate minus live; -1 to 1."""
    low: float
    high: float
    """The ends of its confidence interval."""
    samples: int
    more: int | None
    """So many more samples would decide, if they are like these; None when it is decided, or out of sight."""
    reason: str


def compare(
    live: Sequence[float], candidate: Sequence[float], *, margin: float = 0.0, confidence: float = 0.95
) -> Verdict:
    """Compare the scores of two versions on the same examples, in the same order.

    "promote": the interval lies above -margin. "refuse": it lies below -margin. Else "undecided". A candidate
    that is worse than the live version by `margin` or more (with no margin: one that is equal or worse) is
    promoted in at most (1 - confidence) / 2 of all comparisons, and a better one refused in at most as many.

    Args:
        live: scores of the live version, 0 to 1 each.
        candidate: scores of the candidate.
        margin: how much worse a candidate may be, 0 to 1; 0 asks for one that is better.
        confidence: of the interval, above 0 and at most 0.999.

    Raises:
        GateError: there are no scores, not as many of both, or one is not between 0 and 1; or these are no
            such margin and confidence.
    """
    differences = np.subtract(_checked("candidate", candidate, live), _checked("live", live, candidate))
    if not (0 <= margin < 1 and 0 < confidence <= _MOST_CONFIDENCE):
        told = f"margin is {margin!r} and confidence {confidence!r}"
        raise GateError(f"{told}; a margin is a share below 1, a confidence at most {_MOST_CONFIDENCE}")
    low, high = _interval(differences, confidence)
    mean, samples = float(differences.mean()), len(differences)
    told = f"{mean:+.3f} in {samples} samples, {confidence:.0%} interval {low:+.3f} to {high:+.3f}"
    if low > -margin:
        what = "it is better" if not margin else f"it is not worse by {margin:g}"
        return Verdict("promote", mean, low, high, samples, None, f"{what}: {told}")
    if high < -margin:
        what = "it is worse" if not margin else f"it is worse by more than {margin:g}"
        return Verdict("refuse", mean, low, high, samples, None, f"{what}: {told}")
    gap = mean + margin
    reach = mean - low if gap > 0 else high - mean  # shrinks with the root of the number of samples
    times = (reach / gap) ** 2 if gap else math.inf
    more = math.ceil(samples * (times - 1)) if times < _MOST_TIMES else None
    ahead = f"some {more} more like these would decide" if more else "more like these would hardly decide"
    return Verdict("undecided", mean, low, high, samples, more, f"it may be either: {told}; {ahead}")


def scored(
    program: dspy.Module, examples: Sequence[dspy.Example], metric: Callable[..., Any], *, threads: int = 8
) -> list[float]:
    """Return a program's score for each example, in their order; one that fails scores 0."""
    evaluate = dspy.Evaluate(
        devset=list(examples), metric=metric, num_threads=threads, max_errors=len(examples) + 1
    )
    return [float(score) for *_, score in evaluate(program).results]


def evaluation(program: str, split: Split = "dev") -> tuple[list[dspy.Example], Callable[..., bool]]:
    """Return the desk's tickets as examples for a program of the service, and its metric."""
    rows = desk.examples(split)
    if program == "triage":
        return rows, desk.category_match
    asked = [dspy.Example(question=row.ticket, article=row.article) for row in rows if row.article]
    return [row.with_inputs("question") for row in asked], _cites_article


def check_release(
    registry: Registry, program: str, version: str, *, split: Split = "dev", margin: float = 0.0
) -> Verdict:
    """Let the gate compare a version with the live one; if none is live, with the program as it was written.

    Raises:
        RegistryError: there is no such version, or a file was changed.
    """
    examples, metric = evaluation(program, split)
    live = registry.live(program)
    programs = [
        registry.load(program, live.version) if live else SERVED[program].make(),
        registry.load(program, version),
    ]
    with dspy.context(lm=lm.connect()):
        before, after = [scored(each, examples, metric) for each in programs]
    return compare(before, after, margin=margin)


def _cites_article(example: dspy.Example, said: dspy.Prediction, trace: Any = None) -> bool:  # noqa: ARG001
    return example.article in said.citations


def _checked(name: str, scores: Sequence[float], others: Sequence[float]) -> np.ndarray[Any, Any]:
    values = np.asarray(list(scores), dtype=float)
    if not len(values) or len(values) != len(others):
        raise GateError(
            f"{name} has {len(values)} scores, the other version {len(others)}; "
            "score both on the same examples"
        )
    if not np.all((values >= 0) & (values <= 1)):
        wrong = next(value for value in values.tolist() if not 0 <= value <= 1)
        raise GateError(f"{name} has a score of {wrong!r}; scores are between 0 and 1")
    return values


def _interval(differences: np.ndarray[Any, Any], confidence: float) -> tuple[float, float]:
    """Return the bounds of the mean; the same differences have the same."""
    values, counts = np.unique(differences, return_counts=True)
    random = np.random.default_rng(0)
    total, inside, rows = np.empty(_DRAWS), np.empty(_DRAWS), max(_AT_ONCE // len(values), 1)
    for at in range(0, _DRAWS, rows):  # all at once take 80 kB for each value
        weights = random.standard_gamma(counts, (min(rows, _DRAWS - at), len(values)))
        total[at : at + rows], inside[at : at + rows] = weights.sum(axis=1), weights @ values
    extra = random.standard_exponential(_DRAWS)
    total += extra
    tail = (1 - confidence) / 2
    low, high = np.quantile((inside - extra) / total, tail), np.quantile((inside + extra) / total, 1 - tail)
    return float(low), float(high)
