"""Two drawings of labelled pairs: how near each label's questions are, and what a threshold gives and takes.

Main path: draw_similarities(rows, threshold) and draw_tradeoff(rows, threshold) return a matplotlib figure.
Labels differ in pattern as well as in colour; the figures stand on white, in either theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from course_lib.caching.semantic.calibration import Row, report

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
