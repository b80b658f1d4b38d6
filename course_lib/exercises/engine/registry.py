"""Every exercise of the course: what it asks, how long it takes, what checks it.

Main path: a section module (start.py, adapters.py, ...) lists EXERCISES -> get("0.1") finds one.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from course_lib.errors import CourseError
from course_lib.exercises.engine.stubs import is_stub

Difficulty = Literal["easy", "medium", "hard"]

SECTIONS = ("start", "adapters", "caching")
"""Modules of this package that hold an EXERCISES tuple, one per lesson, in the order of the lessons."""


class UnknownExerciseError(CourseError):
    """No exercise has this id."""

    def _render_traceback_(self) -> list[str]:
        """Show the message alone in a notebook: the mistake is in the cell, not in our files."""
        return [f"{type(self).__name__}: {self}"]


class BadExerciseError(CourseError):
    """An exercise is described in a way that cannot work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """One exercise, as its section module describes it."""

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

    def __post_init__(self) -> None:
        for wrong, complaint in (
            (not re.fullmatch(r"\d+\.\d+", self.id), f"id {self.id!r} is not of the form '2.3'"),
            (self.difficulty not in get_args(Difficulty), f"difficulty {self.difficulty!r} is unknown"),
            (not 1 <= len(self.hints) <= 3, f"{len(self.hints)} hints; give one to three"),
            (not self.checks, "no checks"),
            (self.minutes < 1, f"{self.minutes} minutes; an exercise takes at least one"),
            (self.deadline_s <= 0, f"deadline_s {self.deadline_s!r}; each check needs some time"),
            (not all(check.__doc__ for check in self.checks), "a check has no docstring to show on the card"),
        ):
            if wrong:
                raise BadExerciseError(f"exercise {self.id!r}: {complaint}")


def check_title(check: Callable[..., object]) -> str:
    """Return what a check looks at: line 1 of its docstring, without the full stop."""
    return (check.__doc__ or check.__name__).strip().splitlines()[0].rstrip(".")


_registered: dict[str, Exercise] = {}


def register(*exercises: Exercise) -> None:
    """Add exercises to the course.

    Raises:
        BadExerciseError: an id is taken by another exercise.
    """
    for exercise in exercises:
        taken = _registered.setdefault(exercise.id, exercise)
        if taken is not exercise:
            raise BadExerciseError(
                f"exercise {exercise.id!r} ({exercise.title}) has the id of {taken.title!r}"
            )


def unregister(exercise_id: str) -> None:
    """Take an exercise out again: for an instructor's trial, and for tests."""
    _registered.pop(exercise_id, None)


@cache
def _load_sections() -> None:
    for section in SECTIONS:
        register(*importlib.import_module(f"course_lib.exercises.{section}.exercises").EXERCISES)


def _order(exercise: Exercise) -> tuple[int, int]:
    section, number = exercise.id.split(".")
    return int(section), int(number)


def exercises() -> list[Exercise]:
    """Return every exercise, in the order of the course."""
    _load_sections()
    return sorted(_registered.values(), key=_order)


def get(exercise_id: str) -> Exercise:
    """Return the exercise with this id.

    Raises:
        UnknownExerciseError: there is none; the message lists those that exist.
    """
    _load_sections()
    if exercise_id not in _registered:
        known = ", ".join(exercise.id for exercise in exercises())
        raise UnknownExerciseError(
            f'no exercise {exercise_id!r}; known: {known}. Ids are strings: check("0.1", ...).'
        )
    return _registered[exercise_id]
