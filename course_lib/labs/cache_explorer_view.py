"""Cache explorer: the hit rate that theory predicts, drawn over the one that a real cache tier measures.

Main path: cache_explorer() shows it; explore(...) returns the figures, show(...) what is seen.
Source: labs/traffic.py predicts, and measures on MemoryTier; lm/prices.py has the money.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from html import escape
from math import inf

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter

from course_lib.labs import traffic
from course_lib.labs.reading import INK, Rendered, plot, table
from course_lib.labs.traffic import Traffic
from course_lib.labs.widget import Lab, choice
from course_lib.lm import prices

SKEWS = (0.6, 0.8, 1.0, 1.2)
ANSWERS = (300, 1000, 4000)
SHARES = (0.03, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Sizes of the cache, as shares of what all answers would take."""
TTLS_S = {"10 s": 10.0, "1 min": 60.0, "10 min": 600.0, "1 h": 3600.0, "none": inf}
RATES_PER_S = (1, 10, 100)

MODEL = "sim-large"
PROMPT_TOKENS, COMPLETION_TOKENS = 900, 30
"""Of a call that a hit saves: `Triage` with eight demos."""
_CALL_USD = prices.cost_usd(MODEL, PROMPT_TOKENS, COMPLETION_TOKENS)
_DAY_S = 86_400
_FIRST_SHARE = 0.02  # where the drawing begins

_INTRO = (
    "How much of your traffic a cache can answer depends on how alike the questions are, how much room "
    "there is, and how long an answer counts. Choose; the line is predicted, the dots are measured on the "
    "course's memory tier, with 6,000 simulated requests each."
)


@dataclass(frozen=True, slots=True)
class Point:
    """One size of the cache."""

    share: float
    """Of what all answers would take."""
    cache_bytes: int
    predicted_share: float
    measured_share: float


@dataclass(frozen=True, slots=True)
class Explored:
    """One traffic on caches of all sizes."""

    traffic: Traffic
    ttl: str
    points: tuple[Point, ...]
    line: tuple[tuple[float, float], ...]
    """(cache bytes, predicted hit share), for the curve."""

    def at(self, share: float) -> Point:
        """Return the point of one size."""
        return next(point for point in self.points if point.share == share)

    def usd_per_day(self, share: float = 1.0) -> float:
        """Return what a share of the requests would cost at the model."""
        return share * self.traffic.rate_per_s * _DAY_S * _CALL_USD


@lru_cache(maxsize=64)
def explore(skew: float = 0.8, answers: int = 1000, ttl: str = "10 min", rate_per_s: int = 10) -> Explored:
    """Predict and measure the hit rate at each of SHARES, under one traffic that the lab offers."""
    chosen = Traffic(skew, answers, float(rate_per_s), TTLS_S[ttl])
    sizes = traffic.entry_bytes(answers)
    points = tuple(_point(chosen, share, int(share * sizes.sum())) for share in SHARES)
    drawn_bytes = np.geomspace(_FIRST_SHARE * sizes.sum(), sizes.sum(), 30).tolist()
    line = tuple((size, traffic.predicted(chosen, size)) for size in drawn_bytes)
    return Explored(chosen, ttl, points, line)


def _point(chosen: Traffic, share: float, cache_bytes: int) -> Point:
    hit_share = traffic.measured(chosen, cache_bytes)
    return Point(share, cache_bytes, traffic.predicted(chosen, cache_bytes), hit_share)


# -- what is shown -------------------------------------------------------------------------------------


def show(explored: Explored, share: float = 0.1) -> Rendered:
    """Show the drawing with one size marked, and the figures of all in a table."""
    figures, summary = _figures(explored), _summary(explored, explored.at(share))
    html = (
        f'<div style="{INK};line-height:1.5"><p style="margin:6px 0;max-width:80ch">{escape(summary)}</p>'
        f"{_drawing(explored, share).html}{figures.html}</div>"
    )
    return Rendered(html, f"{summary}\n\n{figures.text}")


def _figures(explored: Explored) -> Rendered:
    chosen = explored.traffic
    rows = [
        {
            "cache": f"{_bytes(point.cache_bytes)} ({point.share:.0%})",
            "predicted": f"{point.predicted_share:.1%}",
            "measured": f"{point.measured_share:.1%}",
            "difference": f"{100 * (point.measured_share - point.predicted_share):+z.1f} points",
            "saved per day": f"${explored.usd_per_day(point.measured_share):,.0f}",
        }
        for point in explored.points
    ]
    caption = (
        f"Hit rate: skew {chosen.skew}, {chosen.answers:,} answers, TTL {explored.ttl}, "
        f"{chosen.rate_per_s:g} requests/s"
    )
    return table(rows, caption=caption)


def _summary(explored: Explored, point: Point) -> str:
    return (  # in words, because a notebook takes what stands between two dollar signs for mathematics
        f"A cache of {_bytes(point.cache_bytes)} ({point.share:.0%} of all answers) hits "
        f"{point.measured_share:.1%} of the requests (predicted: {point.predicted_share:.1%}) and saves "
        f"{explored.usd_per_day(point.measured_share):,.0f} of {explored.usd_per_day():,.0f} dollars a day, "
        f"at {100 * _CALL_USD:.3f} cents a call."
    )


def _bytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _drawing(explored: Explored, share: float) -> Rendered:
    marked, points = explored.at(share), explored.points
    figure, axes = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
    axes.plot(*zip(*explored.line, strict=True), color="#3b6ea5", linewidth=2, label="predicted (Che)")
    sizes, measured = zip(*[(point.cache_bytes, point.measured_share) for point in points], strict=True)
    dots = {"color": "#222222", "markerfacecolor": "white", "markersize": 7}
    axes.plot(sizes, measured, "o", **dots, label="measured (MemoryTier)")
    axes.plot(marked.cache_bytes, marked.measured_share, "o", color="#222222", markersize=10)
    axes.axvline(marked.cache_bytes, color="#222222", linestyle=":")
    axes.set(xscale="log", xlabel="size of the cache (logarithmic)", ylabel="hit rate", ylim=(0, 1.02))
    axes.set_xticks(sizes, [_bytes(size) for size in sizes], minor=False)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.legend(loc="lower right")
    return plot(
        figure, f"Predicted and measured hit rate over the size of the cache. {_summary(explored, marked)}"
    )


# -- the widget ----------------------------------------------------------------------------------------


class CacheExplorer(Lab):
    """The lab in the notebook."""

    def __init__(self) -> None:
        self.skew, self.answers, self.share, self.ttl, self.rate = controls = [
            choice(label, {name.format(value): value for value in offered}, first, label_width="9em")
            for label, name, offered, first in (
                ("skew of traffic", "{}", SKEWS, 0.8),
                ("answers", "{:,}", ANSWERS, 1000),
                ("cache size", "{:.0%}", SHARES, 0.1),
                ("time to live", "{}", TTLS_S, "10 min"),
                ("requests per s", "{}", RATES_PER_S, 10),
            )
        ]
        for control in controls:
            control.observe(lambda _: self.draw(), "value")
        super().__init__(_INTRO, controls)
        self.draw()

    def draw(self) -> None:
        """Predict, measure and show what is chosen now; a traffic seen before is shown at once."""
        self.say("Computing …")
        explored = explore(self.skew.value, self.answers.value, self.ttl.value, self.rate.value)
        self.show(show(explored, self.share.value))
        worst = max(abs(point.measured_share - point.predicted_share) for point in explored.points)
        self.say(f"Done: prediction and measurement differ by {100 * worst:.1f} points at most.")


def cache_explorer() -> CacheExplorer:
    """Show the lab; choose with the mouse, or with Tab and Enter."""
    return CacheExplorer()
