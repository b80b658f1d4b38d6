"""Cache explorer: the hit rate that theory predicts, drawn over the one that a real cache tier measures.

Main path: cache_explorer() shows it; explore(...) returns one picture, print() writes it.
Source: caching/che.py predicts; caching/traffic.py measures, on MemoryTier; lm/prices.py has the money.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from html import escape
from math import log10
from typing import Any

import numpy as np

from course_lib.caching import che, traffic
from course_lib.caching.traffic import Traffic
from course_lib.errors import CourseError
from course_lib.labs.reading import Shown, table
from course_lib.lm import prices

SKEWS = (0.6, 0.8, 1.0, 1.2)
ANSWERS = (300, 1000, 4000)
SHARES = (0.03, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Sizes of the cache, as shares of what all answers would take."""
TTLS_S: Mapping[str, float | None] = {
    "10 s": 10.0,
    "1 min": 60.0,
    "10 min": 600.0,
    "1 h": 3600.0,
    "none": None,
}
RATES_PER_S = (1, 10, 100)

MODEL = "sim-large"
PROMPT_TOKENS, COMPLETION_TOKENS = 900, 30
"""Of a call that a hit saves: `Triage` with eight demos."""

_INK = "color:var(--jp-content-font-color1, #1f2328);background:var(--jp-layout-color0, #ffffff)"
_PAPER = "var(--jp-layout-color0, #ffffff)"
_INTRO = (
    "How much of your traffic a cache can answer depends on how alike the questions are, how much room "
    "there is, and how long an answer counts. Choose; the line is predicted, the dots are measured on the "
    "course's memory tier, with 6,000 simulated requests each."
)
_DAY_S = 86_400


class UnknownSettingError(CourseError):
    """The lab does not offer this setting."""


@dataclass(frozen=True, slots=True)
class Point:
    """One size of the cache."""

    share: float
    """Of what all answers would take."""
    cache_bytes: int
    predicted_share: float
    measured_share: float
    saved_usd_per_day: float
    """By the measured hits."""


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

    def __str__(self) -> str:
        return _figures(self).text


@lru_cache(maxsize=64)
def explore(
    skew: float = 0.8,
    answers: int = 1000,
    ttl: str = "10 min",
    rate_per_s: int = 10,
    *,
    requests: int = 6_000,
) -> Explored:
    """Predict and measure the hit rate at each of SHARES.

    Args:
        skew: one of SKEWS, the exponent of Zipf's law.
        answers: one of ANSWERS, how many different ones are asked for.
        ttl: one of TTLS_S.
        rate_per_s: one of RATES_PER_S, requests per second over all answers.
        requests: how many are sent per size of the cache, after a warm-up.

    Raises:
        UnknownSettingError: for a value that is not on its list.
    """
    _check(
        skew=(skew, SKEWS),
        answers=(answers, ANSWERS),
        ttl=(ttl, tuple(TTLS_S)),
        rate=(rate_per_s, RATES_PER_S),
    )
    asked = Traffic(skew, answers, float(rate_per_s), TTLS_S[ttl])
    sizes = traffic.entry_bytes(answers, asked.seed)
    return Explored(
        asked,
        ttl,
        tuple(_point(asked, share, int(share * sizes.sum()), requests) for share in SHARES),
        tuple(che.curve(asked.rates_per_s(), sizes, ttl_s=asked.ttl_s)),
    )


def _point(asked: Traffic, share: float, cache_bytes: int, requests: int) -> Point:
    seen = traffic.measured(asked, cache_bytes, requests=requests)
    return Point(
        share,
        cache_bytes,
        traffic.predicted(asked, cache_bytes).hit_share,
        seen.hit_share,
        seen.hit_share * asked.rate_per_s * _DAY_S * _call_usd(),
    )


def _check(**settings: tuple[Any, Sequence[Any]]) -> None:
    for name, (given, offered) in settings.items():
        if given not in offered:
            raise UnknownSettingError(
                f"no {name} {given!r} in the lab; choose from {', '.join(map(repr, offered))}"
            )


# -- what is shown -------------------------------------------------------------------------------------


def show(explored: Explored, share: float = 0.1) -> Shown:
    """Show the drawing with one size marked, and the figures of all in a table."""
    figures = _figures(explored)
    words = _sentence(explored, explored.at(share))
    html = (
        f'<div style="{_INK};line-height:1.5"><p style="margin:6px 0;max-width:80ch">{escape(words)}</p>'
        f"{_drawing(explored, share)}{figures.html}</div>"
    )
    return Shown(html, f"{words}\n\n{figures.text}")


def _figures(explored: Explored) -> Shown:
    asked = explored.traffic
    rows = [
        {
            "cache": f"{_bytes(point.cache_bytes)} ({point.share:.0%})",
            "predicted": f"{point.predicted_share:.1%}",
            "measured": f"{point.measured_share:.1%}",
            "difference": _points(point.measured_share - point.predicted_share),
            "saved per day": f"${point.saved_usd_per_day:,.0f}",
        }
        for point in explored.points
    ]
    caption = (
        f"Hit rate: skew {asked.skew}, {asked.answers:,} answers, TTL {explored.ttl}, "
        f"{asked.rate_per_s:g} requests/s"
    )
    return table(rows, caption=caption)


def _sentence(explored: Explored, point: Point) -> str:
    spent_usd = explored.traffic.rate_per_s * _DAY_S * _call_usd()
    return (  # in words, because a notebook takes what stands between two dollar signs for mathematics
        f"A cache of {_bytes(point.cache_bytes)} ({point.share:.0%} of all answers) hits "
        f"{point.measured_share:.1%} of the requests (predicted: {point.predicted_share:.1%}) and saves "
        f"{point.saved_usd_per_day:,.0f} of {spent_usd:,.0f} dollars a day, "
        f"at {100 * _call_usd():.3f} cents a call."
    )


def _call_usd() -> float:
    return prices.cost_usd(MODEL, PROMPT_TOKENS, COMPLETION_TOKENS)


def _points(difference_share: float) -> str:
    return f"{round(100 * difference_share, 1) + 0.0:+.1f} points"  # + 0.0: no minus before a zero


def _bytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


_LEFT, _TOP, _WIDTH, _HEIGHT = 56, 36, 560, 240
_FIRST_SHARE = 0.02


def _visible(explored: Explored, first_bytes: float) -> list[tuple[float, float]]:
    """Return the curve from `first_bytes` to the largest cache; it goes on flat once all alive has room."""
    last = explored.points[-1]
    sizes, hits = zip(*explored.line, strict=True)
    inside = [(size, hit) for size, hit in explored.line if first_bytes < size < last.cache_bytes]
    begun = (first_bytes, float(np.interp(first_bytes, sizes, hits)))
    return [begun, *inside, (last.cache_bytes, last.predicted_share)]


def _drawing(explored: Explored, share: float) -> str:
    """Return the chart as SVG, in the colours of the page it stands in."""
    whole = explored.points[-1].cache_bytes

    def x(size: float) -> float:
        return _LEFT + _WIDTH * (1 - log10(whole / size) / log10(1 / _FIRST_SHARE))

    def y(hit_share: float) -> float:
        return _TOP + _HEIGHT * (1 - hit_share)

    text = 'fill="currentColor" font-size="12"'
    parts = [
        f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y(hit):.1f}" y2="{y(hit):.1f}" '
        f'stroke="currentColor" stroke-opacity="0.2"/>'
        f'<text x="{_LEFT - 8}" y="{y(hit) + 4:.1f}" text-anchor="end" {text}>{hit:.0%}</text>'
        for hit in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    marked = explored.at(share)
    at = x(marked.cache_bytes)
    parts.append(
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_TOP + _HEIGHT}" stroke="currentColor" '
        f'stroke-dasharray="4 4" stroke-opacity="0.7"/>'
    )
    line = " ".join(f"{x(size):.1f},{y(hit):.1f}" for size, hit in _visible(explored, _FIRST_SHARE * whole))
    colour = "var(--jp-brand-color1, #1976d2)"
    parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
    for point in explored.points:
        here = point.share == share
        parts.append(
            f'<circle cx="{x(point.cache_bytes):.1f}" cy="{y(point.measured_share):.1f}" '
            f'r="{7 if here else 5}" fill="{"currentColor" if here else _PAPER}" '
            f'stroke="currentColor" stroke-width="2"/>'
            f'<text x="{x(point.cache_bytes):.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle" {text}>'
            f"{_bytes(point.cache_bytes)}</text>"
        )
    dot = 'fill="none" stroke="currentColor" stroke-width="2"'
    parts.append(
        f'<line x1="{_LEFT}" x2="{_LEFT + 26}" y1="12" y2="12" stroke="{colour}" stroke-width="2.5"/>'
        f'<text x="{_LEFT + 34}" y="16" {text}>predicted (Che)</text>'
        f'<circle cx="{_LEFT + 170}" cy="12" r="5" {dot}/>'
        f'<text x="{_LEFT + 182}" y="16" {text}>measured (MemoryTier)</text>'
        f'<text x="{_LEFT + _WIDTH / 2}" y="{_TOP + _HEIGHT + 38}" text-anchor="middle" {text}>'
        f"size of the cache (logarithmic)</text>"
        f'<text x="14" y="{_TOP + _HEIGHT / 2}" text-anchor="middle" {text} '
        f'transform="rotate(-90 14 {_TOP + _HEIGHT / 2})">hit rate</text>'
    )
    label = escape(
        f"Chart: predicted and measured hit rate over the size of the cache. {_sentence(explored, marked)}"
    )
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {_LEFT + _WIDTH + 44} {_TOP + _HEIGHT + 48}" '
        f'style="max-width:46em;width:100%;{_INK}">{"".join(parts)}</svg>'
    )


# -- the widget ----------------------------------------------------------------------------------------


@cache
def _widget_class() -> type[Any]:
    """Return the widget's class, made on first use so that importing this file stays cheap."""
    import ipywidgets as widgets

    def choice(label: str, options: Mapping[str, Any], value: Any) -> Any:
        # Buttons, because JupyterLab takes the arrow keys away from sliders and drop-down lists.
        return widgets.ToggleButtons(
            description=label,
            options=list(options.items()),
            value=value,
            tooltips=[f"{label}: {name}" for name in options],
            style={"description_width": "9em", "button_width": "auto"},
        )

    class CacheExplorer(widgets.VBox):  # type: ignore[misc]
        """The lab in the notebook; `shown` is what it shows now."""

        def __init__(self, skew: float, answers: int, ttl: str, rate_per_s: int, share: float) -> None:
            self.skew = choice("skew of traffic", {str(value): value for value in SKEWS}, skew)
            self.answers = choice("answers", {f"{value:,}": value for value in ANSWERS}, answers)
            self.share = choice("cache size", {f"{value:.0%}": value for value in SHARES}, share)
            self.ttl = choice("time to live", {name: name for name in TTLS_S}, ttl)
            self.rate = choice("requests per s", {str(value): value for value in RATES_PER_S}, rate_per_s)
            self._said, self._out = widgets.HTML(), widgets.HTML()
            controls = [self.skew, self.answers, self.share, self.ttl, self.rate]
            for control in controls:
                control.observe(lambda _: self.draw(), "value")
            intro = widgets.HTML(f'<p style="{_INK};max-width:80ch;line-height:1.5">{escape(_INTRO)}</p>')
            super().__init__([intro, *controls, self._said, self._out])
            self.draw()

        def draw(self) -> None:
            """Predict, measure and show what is chosen now; a traffic seen before is shown at once."""
            self._say("Computing …")
            explored = explore(self.skew.value, self.answers.value, self.ttl.value, self.rate.value)
            self.shown = show(explored, self.share.value)
            self._out.value = self.shown.html
            worst = max(abs(point.measured_share - point.predicted_share) for point in explored.points)
            self._say(f"Done: prediction and measurement differ by {100 * worst:.1f} points at most.")

        def _say(self, words: str) -> None:
            self._said.value = f'<p role="status" aria-live="polite" style="{_INK}">{escape(words)}</p>'

        def _repr_mimebundle_(self, **options: Any) -> Any:
            """Add the drawing and the figures, for viewers that run no widgets."""
            bundle = super()._repr_mimebundle_(**options)
            return {**(bundle or {}), "text/plain": self.shown.text, "text/html": self.shown.html}

    return CacheExplorer


def cache_explorer(
    skew: float = 0.8,
    answers: int = 1000,
    ttl: str = "10 min",
    rate_per_s: int = 10,
    *,
    share: float = 0.1,
) -> Any:
    """Show the lab; choose with the mouse, or with Tab and Enter.

    Raises:
        UnknownSettingError: for a value that the lab does not offer.
    """
    _check(
        skew=(skew, SKEWS),
        answers=(answers, ANSWERS),
        ttl=(ttl, tuple(TTLS_S)),
        rate=(rate_per_s, RATES_PER_S),
        share=(share, SHARES),
    )
    return _widget_class()(skew, answers, ttl, rate_per_s, share)
