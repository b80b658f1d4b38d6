"""Runs nbval over notebooks: each solved, then as a learner has it, in one kernel, as by a second "Run All".

Of the first run, the outputs of the cells tagged `nbval-check-output` are compared with the stored ones.
In the second nothing may count as attempted, nor may a cell use a name that only a solution has defined.

Main path: run(lesson("02_caching.ipynb")) -> nbval's exit code and what it said.
"""

from __future__ import annotations

import os
import subprocess
import symtable
import sys
import tempfile
from pathlib import Path

import nbformat

from course_lib.authoring import kernel
from course_lib.authoring.kernel import isolated
from course_lib.paths import NOTEBOOKS, ROOT, SOLUTIONS
from tests.services.processes import happens

CELL_DEADLINE_S = 120
MAY_STAY = "lantern-"
"""What a lesson removes at the end of its kernel, which nbval kills."""
UNSOLVED = """
for name in {names}:
    globals().pop(name, None)
outcomes_of_checks = []
get_ipython().events.register(
    "post_run_cell", lambda ran: outcomes_of_checks.append(getattr(ran.result, "outcome", None))
)
"""
NOT_ATTEMPTED = """
found = [outcome for outcome in outcomes_of_checks if outcome]
assert found == ["not attempted"] * {count}, found
"""


def names_of(cell: nbformat.NotebookNode) -> set[str]:
    """Return the names that a cell defines."""
    symbols = symtable.symtable(cell.source, "a cell", "exec").get_symbols()
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}


def pair(solved: nbformat.NotebookNode, given: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the cells of both; between them solutions are forgotten, and after them checks are judged."""
    answers = [cell for cell in solved.cells if "exercise" in cell.metadata.get("tags", [])]
    names = sorted(name for cell in answers for name in names_of(cell))
    checks = sum("check" in cell.metadata.get("tags", []) for cell in given.cells)
    between = nbformat.v4.new_code_cell(UNSOLVED.format(names=names), id="unsolved")
    judge = nbformat.v4.new_code_cell(NOT_ATTEMPTED.format(count=checks), id="nothing-counts-as-attempted")
    again = [{**cell, "id": f"{cell.id[:58]}-given"} for cell in given.cells]
    return nbformat.from_dict({**solved, "cells": [*solved.cells, between, *again, judge]})


def run(notebook: nbformat.NotebookNode) -> subprocess.CompletedProcess[str]:
    """Run nbval over a notebook in a kernel and in folders of its own, and see what it leaves there."""
    kernel.install()
    with tempfile.TemporaryDirectory(prefix="nb", ignore_cleanup_errors=True) as folder:
        scratch = Path(folder)
        nbformat.write(notebook, scratch / "notebook.ipynb")
        sanitized = ["--nbval-sanitize-with", str(ROOT / "tests" / "notebooks" / "sanitize.cfg")]
        kernels = ["--nbval-kernel-name", kernel.NAME, f"--nbval-cell-timeout={CELL_DEADLINE_S}"]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "nbval.plugin", "-p", "no:cacheprovider"]
        options = ["-c", os.devnull, "--rootdir", folder, "--nbval-lax", *sanitized, *kernels]
        ended = subprocess.run(
            [*command, *options, f"{folder}/notebook.ipynb"],
            cwd=ROOT,
            env={**isolated(scratch), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        happens(lambda: not left_in(scratch / "tmp"), within_s=20.0)  # a killed kernel's servers end after it
        ended.stdout += "".join(f"left behind: {name}\n" for name in left_in(scratch / "tmp"))
    return ended


def left_in(folder: Path) -> list[str]:
    """Return the names of what a kernel left there."""
    return [path.name for path in folder.iterdir() if not path.name.startswith(MAY_STAY)]


def lesson(name: str) -> nbformat.NotebookNode:
    """Return a lesson's notebooks, the solved one and the learner's, as one."""
    return pair(*(nbformat.read(folder / name, as_version=4) for folder in (SOLUTIONS, NOTEBOOKS)))
