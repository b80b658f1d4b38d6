"""Notebook files as plain data: read, and find the cells that answer an exercise.

Main path: read(path) -> cells_of(notebook, "0.1", "exercise").
Source: the notebook format 4.5, whose cells have ids; nothing of a file is dropped that is not understood.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from course_lib import paths
from course_lib.errors import CourseError

BUILD = "`make build` makes it"
"""What to do about a built notebook that is missing or broken."""

Cell = dict[str, Any]
Notebook = dict[str, Any]


class NotebookFileError(CourseError):
    """A notebook file is missing or is not a notebook; it was left as it is."""


def read(path: Path, *, remedy: str) -> Notebook:
    """Return a notebook file's content.

    Raises:
        NotebookFileError: it is missing, unreadable or not a notebook; the message ends with `remedy`.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotebookFileError(f"{path} is missing; {remedy}") from None
    except (OSError, ValueError) as error:
        raise NotebookFileError(f"{path} cannot be read ({error}); {remedy}") from error
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise NotebookFileError(f"{path} cannot be read (it holds no list of cells); {remedy}")
    return dict(notebook)


def source_of(cell: Cell) -> str:
    """Return a cell's text; files may hold it as a list of lines."""
    return "".join(cell.get("source", ""))


def metadata_of(cell: Cell) -> dict[str, Any]:
    """Return a cell's metadata, empty if it has none."""
    return dict(cell.get("metadata") or {})


def cells_of(notebook: Notebook, exercise_id: str, *tags: str) -> list[Cell]:
    """Return the cells of an exercise that carry one of these tags, in order; cells without an id too."""
    own = [cell for cell in notebook["cells"] if metadata_of(cell).get("exercise") == exercise_id]
    return [cell for cell in own if set(tags) & set(metadata_of(cell).get("tags") or ())]


def solution(lesson: str, exercise_id: str) -> list[Cell]:
    """Return the cells of our answer to an exercise, from the solved notebook of its lesson.

    Raises:
        NotebookFileError: the solved notebook is missing, unreadable, or without this exercise.
    """
    path = paths.SOLUTIONS / f"{lesson}.ipynb"
    found = cells_of(read(path, remedy=BUILD), exercise_id, "exercise")
    if not found:
        raise NotebookFileError(f"{path} holds no cell for exercise {exercise_id}; {BUILD}")
    return found
