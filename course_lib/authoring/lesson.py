"""What a lesson is: its cells, each knowing its part in an exercise; and what can be wrong with it.

Main path: reading.read(path) -> Lesson, or a BrokenLessonError that holds every Problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from course_lib.errors import CourseError


class AuthoringError(CourseError):
    """A lesson, a notebook built from one, or the kernel needs its author's attention."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a lesson's source."""

    path: Path
    """The lesson's file."""
    line: int
    """Line in that file, counted from 1."""
    what: str
    """What is wrong, with the value found."""
    remedy: str
    """What to do next."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}. {self.remedy}."


class BrokenLessonError(AuthoringError):
    """A lesson's source breaks the rules; `problems` holds all of them, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, problems)))


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a lesson, as written: with solution regions and all."""

    kind: str
    """`code` or `markdown`."""
    source: str
    """The text below the marker."""
    line: int
    """Line of the cell's marker in the file, counted from 1."""
    id: str
    """The same in both notebooks, whatever is inserted before it."""
    name: str | None = None
    """The id its author gave it."""
    exercise: str | None = None
    """Id of the exercise it belongs to, such as `2.3`."""
    outcome: str | None = None
    """For a wrong answer: what the check must say of it."""
    message: str | None = None
    """For a wrong answer: text, or a regular expression, that the check's message must hold."""
    tags: tuple[str, ...] = ()

    def has(self, tag: str) -> bool:
        """Whether the cell carries this tag."""
        return tag in self.tags


@dataclass(frozen=True, slots=True)
class Lesson:
    """What one file of `lessons/` says."""

    name: str
    """The file's name without its ending, such as `02_caching`."""
    path: Path
    cells: tuple[Cell, ...]

    def exercise_ids(self) -> list[str]:
        """Return the ids of the exercises set here, in order."""
        return list(dict.fromkeys(c.exercise for c in self.cells if c.exercise and c.has("exercise")))

    def cells_of(self, exercise: str, tag: str) -> list[Cell]:
        """Return the cells of one exercise that carry `tag`, in order."""
        return [cell for cell in self.cells if cell.exercise == exercise and cell.has(tag)]
