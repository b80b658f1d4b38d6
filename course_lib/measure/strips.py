"""Lines over time, in strips one above the other, as SVG that can be drawn twice a second.

Main path: drawn(ticks, {"answers per second": ["answered", "503"]}, [Band("redis gone", 3, 5)], label=...).
A line is told apart by its dashes and its name, and what was so for a while by its words; the colours can be
read on white and on black. A figure of matplotlib takes a hundred times as long.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

Tick = Mapping[str, float]
"""Values by name at one moment, "at_s"; those of a strip that are not there are zero, NaN leaves a gap."""
SHOWN_S = 30.0
_WIDTH, _LEFT, _RIGHT, _TOP, _HIGH, _STEP = 780, 48, 768, 44, 74, 124
_LOOKS = (
    ("#3b82c4", "none"),
    ("#8a8f98", "2 4"),
    ("#d1495b", "7 4"),
    ("#b8741a", "9 4 2 4"),
    ("#9467bd", "1 5"),
)
"""Colour and dashes of a strip's lines, in their order."""
_INK = "var(--jp-content-font-color1, #1f2328)"

_SHADE = f"fill:{_INK};fill-opacity:.1;stroke:{_INK};stroke-opacity:.5;stroke-dasharray:3 3"


@dataclass(slots=True)
class Band:
    """Something that was so for a while."""

    name: str
    from_s: float
    until_s: float = math.inf


def drawn(
    ticks: Sequence[Tick],
    strips: Mapping[str, Sequence[str]],
    bands: Sequence[Band],
    *,
    label: str,
    shown_s: float = SHOWN_S,
) -> str:
    """Return the last seconds as SVG; `label` says in words what is seen. "ms" in a title: logarithmic.

    With an infinite `shown_s` it is all that was, and the key has no latest values.
    """
    end = max(ticks[-1]["at_s"], 5.0)
    begin = max(0.0, end - shown_s)
    every_s = 5 if end - begin <= 2 * SHOWN_S else 10
    height = _TOP + _STEP * len(strips)

    def x(second: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * (min(max(second, begin), end) - begin) / (end - begin)

    parts = []
    for number, band in enumerate(each for each in bands if each.until_s > begin):
        left, right = x(band.from_s), x(band.until_s)
        size = f'y="{_TOP - 6}" width="{max(right - left, 2):.1f}" height="{height - _TOP - 12}"'
        parts.append(f'<rect x="{left:.1f}" {size} style="{_SHADE}"/>')
        at, anchor = (right, "end") if left > 0.75 * _WIDTH else (left, "start")
        parts.append(_text(at, 12 + 14 * (number % 2), band.name, anchor, 600))
    shown = [tick for tick in ticks if tick["at_s"] >= begin]
    places = [x(tick["at_s"]) for tick in shown]
    for number, (title, names) in enumerate(strips.items()):
        values = {name: [tick.get(name, 0.0) for tick in shown] for name in names}
        parts += _strip(title, values, places, _TOP + _STEP * number, math.isinf(shown_s))
    for second in range(math.ceil(begin / every_s) * every_s, math.floor(end) + 1, every_s):
        parts.append(_text(x(second), height - 6, f"{second} s", "middle"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(label, quote=True)}" style="width:100%;max-width:{_WIDTH}px;'
        f'font:12px var(--jp-ui-font-family, system-ui, sans-serif)">{"".join(parts)}</svg>'
    )


def _strip(
    title: str, lines: Mapping[str, Sequence[float]], places: Sequence[float], top: int, is_past: bool
) -> list[str]:
    is_log, base = "ms" in title.split(), top + 18 + _HIGH
    title += ", logarithmic" if is_log else ""
    at = _LEFT + 15.0 + 7 * len(title)
    most = _rounded([value for values in lines.values() for value in values])
    axes = (
        f'<path d="M{_RIGHT} {base}H{_LEFT}V{top + 18}" style="fill:none;stroke:{_INK};stroke-opacity:.4"/>'
    )
    parts = [axes, _text(_LEFT, top + 10, title, weight=600)]

    def share(value: float) -> float:
        return math.log(max(value, 1)) / math.log(most) if is_log else value / most

    marks = [10.0**power for power in range(6)] if is_log else [0.0]
    marks = [*(mark for mark in marks if share(mark) < 0.8), most]  # one below the other
    parts += [_text(_LEFT - 6, base + 4 - _HIGH * share(mark), f"{mark:g}", "end") for mark in marks]
    for look, (name, values) in enumerate(lines.items()):
        words = name if is_past or math.isnan(values[-1]) else f"{name} {values[-1]:.0f}"
        parts.append(_path(zip(places, [base - _HIGH * share(value) for value in values], strict=True), look))
        parts.append(_path([(at, top + 6), (at + 26, top + 6)], look) + _text(at + 31, top + 10, words))
        at += 46 + 6.2 * len(words)
    return parts


def _rounded(values: Collection[float]) -> float:
    """Return the upper edge for some values: 1, 2 or 5 with zeros, and not below 2.

    >>> _rounded([0.3, float("nan")]), _rounded([3.0, 41.0])
    (2.0, 50.0)
    """
    most = max([2.0, *(value for value in values if not math.isnan(value))])
    power = 10.0 ** math.floor(math.log10(most))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= most)


def _text(x: float, y: float, words: str, anchor: str = "start", weight: int = 400) -> str:
    style = f"fill:{_INK};font-weight:{weight}"
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" style="{style}">{escape(words)}</text>'


def _path(points: Iterable[tuple[float, float]], look: int) -> str:
    colour, dashes = _LOOKS[min(look, len(_LOOKS) - 1)]
    told, pen = "", "M"
    for x, y in points:
        told, pen = (told, "M") if math.isnan(y) else (f"{told}{pen}{x:.1f} {y:.1f}", "L")
    style = f"fill:none;stroke:{colour};stroke-width:2;stroke-dasharray:{dashes}"
    return f'<path d="{told}" style="{style}"/>'
