"""The architecture of a production DSPy system, as a picture whose boxes answer when clicked.

Main path: BOXES is the table, read from static/boxes.toml; draw() makes the picture, PLACES says where each
box stands; architecture() shows both.
It is HTML with a script of its own and works without a kernel; where no script may run, the list is open.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from course_lib.errors import CourseError
from course_lib.labs import chapters
from course_lib.labs.reading import STATIC, Rendered


@dataclass(frozen=True, slots=True)
class Box:
    """One part of the system, as the picture and the list tell it."""

    key: str
    """What `architecture(highlight=...)` takes."""
    name: str
    group: str
    """Key of the box this one stands in, or empty."""
    does: str
    asks: str
    """The question this part answers."""
    without: str
    """What breaks when it is missing."""
    notebooks: tuple[str, ...]
    """Numbers of the notebooks that build it, first the one that does most."""


BOXES = {
    key: Box(**{"key": key, "group": "", **told, "notebooks": tuple(told["notebooks"])})
    for key, told in tomllib.loads((STATIC / "boxes.toml").read_text(encoding="utf-8")).items()
}


class Place(NamedTuple):
    """A rectangle in the drawing, in SVG units."""

    x: int
    y: int
    width: int
    height: int


WIDTH, HEIGHT = 860, 470
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
_HEAD = (
    '<marker id="arch-head" markerUnits="userSpaceOnUse" markerWidth="7" markerHeight="8" refX="7" refY="4" '
    f'orient="auto"><path d="M0 0 L7 4 L0 8 Z" style="fill:{_FAINT};stroke:none"/></marker>'
)


def _rect(place: Place, *, kind: str, style: str) -> str:
    x, y, width, height = place
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="6" style="{style}"/>'


def _words(x: float, y: float, text: str, *, style: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" style="fill:{_INK};{style}">{escape(text)}</text>'


def _target(key: str) -> Place:
    """Return the part of a box that is clicked: all of it, or the title of a frame."""
    x, y, width, height = PLACES[key]
    return Place(x + 8, y + 4, width - 16, 34) if key in FRAMES else Place(x, y, width, height)


def _shapes(box: Box, *, is_highlighted: bool) -> str:
    place, is_frame = _target(box.key), box.key in FRAMES
    middle_x, middle_y = place.x + place.width / 2, place.y + place.height / 2
    style = "fill:transparent;stroke:none" if is_frame else f"fill:{_PAPER};stroke:{_FAINT}"
    drawn = _rect(place, kind="arch-box", style=style)
    weight = "font-weight:600" if is_frame or is_highlighted else ""
    if not is_highlighted:
        return drawn + _words(middle_x, middle_y + 4.5, box.name, style=weight)
    drawn += _rect(PLACES[box.key], kind="arch-here", style=f"fill:none;stroke:{_MARK};stroke-width:3")
    drawn += _words(middle_x, middle_y - 3, box.name, style=weight)
    return drawn + _words(middle_x, middle_y + 12, "this notebook", style=f"font-size:11px;{weight}")


def _button(box: Box, *, is_highlighted: bool) -> str:
    within = f", in {box.group}" if box.group else ""
    here = ", this notebook" if is_highlighted else ""
    label = escape(f"{box.name}{within}{here}: read about it", quote=True)
    return (
        f'<g class="arch-button" data-key="{box.key}" role="button" tabindex="0" '
        f'aria-expanded="{str(is_highlighted).lower()}" aria-label="{label}">'
        f"{_shapes(box, is_highlighted=is_highlighted)}</g>"
    )


def _line(path: str) -> str:
    dashes = ";stroke-dasharray:4 4" if path in WATCHING else ""
    line = f"fill:none;stroke:{_FAINT};stroke-width:1.5{dashes}"
    return f'<path d="{path}" marker-end="url(#arch-head)" style="{line}"/>'


def draw(highlight: str | None = None) -> str:
    """Return the picture as SVG markup, in which each box is a button."""
    frames = "".join(
        _rect(PLACES[key], kind="arch-frame", style=f"fill:{_FRAME};stroke:{_FAINT}") for key in FRAMES
    )
    lines = "".join(_line(path) for path in (*ARROWS, *WATCHING))
    drawn = "".join(_button(box, is_highlighted=box.key == highlight) for box in BOXES.values())
    label = escape(f"{TITLE}. {DESCRIPTION}", quote=True)
    style = f"width:100%;max-width:{WIDTH}px;height:auto;background:{_PAPER}"
    font = "font-family:var(--jp-ui-font-family, system-ui, sans-serif);font-size:13px"
    return (
        f'<svg class="arch-picture" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'role="group" aria-label="{label}" style="{style};{font}">'
        f'<g aria-hidden="true">{_HEAD}{frames}{lines}</g>{drawn}</svg>'
    )


def _built_in(number: str) -> str:
    label, file = escape(chapters.label(number)), chapters.link(number)
    return f'<a href="{file}">{label}</a>' if file else label


def _entry(box: Box, highlight: str | None) -> str:
    """Return what is said about a box: an item of the list, shown beside the picture when it is chosen."""
    here = " (this notebook)" if box.key == highlight else ""
    parts = {
        "What it does": escape(box.does),
        "The question it answers": escape(box.asks),
        "Without it": escape(box.without),
        "Built in notebook": ", ".join(map(_built_in, box.notebooks)),
    }
    facts = "".join(f"<dt>{heading}</dt><dd>{told}</dd>" for heading, told in parts.items())
    return f'<div data-of="{box.key}"><p><strong>{escape(box.name)}{here}</strong></p><dl>{facts}</dl></div>'


def _list(highlight: str | None) -> str:
    """Return the architecture as an HTML list, parts inside their group."""

    def items(group: str) -> str:
        boxes = [box for box in BOXES.values() if box.group == group]
        listed = "".join(
            f"<li>{_entry(box, highlight)}{items(box.key) if box.key in FRAMES else ''}</li>" for box in boxes
        )
        return f"<ul>{listed}</ul>"

    return items("")


def architecture(highlight: str | None = None) -> Rendered:
    """Show the architecture; click a box, or Tab to it and press Enter, to read about it.

    Args:
        highlight: key of the box that this notebook builds; it is outlined, named and open from the start.

    Raises:
        CourseError: there is no such box.
    """
    if highlight is not None and highlight not in BOXES:
        raise CourseError(f"the architecture has no box {highlight!r}; choose one of: {', '.join(BOXES)}")
    style, script = ((STATIC / f"architecture.{kind}").read_text("utf-8") for kind in ("css", "js"))
    told = _entry(BOXES[highlight], highlight) if highlight else ""
    html = (
        f'<style>{style}</style><div class="arch" data-lm-suppress-shortcuts="true">'
        f"{draw(highlight)}"
        f'<div class="arch-told" aria-live="polite">{told}</div>'
        f"<details open><summary>The same as a list</summary>{_list(highlight)}</details></div>"
        f"<script>{script}</script>"
    )
    lines = [f"{'  ' * bool(box.group)}- {box.name}: {box.does}" for box in BOXES.values()]
    return Rendered(html, "\n".join([f"{TITLE}:", *lines]))
