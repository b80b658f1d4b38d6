"""Every exercise of the course: what it asks, how long it takes, what checks it.

Main path: get("2.3") -> section "2" is caching -> caching.EXERCISES names the module `redis` -> its EXERCISE.
Only that module is imported; `known()` lists the ids without importing any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from course_lib.errors import CourseError
from course_lib.exercises.engine.stubs import is_stub

Difficulty = Literal["easy", "medium", "hard"]

SECTIONS = {"0": "start", "1": "adapters", "2": "caching"}
"""What an id begins with, and the package of that section's exercises.

The package's EXERCISES maps each id to the name of its module, which holds EXERCISE.
"""


class UnknownExerciseError(CourseError):
    """No exercise has this id."""

    def _render_traceback_(self) -> list[str]:
        """Show the message alone in a notebook: the mistake is in the cell, not in our files."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """One exercise, as its module describes it."""

    id: str
    """Section and number: "2.3"."""
    title: str
    lesson: str
    """The lesson's id, which is also its file name: "02_caching"."""
    minutes: int
    difficulty: Difficulty
    concepts: tuple[str, ...]
    hints: tuple[str, ...]
    """One to three, each saying more than the one before."""
    checks: tuple[Callable[..., object], ...]
    """Plain functions that take the learner's thing; line 1 of the docstring is shown as what was checked."""
    why: str
    """Why our solution is the way it is; shown with it."""
    deadline_s: float = 10.0
    """Time that each check may take."""
    is_stub: Callable[[Any], bool] = is_stub
    """Tells whether one of the things handed to `check` is still as it was given out."""


def check_title(check: Callable[..., object]) -> str:
    """Return what a check looks at: line 1 of its docstring, without the full stop."""
    return (check.__doc__ or check.__name__).strip().splitlines()[0].rstrip(".")


_registered: dict[str, Exercise] = {}


def register(*exercises: Exercise) -> None:
    """Add exercises to the course, in place of any of the same id."""
    _registered.update({exercise.id: exercise for exercise in exercises})


def unregister(exercise_id: str) -> None:
    """Take an exercise out again: for an instructor's trial, and for tests."""
    _registered.pop(exercise_id, None)


def _modules(section: str) -> dict[str, str]:
    """Return the full module name of each exercise of a section, by id; no module is imported."""
    package = f"course_lib.exercises.{SECTIONS[section]}"
    return {key: f"{package}.{module}" for key, module in import_module(package).EXERCISES.items()}


def _order(exercise_id: str) -> tuple[int, int]:
    section, number = exercise_id.split(".")
    return int(section), int(number)


def known() -> list[str]:
    """Return the id of every exercise, in the order of the course."""
    return sorted({*_registered, *(key for section in SECTIONS for key in _modules(section))}, key=_order)


def exercises() -> list[Exercise]:
    """Return every exercise, in the order of the course; imports the modules of all."""
    return [get(exercise_id) for exercise_id in known()]


def get(exercise_id: str) -> Exercise:
    """Return the exercise with this id; imports the module of that exercise and no other.

    Raises:
        UnknownExerciseError: there is none; the message lists those that exist.
    """
    if exercise_id in _registered:
        return _registered[exercise_id]
    section = str(exercise_id).split(".")[0]
    module = _modules(section).get(exercise_id) if section in SECTIONS else None
    if module is None:
        raise UnknownExerciseError(
            f'no exercise {exercise_id!r}; known: {", ".join(known())}. Ids are strings: check("0.1", ...).'
        )
    register(import_module(module).EXERCISE)
    return _registered[exercise_id]
