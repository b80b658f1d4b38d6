"""Draws the architecture as SVG: where each box stands, what flows where, in the reader's own colours.

Main path: draw() puts frames, arrows and boxes together; PLACES says where everything stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import NamedTuple, Protocol

WIDTH, HEIGHT = 860, 470


class Place(NamedTuple):
    """A rectangle in the drawing, in SVG units."""

    x: int
    y: int
    width: int
    height: int


class Named(Protocol):
    """What the drawing needs to know of a box."""

    @property
    def name(self) -> str:
        """The words in the box."""

    @property
    def group(self) -> str:
        """Key of the frame it stands in, or empty."""


PLACES = {
    "users": Place(10, 125, 90, 64),
    "balancer": Place(130, 125, 118, 64),
    "gateway": Place(280, 25, 160, 264),
    "router": Place(296, 68, 128, 56),
    "auth": Place(296, 140, 128, 56),
    "limiter": Place(296, 212, 128, 56),
    "application": Place(474, 25, 160, 264),
    "modules": Place(490, 90, 128, 64),
    "optimizer": Place(490, 186, 128, 64),
    "services": Place(668, 25, 182, 196),
    "cache": Place(684, 64, 150, 42),
    "queue": Place(684, 116, 150, 42),
    "database": Place(684, 168, 150, 42),
    "model": Place(668, 237, 182, 52),
    "observability": Place(130, 336, 720, 110),
    "metrics": Place(180, 376, 180, 54),
    "traces": Place(400, 376, 180, 54),
    "logs": Place(620, 376, 180, 54),
}
FRAMES = ("gateway", "application", "services", "observability")
"""Boxes that hold others: drawn as a frame, clicked at their title."""

ARROWS = ("M100 157 H128", "M248 157 H278", "M440 157 H472", "M634 122 H666", "M634 263 H666")
WATCHING = ("M189 189 V334", "M360 289 V334", "M554 289 V334", "M759 289 V334")
TITLE = "Architecture of a production DSPy system"
DESCRIPTION = (
    "Users reach a load balancer, then a gateway with router, authentication and rate limiter, then the "
    "application with modules and optimizer. The application uses the services cache, queue and database, "
    "and the language model. Observability, with metrics, traces and logs, watches all of them."
)
_INK = "var(--jp-ui-font-color1, #1f2328)"
_FAINT = "var(--jp-ui-font-color2, #57606a)"
_PAPER = "var(--jp-layout-color1, #ffffff)"
_FRAME = "var(--jp-layout-color2, #f2f4f6)"
_MARK = "var(--jp-brand-color1, #1976d2)"


def _rect(place: Place, *, kind: str, style: str) -> str:
    x, y, width, height = place
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6" style="{style}"/>'


def _words(x: float, y: float, text: str, *, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" style="fill:{_INK};{style}">{escape(text)}</text>'


def _target(key: str) -> Place:
    """Return the part of a box that is clicked: all of it, or the title of a frame."""
    x, y, width, height = PLACES[key]
    return Place(x + 8, y + 4, width - 16, 34) if key in FRAMES else Place(x, y, width, height)


def _shapes(key: str, box: Named, *, is_highlighted: bool) -> str:
    place, is_frame = _target(key), key in FRAMES
    middle_x, middle_y = place.x + place.width / 2, place.y + place.height / 2
    style = "fill:transparent;stroke:none" if is_frame else f"fill:{_PAPER};stroke:{_FAINT}"
    drawn = _rect(place, kind="arch-box", style=style)
    weight = "font-weight:600" if is_frame or is_highlighted else ""
    if not is_highlighted:
        return drawn + _words(middle_x, middle_y + 4.5, box.name, style=weight)
    drawn += _rect(PLACES[key], kind="arch-here", style=f"fill:none;stroke:{_MARK};stroke-width:3")
    drawn += _words(middle_x, middle_y - 3, box.name, style=weight)
    return drawn + _words(middle_x, middle_y + 12, "this notebook", style=f"font-size:11px;{weight}")


def _box(key: str, box: Named, *, is_highlighted: bool) -> str:
    within = f", in {box.group}" if box.group else ""
    here = ", this notebook" if is_highlighted else ""
    label = escape(f"{box.name}{within}{here}: read about it", quote=True)
    return (
        f'<g class="arch-button" data-key="{key}" role="button" tabindex="0" '
        f'aria-expanded="{str(is_highlighted).lower()}" aria-label="{label}">'
        f"{_shapes(key, box, is_highlighted=is_highlighted)}</g>"
    )


def _line(path: str, *, is_dashed: bool) -> str:
    dashes = ";stroke-dasharray:4 4" if is_dashed else ""
    head = f'<path d="{_head(path)}" style="fill:{_FAINT};stroke:none"/>'
    return f'<path d="{path}" style="fill:none;stroke:{_FAINT};stroke-width:1.5{dashes}"/>{head}'


def _head(path: str) -> str:
    """Return the arrow head at the end of a line that runs right or down."""
    x, y, tip = (int(number) for number in re.findall(r"\d+", path))
    if "H" in path:
        return f"M{tip - 7} {y - 4} L{tip} {y} L{tip - 7} {y + 4} Z"
    return f"M{x - 4} {tip - 7} L{x} {tip} L{x + 4} {tip - 7} Z"


def draw(boxes: Mapping[str, Named], *, highlight: str | None = None) -> str:
    """Return the picture as SVG markup, in which each box is a button."""
    frames = "".join(
        _rect(PLACES[key], kind="arch-frame", style=f"fill:{_FRAME};stroke:{_FAINT}") for key in FRAMES
    )
    lines = "".join(_line(path, is_dashed=path in WATCHING) for path in (*ARROWS, *WATCHING))
    drawn = "".join(_box(key, box, is_highlighted=key == highlight) for key, box in boxes.items())
    label = escape(f"{TITLE}. {DESCRIPTION}", quote=True)
    style = f"width:100%;max-width:{WIDTH}px;height:auto;background:{_PAPER}"
    font = "font-family:var(--jp-ui-font-family, system-ui, sans-serif);font-size:13px"
    return (
        f'<svg class="arch-picture" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="group" aria-label="{label}" style="{style};{font}">'
        f'<g aria-hidden="true">{frames}{lines}</g>{drawn}</svg>'
    )
