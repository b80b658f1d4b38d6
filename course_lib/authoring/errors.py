"""What can be wrong with a lesson or with what was built from it.

Main path: AuthoringError <- BrokenLessonError, StrayNotebookError, FailedNotebookError, KernelSetupError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from course_lib.errors import CourseError


class AuthoringError(CourseError):
    """A lesson, or a notebook built from one, needs its author's attention."""


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


class StrayNotebookError(AuthoringError):
    """A notebook stands in notebooks/ or solutions/ that no lesson makes."""


class FailedNotebookError(AuthoringError):
    """A solution notebook does not run to its end."""


class KernelSetupError(AuthoringError):
    """The course's kernel cannot be written where Jupyter looks for it."""
