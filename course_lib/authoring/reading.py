"""Reads a lesson: one py:percent script from which the learner's and the solved notebook are built.

Main path: read(path) -> Lesson; read_all(folder) -> every lesson, or the problems of all broken ones.
Source: jupytext 1.19 splits the script; it makes random cell ids, so ids are given here.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from course_lib.authoring.lesson import BrokenLessonError, Cell, Lesson, Problem
from course_lib.authoring.rules import PARTS, problems_of
from course_lib.paths import ROOT

FORMAT = {"extension": ".py", "format_name": "percent", "comment_magics": False}
"""A comment such as `# %d items` stays one; a magic is written as in a notebook."""
MARKER = re.compile(r"^# ?%%(\s|$)")
KEYS = ("name", "exercise", "outcome", "message")
MARKER_LINE = re.compile(
    rf"# %%( \[markdown\])?( ({'|'.join(KEYS)})=\"[^\"\\]*\"| tags=\[(\"[\w-]+\"(, ?(?=\"))?)*\])*\s*"
)
"""No backslash: where a warning is an error, as in pytest, jupytext may drop all that such a line says."""
MARKER_REMEDY = (
    f"""Write '# %%' or '# %% [markdown]', then any of {'="...", '.join(KEYS)}="...", tags=["...", "..."], """
    "without a backslash"
)


def read(path: Path) -> Lesson:
    """Read one lesson.

    Raises:
        BrokenLessonError: with every problem found, each with its line and remedy.
    """
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    cells = tuple(_cells(path, shown))
    problems = problems_of(cells, shown)
    if problems:
        raise BrokenLessonError(sorted(problems, key=lambda problem: problem.line))
    return Lesson(path.stem, path, cells)


def read_all(folder: Path) -> list[Lesson]:
    """Read every lesson of a folder, by name; raise the problems of all broken ones together."""
    lessons: list[Lesson] = []
    problems: list[Problem] = []
    for path in sorted(folder.glob("*.py")):
        try:
            lessons.append(read(path))
        except BrokenLessonError as error:
            problems += error.problems
    owners: dict[str, Lesson] = {}
    for lesson in lessons:
        for exercise in lesson.exercise_ids():
            first = owners.setdefault(exercise, lesson)
            if first is not lesson:
                cell = lesson.cells_of(exercise, "exercise")[0]
                what = f"exercise {exercise} is already set in {first.path.name}"
                problems.append(Problem(lesson.path, cell.line, what, "Give one of the two another id"))
    if problems:
        raise BrokenLessonError(problems)
    return lessons


def _cells(path: Path, shown: Path) -> Iterator[Cell]:
    import jupytext  # half a second: only a build pays it

    text = path.read_text("utf-8")
    marks = [(number, line) for number, line in enumerate(text.split("\n"), 1) if MARKER.match(line)]
    bad = [
        Problem(shown, number, f"the cell's line reads {line!r}", MARKER_REMEDY)
        for number, line in marks
        if not MARKER_LINE.fullmatch(line)
    ]
    if bad:
        raise BrokenLessonError(bad)
    raw = jupytext.reads(text, fmt=FORMAT).cells
    if len(marks) != len(raw):
        what = f"{len(marks)} lines start a cell with '# %%', but {len(raw)} cells were found"
        remedy = "Start the first cell on line 1, and write '# %%' only where a cell starts"
        raise BrokenLessonError([Problem(shown, 1, what, remedy)])
    seen: Counter[str] = Counter()
    for cell, (line, _) in zip(raw, marks, strict=True):
        given = {key: cell.metadata[key] for key in KEYS if key in cell.metadata}
        tags = tuple(cell.metadata.get("tags", ()))
        stem = given.get("name") or _part(tags, given.get("exercise"))
        if not stem:
            text = f"{path.stem}\0{cell.cell_type}\0{cell.source}"
            stem = hashlib.sha256(text.encode()).hexdigest()[:12]
        seen[stem] += 1
        cell_id = stem if seen[stem] == 1 else f"{stem}-{seen[stem]}"
        yield Cell(kind=cell.cell_type, source=cell.source, line=line, id=cell_id, tags=tags, **given)


def _part(tags: tuple[str, ...], exercise: str | None) -> str | None:
    part = next((part for part in PARTS if part in tags), None)
    return f"{part}-{exercise.replace('.', '-')}" if part and exercise else None
