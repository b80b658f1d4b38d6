"""The architecture of a production DSPy system, as a picture whose boxes answer when clicked.

Main path: BOXES is the table, read from static/boxes.toml; picture.py draws it; architecture() shows it with
static/architecture.js.
Source: anywidget 0.11; JupyterLab's --jp-* colours.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any

import anywidget
import traitlets

from course_lib.errors import CourseError
from course_lib.labs import chapters, picture
from course_lib.labs.reading import STATIC, front_end, with_still


class UnknownBoxError(CourseError):
    """The picture has no box of this name."""


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


def facts(box: Box) -> list[tuple[str, str]]:
    """Return what is said about a box, as (heading, sentence), all but where it is built."""
    return [("What it does", box.does), ("The question it answers", box.asks), ("Without it", box.without)]


def as_text(highlight: str | None = None) -> str:
    """Return the architecture as an indented list in plain text."""
    lines = ["Architecture of a production DSPy system"]
    for box in BOXES.values():
        indent = "    " if box.group else "  "
        here = " (this notebook)" if box.key == highlight else ""
        lines.append(f"{indent}- {box.name}{here}: {box.does}")
        lines.append(f"{indent}  Built in notebook {', '.join(map(chapters.label, box.notebooks))}.")
    return "\n".join(lines)


def _entry(box: Box, highlight: str | None) -> str:
    here = " (this notebook)" if box.key == highlight else ""
    sentences = " ".join(f"<em>{heading}:</em> {escape(sentence)}" for heading, sentence in facts(box))
    built = ", ".join(escape(chapters.label(number)) for number in box.notebooks)
    return f"<strong>{escape(box.name)}{here}.</strong> {sentences} <em>Built in notebook:</em> {built}."


def as_list(highlight: str | None = None) -> str:
    """Return the architecture as an HTML list, parts inside their group."""
    items = []
    for box in BOXES.values():
        if box.group:
            continue
        parts = "".join(
            f"<li>{_entry(part, highlight)}</li>" for part in BOXES.values() if part.group == box.key
        )
        items.append(f"<li>{_entry(box, highlight)}{f'<ul>{parts}</ul>' if parts else ''}</li>")
    return f"<ul>{''.join(items)}</ul>"


def _as_values(box: Box) -> dict[str, Any]:
    """Return a box as the front end shows it, with links to the notebooks that lie beside this one."""
    return {
        "name": box.name,
        "facts": facts(box),
        "notebooks": [[chapters.label(number), chapters.link(number) or ""] for number in box.notebooks],
    }


@cache
def _widget_class() -> type[Any]:
    """Return the widget's class, made on first use so that its files are read once."""

    class Architecture(anywidget.AnyWidget):  # type: ignore[misc]
        """The picture in the notebook; `selected` is the key of the open box, or empty."""

        _esm, _css = front_end("architecture")
        drawing = traitlets.Unicode().tag(sync=True)
        listing = traitlets.Unicode().tag(sync=True)
        boxes = traitlets.Dict().tag(sync=True)
        selected = traitlets.Unicode("").tag(sync=True)

        def __init__(self, highlight: str | None) -> None:
            super().__init__(
                drawing=picture.draw(BOXES, highlight=highlight, is_clickable=True),
                listing=as_list(highlight),
                boxes={box.key: _as_values(box) for box in BOXES.values()},
                selected=highlight or "",
            )
            self._highlight = highlight

        def _repr_mimebundle_(self, **options: Any) -> Any:
            """Add a still picture and plain text, for viewers that run no widgets."""
            still = picture.draw(BOXES, highlight=self._highlight, is_clickable=False)
            return with_still(
                super()._repr_mimebundle_(**options),
                text=as_text(self._highlight),
                html=still + as_list(self._highlight),
            )

    return Architecture


def architecture(highlight: str | None = None) -> Any:
    """Show the architecture; click a box, or Tab to it and press Enter, to read about it.

    Args:
        highlight: key of the box that this notebook builds; it is outlined, named and open from the start.

    Raises:
        UnknownBoxError: there is no such box.
    """
    if highlight is not None and highlight not in BOXES:
        raise UnknownBoxError(f"the architecture has no box {highlight!r}; choose one of: {', '.join(BOXES)}")
    return _widget_class()(highlight)
