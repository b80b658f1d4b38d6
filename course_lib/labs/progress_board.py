"""The progress board: every exercise with its state in words, redrawn while the learner works.

Main path: board() shows rows(); every event of this kernel redraws it, Refresh reads those of the others.
Source: anywidget 0.11; JupyterLab's --jp-* colours.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import groupby
from typing import Any

import anywidget
import traitlets

from course_lib.exercises.engine import progress, registry
from course_lib.labs import chapters
from course_lib.labs.reading import front_end, with_still

COLUMNS = ("Exercise", "Title", "Minutes", "Difficulty", "State", "Attempts", "Hints taken")
STATES = {"interrupted": "interrupted: run the check again", "checking now": "being checked"}
"""States that need more words than progress has for them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One exercise on the board."""

    lesson: str
    """Number and title, as prose names it."""
    id: str
    title: str
    minutes: int
    difficulty: str
    state: str
    attempts: int
    hints: str
    """How many of how many."""

    def cells(self) -> tuple[str, ...]:
        """Return what stands in the columns, in their order."""
        return (
            self.id,
            self.title,
            str(self.minutes),
            self.difficulty,
            self.state,
            str(self.attempts),
            self.hints,
        )


def _lesson(name: str) -> str:
    number = name.split("_")[0]
    return chapters.label(number) if number in chapters.CHAPTERS else name


def rows() -> list[Row]:
    """Return the board's rows as the progress file tells them now, in the order of the course."""
    events = progress.read()
    listed = []
    for exercise in registry.exercises():
        now = progress.standing(events, exercise.id)
        listed.append(
            Row(
                _lesson(exercise.lesson), exercise.id, exercise.title, exercise.minutes, exercise.difficulty,
                STATES.get(now.state, now.state), now.attempts, f"{now.hints} of {len(exercise.hints)}",
            )
        )  # fmt: skip
    return listed


def in_words(listed: Sequence[Row]) -> str:
    """Sum the board up in one line, for everyone and for a screen reader first of all."""
    passed = [row for row in listed if row.state == "passed"]
    left_min = sum(row.minutes for row in listed if row.state != "passed")
    parts = [f"{len(passed)} of {len(listed)} exercises passed"]
    parts += [f"about {left_min} minutes of exercises left"] if left_min else []
    parts += [
        f"{row.id} was interrupted (kernel stopped?)" for row in listed if row.state == STATES["interrupted"]
    ]
    return "; ".join(parts) + "."


def as_text(listed: Sequence[Row]) -> str:
    """Return the board as plain text."""
    lines = ["Your exercises"]
    for lesson, group in groupby(listed, key=lambda row: row.lesson):
        lines.append(lesson)
        lines += [
            f"  {row.id} {row.title} ({row.minutes} min, {row.difficulty}): {row.state}; "
            f"attempts {row.attempts}, hints {row.hints}"
            for row in group
        ]
    return "\n".join([*lines, in_words(listed)])


def as_table(listed: Sequence[Row]) -> str:
    """Return the board as an HTML table with a caption and header cells for columns, lessons, exercises."""
    head = "".join(f'<th scope="col">{column}</th>' for column in COLUMNS)
    bodies = []
    for lesson, group in groupby(listed, key=lambda row: row.lesson):
        body = f'<tr><th scope="rowgroup" colspan="{len(COLUMNS)}">{escape(lesson)}</th></tr>'
        for row in group:
            first, *rest = (escape(cell) for cell in row.cells())
            data = "".join(f"<td>{cell}</td>" for cell in rest)
            body += f'<tr data-state="{escape(row.state)}"><th scope="row">{first}</th>{data}</tr>'
        bodies.append(f"<tbody>{body}</tbody>")
    return f"<table><caption>Your exercises</caption><thead><tr>{head}</tr></thead>{''.join(bodies)}</table>"


def _watch(widget: Any) -> None:
    """Redraw a board after each event, for as long as somebody holds it."""
    watched = weakref.ref(widget)

    def redraw() -> None:
        alive = watched()
        if alive is not None:
            alive.redraw()

    weakref.finalize(widget, progress.subscribe(redraw))


@cache
def _widget_class() -> type[Any]:
    """Make the widget when it is first shown: reading its front end from disk is not an import's work."""

    class Board(anywidget.AnyWidget):  # type: ignore[misc]
        """A table and a line that says in words what it adds up to."""

        _esm, _css = front_end("board")
        table = traitlets.Unicode().tag(sync=True)
        status = traitlets.Unicode().tag(sync=True)

        def __init__(self) -> None:
            super().__init__()
            self.on_msg(lambda *_: self.reread())
            _watch(self)
            self.reread()

        def redraw(self) -> None:
            """Show what the progress file holds now."""
            listed = rows()
            with self.hold_sync():
                self.table, self.status = as_table(listed), in_words(listed)

        def reread(self) -> None:
            """Redraw, and say what is wrong with the progress file, if anything is."""
            self.redraw()
            self.status = " ".join([self.status, *progress.notes()])

        def __repr__(self) -> str:
            return as_text(rows())

        def _repr_mimebundle_(self, **options: Any) -> Any:
            self.redraw()
            still = f"{self.table}<p>{escape(self.status)}</p>"
            return with_still(super()._repr_mimebundle_(**options), text=repr(self), html=still)

    return Board


def board() -> Any:
    """Return the progress board: a widget in a notebook, its text elsewhere."""
    return _widget_class()()
