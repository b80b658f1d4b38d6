"""Builds notebooks/ and solutions/ from lessons/, or says which of them are stale.

Main path: build() -> the files written; check() -> the files that differ from their lessons.
All notebooks are made in memory first: a broken lesson changes no file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from course_lib.authoring import freshness
from course_lib.authoring import notebook as notebooks
from course_lib.authoring.lesson import AuthoringError, Lesson
from course_lib.authoring.notebook import Notebook
from course_lib.authoring.reading import read_all
from course_lib.files import write_whole
from course_lib.paths import ROOT


@dataclass(frozen=True, slots=True)
class Built:
    """One notebook as it should be."""

    path: Path
    notebook: Notebook
    digest: str | None
    """For a solution, the digest of the library's code and data that it rests on."""

    @property
    def is_stale(self) -> bool:
        """Whether it is a solution that was never run, or ran on other code than the library's of today."""
        ran_on = self.notebook.metadata.get(notebooks.DIGEST)
        return self.digest is not None and not (
            notebooks.is_executed(self.notebook) and ran_on == self.digest
        )

    @property
    def differs(self) -> bool:
        """Whether the file is missing or has another text, were it only in its line ends."""
        text = notebooks.text_of(self.notebook).encode()
        return not self.path.exists() or self.path.read_bytes() != text


def build(root: Path = ROOT, *, execute: bool = False, fresh: bool = False) -> list[Path]:
    """Build every lesson of `root` and return the files that changed.

    A solution keeps its outputs as long as its code is unchanged, whatever its words. `execute` runs those
    that have no outputs, or were run on other code of the library; with `fresh` all of them.

    Raises:
        BrokenLessonError: a lesson's source is wrong; nothing was written.
        AuthoringError: a solution does not run, or no lesson makes a notebook; nothing was written.
    """
    wanted = plan(root)
    for each in wanted if execute else []:
        if each.is_stale or (fresh and each.digest is not None):
            _execute(each)
    changed = [each for each in wanted if each.differs]
    for each in changed:
        write_whole(each.path, notebooks.text_of(each.notebook))
    return [each.path for each in changed]


def check(root: Path = ROOT) -> list[Path]:
    """Return the notebooks that `build(execute=True)` would change: missing, edited, or run on other code.

    Raises:
        BrokenLessonError: a lesson's source is wrong.
        AuthoringError: a notebook stands where no lesson put it.
    """
    return [each.path for each in plan(root) if each.differs or each.is_stale]


def plan(root: Path = ROOT) -> list[Built]:
    """Return every notebook as it should be; a solution has the outputs that its file still rightly holds."""
    lessons = read_all(root / "lessons")
    digests = freshness.digests(lessons)
    wanted = [built for lesson in lessons for built in _pair(lesson, root, digests[lesson.name])]
    _refuse_strays(root, wanted)
    return wanted


def _pair(lesson: Lesson, root: Path, digest: str) -> list[Built]:
    file = f"{lesson.name}.ipynb"
    solution, solved = root / "solutions" / file, notebooks.solved(lesson)
    before = _read(solution)
    if before is not None and notebooks.code_of(before) == notebooks.code_of(solved):
        notebooks.take_outputs(solved, before)
    return [
        Built(root / "notebooks" / file, notebooks.learner(lesson), digest=None),
        Built(solution, solved, digest),
    ]


def _read(path: Path) -> Notebook | None:
    """Return the notebook in a file, None where there is none or it is damaged."""
    try:
        found: Any = nbformat.reads(path.read_text("utf-8"), as_version=4)
        nbformat.validate(found)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, nbformat.ValidationError):
        return None
    return found


def _execute(built: Built) -> None:
    from course_lib.authoring.execution import execute  # nbclient: only a build that runs needs it

    notebooks.take_outputs(built.notebook, execute(built.notebook, name=built.path.name))
    built.notebook.metadata[notebooks.DIGEST] = built.digest


def _refuse_strays(root: Path, wanted: list[Built]) -> None:
    paths = {each.path for each in wanted}
    found = sorted([*(root / "notebooks").glob("*.ipynb"), *(root / "solutions").glob("*.ipynb")])
    strays = [str(path.relative_to(root)) for path in found if path not in paths]
    if strays:
        raise AuthoringError(
            f"no lesson makes {', '.join(strays)}; keep notebooks of your own in work/, "
            "and delete what a removed lesson left behind"
        )
