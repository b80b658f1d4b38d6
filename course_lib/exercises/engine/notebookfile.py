"""Notebook files as plain data: read, write, and find the cell in which an exercise is answered.

Main path: read(path) -> answers(notebook, "0.1") -> write(path, notebook), whole or not at all.
Source: the notebook format 4.5, whose cells have ids; nothing of a file is dropped that is not understood.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from course_lib import paths
from course_lib.errors import CourseError
from course_lib.files import write_whole

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


def write(path: Path, notebook: Notebook) -> None:
    """Write a notebook as Jupyter lays it out: the file is the old one or the new one, never half of it.

    Raises:
        FileError: it could not be written.
    """
    write_whole(path, json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def source_of(cell: Cell) -> str:
    """Return a cell's text; files may hold it as a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def metadata_of(cell: Cell) -> dict[str, Any]:
    """Return a cell's metadata, empty if it has none."""
    metadata = cell.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def answers(notebook: Notebook, exercise_id: str) -> list[Cell]:
    """Return the cells in which an exercise is answered, in order."""
    known = ((cell, metadata_of(cell)) for cell in notebook["cells"])
    return [
        cell
        for cell, metadata in known
        if metadata.get("exercise") == exercise_id and "exercise" in (metadata.get("tags") or ())
    ]


def solution(lesson: str, exercise_id: str) -> list[Cell]:
    """Return the cells of our answer to an exercise, from the solved notebook of its lesson.

    Raises:
        NotebookFileError: the solved notebook is missing, unreadable, or without this exercise.
    """
    path = paths.SOLUTIONS / f"{lesson}.ipynb"
    found = answers(read(path, remedy=BUILD), exercise_id)
    if not found:
        raise NotebookFileError(f"{path} holds no cell for exercise {exercise_id}; {BUILD}")
    return found
