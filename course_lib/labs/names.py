"""Names that books use for things DSPy does not have, and the real thing each one is here.

Main path: NAMES is the table, read from static/names.csv; names_table() shows it.
Source: DSPy 3.4.1; a test holds that no `book` path exists in it and that every one of `points` does.
"""

from __future__ import annotations

import csv

from course_lib.labs import chapters
from course_lib.labs.reading import STATIC, Rendered, table

with (STATIC / "names.csv").open(encoding="utf-8", newline="") as _rows:
    NAMES = tuple(csv.DictReader(_rows))
"""For each name: `name` as books write it, `book` where they look for it below the package dspy (empty for a
setting), `here` what it is in this course, `on` what it stands on in words, `points` the same as dotted paths
in DSPy, `notebook` the number of the one that builds it."""


def names_table() -> Rendered:
    """Show the names that books use, and what each is here."""
    return table(
        [
            {
                "name in books": name["name"],
                "what it is here": name["here"],
                "built on": name["on"],
                "notebook": chapters.label(name["notebook"]),
            }
            for name in NAMES
        ],
        caption="None of these names exists in DSPy",
    )
