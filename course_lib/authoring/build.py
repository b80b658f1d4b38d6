"""Builds notebooks/ and solutions/ from lessons/, or says which of them are stale.

Main path: build() -> the files written; check() -> the files that differ from their lessons.
All notebooks are made in memory first: a broken lesson changes no file.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from course_lib.authoring import notebook as notebooks
from course_lib.authoring.errors import StrayNotebookError
from course_lib.authoring.lesson import Lesson
from course_lib.authoring.notebook import Notebook
from course_lib.authoring.reading import read_all
from course_lib.files import write_whole
from course_lib.paths import ROOT


@dataclass(frozen=True, slots=True)
class Built:
    """One notebook as it should be."""

    path: Path
    notebook: Notebook
    is_solution: bool

    @property
    def text(self) -> str:
        """The whole file."""
        return notebooks.text_of(self.notebook)


def registered() -> list[str]:
    """Return the ids of the exercises that course_lib.exercises knows."""
    from course_lib.exercises.engine.registry import exercises

    return [exercise.id for exercise in exercises()]


def build(
    root: Path = ROOT,
    *,
    execute: bool = False,
    fresh: bool = False,
    known: Collection[str] | None = None,
) -> list[Path]:
    """Build every lesson of `root` and return the files that changed.

    A solution keeps its outputs as long as its source part is unchanged; `execute` runs those that have none,
    with `fresh` all of them: for a new DSPy, whose outputs should be read again.

    Raises:
        BrokenLessonError: a lesson's source is wrong; nothing was written.
        FailedNotebookError: a solution does not run; nothing was written.
        StrayNotebookError: a notebook stands where no lesson put it; nothing was written.
    """
    wanted = plan(root, known=known)
    if execute:
        wanted = [
            _executed(each) if _lacks_outputs(each) or (fresh and each.is_solution) else each
            for each in wanted
        ]
    changed = [each for each in wanted if _text_at(each.path) != each.text]
    for each in changed:
        write_whole(each.path, each.text)
    return [each.path for each in changed]


def check(root: Path = ROOT, *, known: Collection[str] | None = None) -> list[Path]:
    """Return the notebooks that `build(execute=True)` would change: stale, missing or not executed.

    Raises:
        BrokenLessonError: a lesson's source is wrong.
        StrayNotebookError: a notebook stands where no lesson put it.
    """
    wanted = plan(root, known=known)
    return [each.path for each in wanted if _text_at(each.path) != each.text or _lacks_outputs(each)]


def plan(root: Path = ROOT, *, known: Collection[str] | None = None) -> list[Built]:
    """Return every notebook as it should be; a solution has the outputs that its file still rightly holds."""
    lessons = read_all(root / "lessons", known=registered() if known is None else known)
    wanted = [built for lesson in lessons for built in _pair(lesson, root)]
    _refuse_strays(root, wanted)
    return wanted


def _pair(lesson: Lesson, root: Path) -> list[Built]:
    file = f"{lesson.name}.ipynb"
    solution = root / "solutions" / file
    return [
        Built(root / "notebooks" / file, notebooks.learner(lesson), is_solution=False),
        Built(solution, _with_outputs(notebooks.solved(lesson), solution), is_solution=True),
    ]


def _with_outputs(new: Notebook, path: Path) -> Notebook:
    """Return the notebook with the outputs of the file at `path`, if that has the same source part."""
    old = _read(path)
    return old if old is not None and notebooks.source_part(old) == notebooks.source_part(new) else new


def _read(path: Path) -> Notebook | None:
    try:
        found: Any = nbformat.reads(path.read_text("utf-8"), as_version=4)
        nbformat.validate(found)
    except (FileNotFoundError, UnicodeDecodeError, json.JSONDecodeError, nbformat.ValidationError):
        return None  # missing or damaged: built anew
    except (AttributeError, KeyError, TypeError, nbformat.reader.NotJSONError):
        return None  # JSON, but no notebook
    return found


def _executed(built: Built) -> Built:
    from course_lib.authoring.execution import execute  # nbclient: only a build that runs needs it

    return Built(built.path, execute(built.notebook, name=built.path.name), is_solution=True)


def _lacks_outputs(built: Built) -> bool:
    return built.is_solution and not notebooks.is_executed(built.notebook)


def _text_at(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8")  # bytes, so that a changed line end is seen
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _refuse_strays(root: Path, wanted: list[Built]) -> None:
    paths = {each.path for each in wanted}
    found = sorted([*(root / "notebooks").glob("*.ipynb"), *(root / "solutions").glob("*.ipynb")])
    strays = [str(path.relative_to(root)) for path in found if path not in paths]
    if strays:
        raise StrayNotebookError(
            f"no lesson makes {', '.join(strays)}; keep notebooks of your own in work/, "
            "and delete what a removed lesson left behind"
        )
