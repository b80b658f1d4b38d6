"""A lesson as a notebook, and a notebook as the text of its file.

Main path: learner(lesson), solved(lesson) -> notebooks without outputs; text_of(notebook) -> its file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nbformat

from course_lib.authoring import regions
from course_lib.authoring.kernel import DISPLAY_NAME, NAME
from course_lib.authoring.lesson import Cell, Lesson
from course_lib.authoring.rules import COMPARED, FOR_THE_PROOF

METADATA = {
    "kernelspec": {"display_name": DISPLAY_NAME, "language": "python", "name": NAME},
    "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
}
DIGEST = "library_digest"
"""Where a solution keeps the digest of the library's code that it ran (see freshness.py)."""
Notebook = Any
"""nbformat's NotebookNode, which has no types."""


def learner(lesson: Lesson) -> Notebook:
    """Return the learner's notebook: stubs for solutions, none of the proof's answers, no outputs."""
    return _notebook(lesson, regions.learner, drops={COMPARED})


def solved(lesson: Lesson) -> Notebook:
    """Return the solved notebook, not yet executed."""
    return _notebook(lesson, regions.solved, drops=set())


def _notebook(lesson: Lesson, shown: Callable[[str], str], *, drops: set[str]) -> Notebook:
    cells = [_cell(cell, shown, drops) for cell in lesson.cells if FOR_THE_PROOF.isdisjoint(cell.tags)]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
    nbformat.validate(notebook)
    return notebook


def _cell(cell: Cell, shown: Callable[[str], str], drops: set[str]) -> Any:
    metadata: dict[str, Any] = {"exercise": cell.exercise} if cell.exercise else {}
    if tags := [tag for tag in cell.tags if tag not in drops]:
        metadata["tags"] = tags
    if cell.kind == "markdown":
        return nbformat.v4.new_markdown_cell(cell.source, metadata=metadata, id=cell.id)
    return nbformat.v4.new_code_cell(shown(cell.source), metadata=metadata, id=cell.id)


def text_of(notebook: Notebook) -> str:
    """Return the text of a notebook's file, ending in one newline."""
    return str(nbformat.writes(notebook)).rstrip("\n") + "\n"


def code_of(notebook: Notebook) -> list[str]:
    """Return the text of every code cell, on which the outputs rest."""
    return [cell.source for cell in _code(notebook)]


def take_outputs(new: Notebook, old: Notebook) -> None:
    """Give a notebook the outputs of another that has the same code, and the digest that these rest on."""
    for cell, before in zip(_code(new), _code(old), strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    if DIGEST in old.metadata:
        new.metadata[DIGEST] = old.metadata[DIGEST]


def is_executed(notebook: Notebook) -> bool:
    """Whether every code cell with something in it has been run."""
    return all(cell.execution_count for cell in _code(notebook) if cell.source.strip())


def _code(notebook: Notebook) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
