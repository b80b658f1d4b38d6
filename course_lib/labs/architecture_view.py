"""The architecture of a production DSPy system, as a picture whose boxes answer when clicked.

Main path: BOXES is the table, read from static/boxes.toml; picture.py draws it; architecture() shows it.
It is HTML with a script of its own and works without a kernel; where no script may run, the list is open.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from course_lib.errors import CourseError
from course_lib.labs import chapters, picture
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


def _boxes() -> Iterator[Box]:
    for key, told in tomllib.loads((STATIC / "boxes.toml").read_text(encoding="utf-8")).items():
        yield Box(**{"key": key, "group": "", **told, "notebooks": tuple(told["notebooks"])})


BOXES = {box.key: box for box in _boxes()}


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
            f"<li>{_entry(box, highlight)}{items(box.key) if box.key in picture.FRAMES else ''}</li>"
            for box in boxes
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
        f"{picture.draw(BOXES, highlight=highlight)}"
        f'<div class="arch-told" aria-live="polite">{told}</div>'
        f"<details open><summary>The same as a list</summary>{_list(highlight)}</details></div>"
        f"<script>{script}</script>"
    )
    lines = [f"{'  ' * bool(box.group)}- {box.name}: {box.does}" for box in BOXES.values()]
    return Rendered(html, "\n".join([f"{picture.TITLE}:", *lines]))
