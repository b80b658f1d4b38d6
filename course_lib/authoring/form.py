"""What makes a notebook pleasant to read: short cells, words before code, something that runs early.

Main path: findings(notebook) -> what breaks a rule, as in a11y.py.
Source: measured on courses that read well; code cells of at most 20 lines, few exceptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from course_lib.authoring.a11y import Finding

LINES = 20
LONGEST_LINES = 30
LONG_SHARE = 0.1
"""Share of a notebook's code cells that may be longer than LINES."""
CODE_CELLS_IN_A_ROW = 4
"""An exercise, its check, its hint and its solution."""
RUNS_BY_CELL = 4


def findings(notebook: Any) -> list[Finding]:
    """Return every rule of form that a notebook breaks."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [*_lengths(code), *_walls(notebook.cells), *_early(notebook.cells)]


def _lines(cell: Any) -> int:
    return len(cell.source.rstrip().split("\n"))


def _lengths(code: list[Any]) -> Iterator[Finding]:
    long = [cell for cell in code if _lines(cell) > LINES]
    allowed = max(1, int(LONG_SHARE * len(code)))
    if len(long) > allowed:
        names = ", ".join(f"{cell.id} ({_lines(cell)})" for cell in long)
        what = f"{len(long)} of {len(code)} code cells have more than {LINES} lines: {names}"
        yield Finding("short code cells", what, f"Split or shorten until {allowed} are left")
    for cell in code:
        if _lines(cell) > LONGEST_LINES:
            what = f"a code cell of {_lines(cell)} lines"
            yield Finding(
                "short code cells", what, f"Keep it to {LONGEST_LINES}, or move code to course_lib", cell.id
            )


def _walls(cells: list[Any]) -> Iterator[Finding]:
    for kind, group in groupby(cells, key=lambda cell: cell.cell_type):
        run = list(group)
        if kind == "code" and len(run) > CODE_CELLS_IN_A_ROW:
            what = f"{len(run)} code cells in a row"
            yield Finding("words before code", what, "Say between them what happens next", run[0].id)


def _early(cells: list[Any]) -> Iterator[Finding]:
    if not any(cell.cell_type == "code" for cell in cells[:RUNS_BY_CELL]):
        what = f"nothing runs in the first {RUNS_BY_CELL} cells"
        yield Finding("something runs early", what, "Move the set-up cell up")
