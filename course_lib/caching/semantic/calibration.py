"""Choosing the threshold of a semantic cache from labelled pairs, and saying how sure one can be of it.

Main path: measured(labelled_pairs("calibrate")) -> rows; calibrate(rows, max_false_share=...) -> Report;
report(rows, threshold); draw_similarities(rows, threshold) and draw_tradeoff(rows, threshold) -> figures.

What is counted is what one cache that holds all the cached questions would answer. Single pairs show less: a
near-miss of one question may be near to a third. A share seen in few cases is not the share; intervals are
Wilson's (1927). A threshold chosen for these pairs looks better on them than it is: report on other pairs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

from course_lib.caching.semantic.guards import refusal
from course_lib.errors import CourseError
from course_lib.lm.encoder import shared

Label = Literal["paraphrase", "near-miss", "unrelated"]
Half = Literal["calibrate", "test"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A question asked, one whose answer is cached, and whether that answer would be right."""

    id: str
    split: Half
    label: Label
    asked: str
    cached: str

    @property
    def is_same(self) -> bool:
        """Whether the cached answer may be served."""
        return self.label == "paraphrase"


def labelled_pairs(split: Half) -> list[Pair]:
    """Return the pairs of one half. No question stands in both halves."""
    lines = (Path(__file__).parent / "data" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for line in lines if (row := json.loads(line))["split"] == split]
    return [Pair(**{name: row[name] for name in Pair.__slots__}) for row in rows]


class CalibrationError(CourseError):
    """No threshold can be chosen from what was given."""


@dataclass(frozen=True, slots=True)
class Row:
    """A pair, how near its questions are, and what one cache that holds all the pairs would serve."""

    pair: Pair
    similarity: float
    nearest_similarity: float
    """Of the one asked to the nearest of all cached questions."""
    refused_by: str
    """Name of the guard that refuses the nearest one, or empty."""
    is_right: bool
    """Whether the nearest one's answer would be right: the two are labelled a paraphrase."""


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
    """What a threshold does to labelled pairs, all of whose cached questions are in one cache."""

    threshold: float
    is_guarded: bool
    hits: Share
    """Paraphrases that get the right answer."""
    false_hits: Share
    """Near-misses that get an answer, given with confidence: the wrong one."""
    precision: float
    """Right answers among all served, 0 to 1; it depends on how many pairs of each label there are."""

    def __str__(self) -> str:
        guards = "with guards" if self.is_guarded else "without guards"
        return (
            f"threshold {self.threshold:.3f}, {guards}\n"
            f"  paraphrases answered rightly: {self.hits}\n"
            f"  near-misses answered:         {self.false_hits}"
        )


def measured(pairs: Sequence[Pair]) -> list[Row]:
    """Return each pair beside what one cache that holds all the cached questions makes of the one asked."""
    cached = sorted({pair.cached for pair in pairs})
    near = shared()([pair.asked for pair in pairs]) @ shared()(cached).T
    right = {(pair.asked, pair.cached) for pair in pairs if pair.is_same}

    rows = []
    for pair, similarities in zip(pairs, near, strict=True):
        nearest = cached[similarities.argmax()]
        refused_by = refused.guard if (refused := refusal(pair.asked, nearest)) else ""
        own, best = float(similarities[cached.index(pair.cached)]), float(similarities.max())
        rows.append(Row(pair, own, best, refused_by, (pair.asked, nearest) in right))
    return rows


def report(rows: Sequence[Row], threshold: float, *, is_guarded: bool = True) -> Report:
    """Count what would be served at this threshold, with guards or without."""
    near = [row for row in rows if row.nearest_similarity >= threshold]
    served = [row for row in near if not (is_guarded and row.refused_by)]

    def share(label: Label, *, is_right: bool) -> Share:
        count = sum(row.pair.label == label and row.is_right == is_right for row in served)
        return Share(count, sum(row.pair.label == label for row in rows))

    hits, false_hits = share("paraphrase", is_right=True), share("near-miss", is_right=False)
    precision = Share(sum(row.is_right for row in served), len(served)).share if served else 1.0
    return Report(threshold, is_guarded, hits, false_hits, precision)


def calibrate(rows: Sequence[Row], *, max_false_share: float) -> Report:
    """Choose the lowest threshold of which one may be sure that, with guards, it serves few near-misses.

    Args:
        rows: of measured(), from the pairs kept for calibrating.
        max_false_share: bound on the share of near-misses served, 0 to 1; held against the upper end of the
            one-sided 95 % interval, not against the share seen.

    Raises:
        CalibrationError: no threshold keeps the bound; the message says what would help.
    """
    near_misses = sum(row.pair.label == "near-miss" for row in rows)
    if not near_misses or not any(row.pair.is_same for row in rows):
        raise CalibrationError("calibrating needs paraphrases and near-misses; one of them is missing")
    for threshold in sorted({math.floor(row.nearest_similarity * 1000) / 1000 for row in rows}):
        found = report(rows, threshold)
        if found.hits.count and found.false_hits.upper_bound() <= max_false_share:
            return found
    raise CalibrationError(
        f"no threshold serves a paraphrase and keeps false hits under {max_false_share:.1%}; and "
        f"with {near_misses} near-misses {Share(0, near_misses).upper_bound():.1%} is the least to be shown. "
        "Add pairs, add guards, or allow more."
    )


# -- drawings: labels differ in pattern as well as in colour ------------------------------------------------

_LOOKS = {"paraphrase": ("#3b6ea5", ""), "near-miss": ("#d9a441", "//"), "unrelated": ("#9a9a9a", "..")}
_BINS = [-0.2 + 0.05 * step for step in range(25)]
_STEPS = [step / 200 for step in range(80, 200)]
_NAMED = (0.6, 0.7, 0.8, 0.9)
"""Thresholds that are written beside the curves."""


def draw_similarities(rows: Sequence[Row], threshold: float) -> Any:
    """Draw a histogram of cosines per label, one above the other, with the threshold as a line."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(3, 1, figsize=(8, 4.2), sharex=True, sharey=True, layout="constrained")
    for axes, (label, (colour, hatch)) in zip(panels, _LOOKS.items(), strict=True):
        near = [row.similarity for row in rows if row.pair.label == label]
        served = sum(one >= threshold for one in near)
        axes.hist(near, bins=_BINS, color=colour, hatch=hatch, edgecolor="white")
        axes.axvline(threshold, color="#222222", linestyle="--", linewidth=1.2)
        axes.set_title(f"{label}: {len(near)} pairs, {served} at or over the line", loc="left", fontsize=9)
        axes.set(ylabel="pairs")
    panels[-1].set(xlabel="cosine of the two questions", xlim=(-0.2, 1.0))
    return figure


def draw_tradeoff(rows: Sequence[Row], threshold: float) -> Any:
    """Draw precision over hits, with and without guards, for every threshold; the chosen one as a ring."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.8), layout="constrained")
    for is_guarded, colour, style, name in (
        (True, "#3b6ea5", "-", "threshold and guards"),
        (False, "#b5651d", "--", "threshold alone"),
    ):
        reports = {
            limit: report(rows, limit, is_guarded=is_guarded) for limit in (*_STEPS, *_NAMED, threshold)
        }
        at = {limit: (100 * each.hits.share, 100 * each.precision) for limit, each in reports.items()}
        curve = [at[limit] for limit in _STEPS if reports[limit].hits.count]
        axes.plot(*zip(*curve, strict=True), color=colour, linestyle=style, linewidth=2, label=name)
        for limit in _NAMED:
            axes.plot(*at[limit], ".", color=colour, markersize=9)
            axes.annotate(f"{limit:g}", at[limit], (4, -11), textcoords="offset points", fontsize=8)
        ring = {"markersize": 12, "markerfacecolor": "none", "markeredgecolor": colour, "markeredgewidth": 2}
        axes.plot(*at[threshold], "o", **ring)
    axes.set(xlabel="paraphrases answered rightly (%)", ylabel="right among all served (%)")
    axes.set(xlim=(0, 102), ylim=(0, 104))
    title = f"numbers: thresholds\nring: threshold {threshold:.3f}"
    axes.legend(fontsize=8, loc="lower right", title=title, title_fontsize=8)
    return figure
