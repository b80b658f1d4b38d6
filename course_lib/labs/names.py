"""Names that books use for things DSPy does not have, and the real thing each one is here.

Main path: NAMES is the table, read from static/names.csv; names_table() shows it.
Source: DSPy 3.4.1; a test holds that no `book` path exists in it and that every one of `points` does.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from course_lib.labs import chapters
from course_lib.labs.reading import STATIC, Rendered, table


@dataclass(frozen=True, slots=True)
class Name:
    """One name a book uses."""

    name: str
    """As it is written in books."""
    book: str
    """Where books look for it, below the package dspy; empty for a setting."""
    here: str
    """What it is in this course."""
    on: str
    """The extension point it stands on, in words."""
    points: tuple[str, ...]
    """The same as dotted paths that exist in the installed DSPy."""
    notebook: str
    """Number of the notebook that builds it."""


def _names() -> Iterator[Name]:
    with (STATIC / "names.csv").open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            points = tuple(row["points"].split())
            yield Name(row["name"], row["book"], row["here"], row["on"], points, row["notebook"])


NAMES = tuple(_names())


def names_table(notebook: str | None = None) -> Rendered:
    """Show the names books use and what each is here: all, or those that one notebook (`"02"`) builds."""
    return table(
        [
            {
                "name in books": name.name,
                "what it is here": name.here,
                "built on": name.on,
                "notebook": chapters.label(name.notebook),
            }
            for name in NAMES
            if notebook in (None, name.notebook)
        ],
        caption="None of these names exists in DSPy",
    )
