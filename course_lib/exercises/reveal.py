"""hint("0.1") and solution("0.1"): help in steps, and our answer beside the learner's.

Main path: progress says how far the learner is -> the next hint; our solution after a pass or asking twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from course_lib import paths
from course_lib.errors import CourseError
from course_lib.exercises import progress, registry
from course_lib.exercises.cards import Card, say, show_card
from course_lib.exercises.registry import Exercise


class SolutionMissingError(CourseError):
    """The solved notebook that should hold a solution is not there, or does not hold it."""


def hint(exercise_id: str) -> None:
    """Show the next hint of an exercise, and how many there are.

    Raises:
        UnknownExerciseError: there is no exercise of this id.
    """
    exercise = registry.get(exercise_id)
    events = progress.read()
    taken, count = progress.standing(events, exercise_id).hints, len(exercise.hints)
    if taken < count:
        progress.record(exercise_id, "hint", outcome=str(taken + 1))
    shown = exercise.hints[: taken + 1]
    rows = tuple((f"Hint {number} of {count}", text) for number, text in enumerate(shown, start=1))
    if len(shown) == count:
        rows += (("After that", f'This was the last hint. solution("{exercise_id}") shows ours.'),)
    title = f"hint {len(shown)} of {count}" if taken < count else f"no more hints ({count} of {count} taken)"
    show_card(Card(f"{exercise_id} {exercise.title}: {title}", rows))
    say(*progress.notes())


def solution(exercise_id: str) -> None:
    """Show our solution beside the learner's, with the reason: after a pass, or on asking twice.

    Raises:
        UnknownExerciseError: there is no exercise of this id.
    """
    exercise = registry.get(exercise_id)
    events = progress.read()
    now = progress.standing(events, exercise_id)
    if now.state != "passed" and not now.solution_asked:
        progress.record(exercise_id, "solution", outcome="asked")
        say(_not_yet(exercise, now), *progress.notes())
        return
    try:
        ours = solution_source(exercise)
    except SolutionMissingError as error:
        say(f"{exercise_id} solution: {error}", *progress.notes())
        return
    progress.record(exercise_id, "solution", outcome="shown")
    yours = progress.last_source(events, exercise_id) or "(nothing yet: it is kept when you run the check)"
    title = f"{exercise_id} {exercise.title}: solution"
    show_card(Card(title, (("Why", exercise.why),), (("Yours, as last checked", yours), ("Ours", ours))))
    say(*progress.notes())


def _not_yet(exercise: Exercise, now: progress.Standing) -> str:
    left = len(exercise.hints) - now.hints
    hints = f'hint("{exercise.id}") has {left} more for you' if left else "you have taken all its hints"
    return (
        f"{exercise.id} is not passed yet; {hints}. "
        f'To see our solution anyway, ask again: solution("{exercise.id}").'
    )


def _cells(path: Path) -> list[dict[str, Any]]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [cell for cell in cells if isinstance(cell, dict)]
    except FileNotFoundError:
        raise SolutionMissingError(f"{path} is missing; `make build` makes it.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SolutionMissingError(f"{path} cannot be read ({error}); `make build` makes it anew.") from error


def source_text(cell: dict[str, Any]) -> str:
    """Return a cell's source as one string; notebooks may hold it as a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def is_exercise_cell(cell: dict[str, Any], exercise_id: str) -> bool:
    """Say whether a cell is where the learner answers this exercise."""
    metadata = cell.get("metadata", {})
    return metadata.get("exercise") == exercise_id and "exercise" in metadata.get("tags", ())


def solution_source(exercise: Exercise) -> str:
    """Return our solution of an exercise, from the solved notebook.

    Raises:
        SolutionMissingError: the solved notebook is missing, unreadable, or without this exercise.
    """
    path = paths.SOLUTIONS / f"{exercise.lesson}.ipynb"
    found = [source_text(cell) for cell in _cells(path) if is_exercise_cell(cell, exercise.id)]
    if not found:
        raise SolutionMissingError(
            f"{path} holds no cell for exercise {exercise.id}; `make build` makes it anew."
        )
    return "\n\n".join(found)
