"""Choosing the threshold of a semantic cache from labelled pairs, and saying how sure one can be of it.

Main path: measured(pairs) -> rows; calibrate(rows, max_false_share=...) -> Calibration; report(rows, ...).

A rate seen in few cases is not the rate. Intervals are Clopper and Pearson's (1934): exact, never too short,
computed from the binomial's sum by bisection. Calibrate and report on different pairs: a threshold chosen for
these pairs looks better on them than it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from course_lib.caching.semantic.guards import GUARDS, Guard, refusal
from course_lib.caching.semantic.pairs import LABELS, Label, Pair
from course_lib.errors import CourseError

_HALVINGS = 48


class CalibrationError(CourseError):
    """No threshold can be chosen from what was given."""


@dataclass(frozen=True, slots=True)
class Row:
    """A pair, how near its questions are, and which guard refuses it."""

    pair: Pair
    similarity: float
    refused_by: str
    """Name of the guard, or empty."""
    reason: str


@dataclass(frozen=True, slots=True)
class Share:
    """A share of counted cases with its interval: `count` of `of`."""

    count: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """The share itself, 0 to 1."""
        return self.count / self.of if self.of else 0.0

    def __str__(self) -> str:
        return f"{self.count} of {self.of}: {self.share:.1%} ({self.low:.1%} to {self.high:.1%})"


@dataclass(frozen=True, slots=True)
class Report:
    """What a threshold does to labelled pairs."""

    threshold: float
    is_guarded: bool
    hits: Share
    """Paraphrases that are served."""
    false_hits: Share
    """Near-misses that are served: the wrong answer, given with confidence."""
    unrelated_hits: Share

    @property
    def precision(self) -> float:
        """Right answers among those served, 0 to 1; it depends on how many pairs of each label there are."""
        wrong = self.false_hits.count + self.unrelated_hits.count
        served = self.hits.count + wrong
        return self.hits.count / served if served else 1.0

    def __str__(self) -> str:
        guards = "with guards" if self.is_guarded else "without guards"
        return (
            f"threshold {self.threshold:.3f}, {guards}\n"
            f"  paraphrases served: {self.hits}\n"
            f"  near-misses served: {self.false_hits}\n"
            f"  unrelated served:   {self.unrelated_hits}"
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """The threshold that was chosen, and what it did to the pairs that it was chosen from."""

    threshold: float
    max_false_share: float
    report: Report


def measured(
    pairs: Sequence[Pair],
    embed: Callable[[Sequence[str]], Any] | None = None,
    guards: Sequence[Guard] = GUARDS,
) -> list[Row]:
    """Return similarity and refusal of each pair; `embed` None is MiniLM."""
    from course_lib.caching.semantic.minilm import shared, unit

    vectors = unit((embed or shared())([text for pair in pairs for text in (pair.asked, pair.cached)]))
    near = (vectors[0::2] * vectors[1::2]).sum(axis=1)
    rows = []
    for pair, similarity in zip(pairs, near.tolist(), strict=True):
        refused = refusal(pair.asked, pair.cached, guards=guards)
        guard, reason = (refused.guard, refused.reason) if refused else ("", "")
        rows.append(Row(pair, similarity, guard, reason))
    return rows


def report(rows: Sequence[Row], threshold: float, *, is_guarded: bool = True) -> Report:
    """Count what would be served at this threshold, with 95 % intervals."""
    shares = {label: _served(rows, label, threshold, is_guarded=is_guarded) for label in LABELS}
    return Report(threshold, is_guarded, shares["paraphrase"], shares["near-miss"], shares["unrelated"])


def _served(rows: Sequence[Row], label: Label, threshold: float, *, is_guarded: bool) -> Share:
    of = sum(row.pair.label == label for row in rows)
    count = _count(rows, label, threshold, is_guarded=is_guarded)
    return Share(count, of, *clopper_pearson(count, of))


def _count(rows: Sequence[Row], label: Label, threshold: float, *, is_guarded: bool) -> int:
    return sum(
        row.pair.label == label and row.similarity >= threshold and not (is_guarded and row.refused_by)
        for row in rows
    )


def calibrate(
    rows: Sequence[Row], *, max_false_share: float = 0.05, is_guarded: bool = True, is_sure: bool = True
) -> Calibration:
    """Choose the lowest threshold whose false hits among near-misses stay within the bound.

    Args:
        rows: of measured(), from the pairs kept for calibrating.
        max_false_share: bound on near-misses served, 0 to 1.
        is_guarded: whether the guards are on.
        is_sure: hold the bound against the upper end of the interval (one-sided, 95 %), not the share seen.

    Raises:
        CalibrationError: no threshold keeps the bound; the message says what would help.
    """
    near_misses = sum(row.pair.label == "near-miss" for row in rows)
    if not near_misses or not any(row.pair.is_same for row in rows):
        raise CalibrationError("calibrating needs paraphrases and near-misses; one of them is missing")
    for threshold in sorted({math.floor(row.similarity * 1000) / 1000 for row in rows if row.similarity > 0}):
        hits, false, unrelated = (_count(rows, label, threshold, is_guarded=is_guarded) for label in LABELS)
        share = upper_bound(false, near_misses) if is_sure else false / near_misses
        if hits and not unrelated and share <= max_false_share:
            return Calibration(threshold, max_false_share, report(rows, threshold, is_guarded=is_guarded))
    raise CalibrationError(
        f"no threshold serves a paraphrase and keeps false hits under {max_false_share:.1%}; and "
        f"with {near_misses} near-misses {upper_bound(0, near_misses):.1%} is the least that can be shown. "
        "Add pairs, add guards, or allow more."
    )


# -- intervals ------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _log_ways(count: int, of: int) -> tuple[float, ...]:
    """Return the logarithms of the ways to choose 0, 1, ... `count` of `of`."""
    return tuple(math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) for k in range(count + 1))


def at_most(count: int, of: int, share: float) -> float:
    """Return how likely `count` or fewer of `of` cases are, if each comes with this share."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return 1.0 if count >= of else 0.0
    yes, no = math.log(share), math.log1p(-share)
    ways = enumerate(_log_ways(count, of))
    return min(1.0, math.fsum(math.exp(way + k * yes + (of - k) * no) for k, way in ways))


@lru_cache(maxsize=4096)
def upper_bound(count: int, of: int, *, confidence: float = 0.95) -> float:
    """Return the largest share that `count` of `of` cases do not rule out (one-sided).

    >>> round(upper_bound(0, 60), 3)  # the "rule of three" says 3 / 60
    0.049
    """
    if not of or count >= of:
        return 1.0
    return _bisect(lambda share: at_most(count, of, share) > 1 - confidence)


def clopper_pearson(count: int, of: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a share seen as `count` of `of`.

    >>> [round(end, 3) for end in clopper_pearson(2, 40)]
    [0.006, 0.169]
    """
    one_side = 1 - (1 - confidence) / 2
    low = 1 - upper_bound(of - count, of, confidence=one_side) if count else 0.0
    return low, upper_bound(count, of, confidence=one_side)


def _bisect(is_below: Callable[[float], bool]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return (low + high) / 2
