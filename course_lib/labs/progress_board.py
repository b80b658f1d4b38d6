"""The progress board: every exercise with its state in words, redrawn while the learner works.

Main path: board() shows rows(); every event of this kernel redraws it, in whatever cell it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import display

from course_lib.exercises.engine import progress, registry
from course_lib.labs import chapters
from course_lib.labs.reading import Rendered, paragraph, table

DISPLAY_ID = "course-board"
STATES = {"interrupted": "interrupted: run the check again", "checking now": "being checked"}
"""States that need more words than progress has for them."""


def _notebook(name: str) -> str:
    number = name.split("_")[0]
    return chapters.label(number) if number in chapters.CHAPTERS else name


def rows() -> list[dict[str, Any]]:
    """Return the board's rows as the progress file tells them now, in the order of the course."""
    events = progress.read()
    return [_row(exercise, progress.standing(events, exercise.id)) for exercise in registry.exercises()]


def _row(exercise: registry.Exercise, now: progress.Standing) -> dict[str, Any]:
    return {
        "id": exercise.id,
        "title": exercise.title,
        "notebook": _notebook(exercise.lesson),
        "minutes": exercise.minutes,
        "difficulty": exercise.difficulty,
        "state": STATES.get(now.state, now.state),
        "attempts": now.attempts,
        "hints": f"{now.hints} of {len(exercise.hints)}",
    }


def in_words(listed: Sequence[Mapping[str, Any]]) -> str:
    """Sum the board up in one line."""
    left_min = sum(row["minutes"] for row in listed if row["state"] != "passed")
    parts = [f"{sum(row['state'] == 'passed' for row in listed)} of {len(listed)} exercises passed"]
    parts += [f"about {left_min} minutes of exercises left"] if left_min else []
    interrupted = [row["id"] for row in listed if row["state"] == STATES["interrupted"]]
    parts += [f"{each} was interrupted (kernel stopped?)" for each in interrupted]
    return "; ".join(parts) + "."


def rendered(*, is_new: bool = False) -> Rendered:
    """Return the board as it is now; a new one says also what is wrong with the progress file."""
    listed = rows()
    words = " ".join([in_words(listed), *(progress.notes() if is_new else ())])
    shown = table(listed, caption="Your exercises")
    return Rendered(f"{shown.html}{paragraph(words)}", f"{shown.text}\n{words}")


@cache
def _follow() -> None:
    """Redraw all boards of this kernel after each event; once is enough."""
    progress.subscribe(lambda: display(rendered(), display_id=DISPLAY_ID, update=True))


def board() -> Rendered | None:
    """Show every exercise with its state; in a notebook it follows the checks, elsewhere it is a text."""
    shown = rendered(is_new=True)
    if get_ipython() is None:
        return shown
    _follow()
    display(shown, display_id=DISPLAY_ID)
    return None
