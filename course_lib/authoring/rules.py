"""What must hold in a lesson's source before anything is built from it.

Main path: problems_of(cells) -> every broken rule, with its line and remedy; empty for a good lesson.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from course_lib.authoring import regions
from course_lib.authoring.lesson import Cell, Problem

PARTS = ("exercise", "check", "right", "wrong")
FOR_THE_PROOF = {"right", "wrong"}
"""Answers that are in no notebook."""
WRONG_OUTCOMES = ("failed", "crashed")
COMPARED = "nbval-check-output"
TAGS = {
    "exercise": "the learner writes the solution region of this cell",
    "check": "calls check() on what the exercise cell defines",
    "right": "another right answer, in another style, for the proof only",
    "wrong": "a plausible wrong answer, for the proof only",
    "needs": "the proof runs this cell before the exercises below it",
    "invented-names": "names that no DSPy release has are allowed here",
    COMPARED: "nbval holds the solution's stored output against a new run",
}
NEEDED = {"exercise": "", "check": "", "wrong": ' outcome="failed" message="..."'}
"""Cells that each exercise has, with what stands beside their tag."""

Fault = tuple[int, str, str]
"""Line in the lesson, what is wrong, what to do."""


def problems_of(cells: Sequence[Cell], path: Path) -> list[Problem]:
    """Return every problem of a lesson."""
    found = list(_naming(cells))
    for cell in cells:
        found += [*_tagging(cell), *_regions(cell)]
    if not found:  # what follows reads the cells as well-formed
        for cell in cells:
            found += _syntax(cell)
        for exercise in dict.fromkeys(cell.exercise for cell in cells if cell.exercise):
            found += _sides(exercise, [cell for cell in cells if cell.exercise == exercise])
    return [Problem(path, *each) for each in found]


def _naming(cells: Sequence[Cell]) -> Iterator[Fault]:
    lines: dict[str, int] = {}
    for cell in cells:
        first = lines.setdefault(cell.name or cell.id, cell.line)
        if first != cell.line:
            what = f"the cell is named {cell.name!r}, as is the one at line {first}"
            yield cell.line, what, "Give each cell a name of its own"


def _tagging(cell: Cell) -> Iterator[Fault]:
    for tag in cell.tags:
        if tag not in TAGS:
            yield cell.line, f"unknown tag {tag!r}", f"Known: {', '.join(TAGS)}"
    parts = [tag for tag in PARTS if cell.has(tag)]
    if len(parts) > 1:
        yield cell.line, f"the cell is tagged {' and '.join(parts)}", "Make it one of them"
    if parts and not cell.exercise:
        yield cell.line, f"a cell tagged {parts[0]!r} names no exercise", 'Add exercise="0.1"'
    if cell.has("wrong") and cell.outcome not in WRONG_OUTCOMES:
        what = f"the wrong answer declares outcome {cell.outcome!r}"
        yield cell.line, what, f'Write outcome="..." with one of: {", ".join(WRONG_OUTCOMES)}'
    if cell.has("wrong") and not (cell.message or "").strip():
        what = "the wrong answer does not say which message it must get"
        yield cell.line, what, 'Add message="text or regular expression"'


def _regions(cell: Cell) -> Iterator[Fault]:
    try:
        found = [part for part in regions.split(cell.source) if isinstance(part, regions.Region)]
    except regions.BadRegionError as error:
        yield cell.line + 1 + error.offset, error.what, error.remedy
        return
    if found and not cell.has("exercise"):
        line, remedy = cell.line + 1 + found[0].offset, 'exercise="0.1" tags=["exercise"]'
        yield line, "a solution region in a cell that is no exercise", f"Tag the cell: {remedy}"
    if cell.has("exercise") and not found:
        remedy = f"Put the solution between {regions.BEGIN!r} and {regions.END!r}"
        yield cell.line, "the exercise cell has no solution region", remedy


def _syntax(cell: Cell) -> Iterator[Fault]:
    sides = {"": cell.source} if cell.kind == "code" else {}
    if cell.has("exercise"):
        solved, learner = regions.solved(cell.source), regions.learner(cell.source)
        sides = {" with the solution": solved, " with the stub": learner}
    for side, source in sides.items():
        try:
            parse(source)
        except SyntaxError as error:
            line = cell.line if side else cell.line + (error.lineno or 1)
            what = f"the cell{side} is not valid Python: {error.msg} in {(error.text or '').strip()!r}"
            yield line, what, "Correct the cell; magics and top-level await are allowed"


@cache
def _magics() -> Any:
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager()


def parse(source: str) -> ast.Module:
    """Parse a notebook cell: Python, with magics and top-level `await` allowed.

    Raises:
        SyntaxError: it is neither.
    """
    try:
        plain = ast.parse(source)
    except SyntaxError:
        plain = ast.parse(_magics().transform_cell(source))
    compile(plain, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return plain


def _sides(exercise: str, cells: Sequence[Cell]) -> Iterator[Fault]:
    found = {part: [cell for cell in cells if cell.has(part)] for part in PARTS}
    first = min((cell.line for part in found.values() for cell in part), default=None)
    if first is None:
        return
    for part, options in NEEDED.items():
        if not found[part]:
            remedy = f'Add a cell: # %% exercise="{exercise}" tags=["{part}"]{options}'
            yield first, f"exercise {exercise} has no {part} cell", remedy
    call = re.compile(rf'^(await )?check\("{re.escape(exercise)}", .*\Z', re.MULTILINE)
    for cell in found["check"]:
        if not call.search(cell.source.rstrip()):
            what = f'the check cell of exercise {exercise} does not end in check("{exercise}", ...)'
            yield cell.line, what, "Make that call its last line"
    top = found["exercise"][0].line if found["exercise"] else 0
    for cell in cells:
        if cell.line < top and cell not in found["exercise"]:
            what = f"a cell of exercise {exercise} stands before its exercise cell"
            yield cell.line, what, f"Move it below line {top}"
