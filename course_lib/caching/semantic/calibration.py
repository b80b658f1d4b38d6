"""Choosing the threshold of a semantic cache from labelled pairs, and saying how sure one can be of it.

Main path: measured(pairs) -> rows; calibrate(rows, max_false_share=...) -> Report; report(rows, threshold).

A share seen in few cases is not the share. Intervals are Wilson's (1927). Calibrate and report on different
pairs: a threshold chosen for these pairs looks better on them than it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from course_lib.caching.semantic.guards import refusal
from course_lib.caching.semantic.minilm import shared
from course_lib.caching.semantic.pairs import LABELS, Label, Pair
from course_lib.errors import CourseError


class CalibrationError(CourseError):
    """No threshold can be chosen from what was given."""


@dataclass(frozen=True, slots=True)
class Row:
    """A pair, how near its questions are, and which guard refuses it."""

    pair: Pair
    similarity: float
    refused_by: str
    """Name of the guard, or empty."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of counted cases: `count` of `of`."""

    count: int
    of: int

    @property
    def share(self) -> float:
        """The share itself, 0 to 1."""
        return self.count / self.of if self.of else 0.0

    def interval(self, *, confidence: float = 0.95) -> tuple[float, float]:
        """Return Wilson's two-sided interval of the true share; without any case, 0 to 1.

        >>> [round(end, 3) for end in Share(2, 40).interval()]
        [0.014, 0.165]
        """
        if not self.of:
            return 0.0, 1.0
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        share, extra = self.share, z * z / self.of
        middle = share + extra / 2
        half_width = math.sqrt(share * (1 - share) * extra + extra * extra / 4)
        return (middle - half_width) / (1 + extra), (middle + half_width) / (1 + extra)

    def upper_bound(self) -> float:
        """Return what the true share is under with 95 % confidence: the end of a one-sided interval."""
        return self.interval(confidence=0.9)[1]

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.count} of {self.of}: {self.share:.1%} ({low:.1%} to {high:.1%})"


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
        served = self.hits.count + self.false_hits.count + self.unrelated_hits.count
        return self.hits.count / served if served else 1.0

    def __str__(self) -> str:
        guards = "with guards" if self.is_guarded else "without guards"
        return (
            f"threshold {self.threshold:.3f}, {guards}\n"
            f"  paraphrases served: {self.hits}\n"
            f"  near-misses served: {self.false_hits}\n"
            f"  unrelated served:   {self.unrelated_hits}"
        )


def measured(pairs: Sequence[Pair]) -> list[Row]:
    """Return each pair with the cosine of its questions and the guard that refuses it."""
    vectors = shared()([text for pair in pairs for text in (pair.asked, pair.cached)])
    near = (vectors[0::2] * vectors[1::2]).sum(axis=1)
    refusals = [refusal(pair.asked, pair.cached) for pair in pairs]
    return [
        Row(pair, similarity, refused.guard if refused else "")
        for pair, similarity, refused in zip(pairs, near.tolist(), refusals, strict=True)
    ]


def report(rows: Sequence[Row], threshold: float, *, is_guarded: bool = True) -> Report:
    """Count what would be served at this threshold, with guards or without."""

    def served(label: Label) -> Share:
        own = [row for row in rows if row.pair.label == label]
        count = sum(row.similarity >= threshold and not (is_guarded and row.refused_by) for row in own)
        return Share(count, len(own))

    return Report(threshold, is_guarded, *map(served, LABELS))


def calibrate(rows: Sequence[Row], *, max_false_share: float) -> Report:
    """Choose the lowest threshold of which one may be sure that, with guards, it serves few near-misses.

    Args:
        rows: of measured(), from the pairs kept for calibrating.
        max_false_share: bound on the share of near-misses served, 0 to 1; held against the upper end of the
            one-sided 95 % interval, not against the share seen.

    Returns:
        The threshold, and what it does to these rows.

    Raises:
        CalibrationError: no threshold keeps the bound; the message says what would help.
    """
    near_misses = sum(row.pair.label == "near-miss" for row in rows)
    if not near_misses or not any(row.pair.is_same for row in rows):
        raise CalibrationError("calibrating needs paraphrases and near-misses; one of them is missing")
    for threshold in sorted({math.floor(row.similarity * 1000) / 1000 for row in rows if row.similarity > 0}):
        found = report(rows, threshold)
        is_bound_kept = found.false_hits.upper_bound() <= max_false_share
        if found.hits.count and not found.unrelated_hits.count and is_bound_kept:
            return found
    raise CalibrationError(
        f"no threshold serves a paraphrase and keeps false hits under {max_false_share:.1%}; and "
        f"with {near_misses} near-misses {Share(0, near_misses).upper_bound():.1%} is the least to be shown. "
        "Add pairs, add guards, or allow more."
    )
