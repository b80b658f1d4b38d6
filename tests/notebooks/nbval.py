"""Runs nbval over every notebook and solution, two at once, each with folders of its own.

A learner's notebook is run twice in one kernel, as by a second "Run All"; nothing may count as attempted.
Of a solution, the outputs of the cells tagged `nbval-check-output` are compared with the stored ones.

python -m tests.notebooks.nbval             all of them
python -m tests.notebooks.nbval NOTEBOOK    some
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

from course_lib.authoring import kernel
from course_lib.authoring.kernel import isolated
from course_lib.paths import NOTEBOOKS, ROOT
from tests.notebooks import shipped

CELL_DEADLINE_S = 120
AT_ONCE = 2
SCRATCH = "COURSE_NBVAL_SCRATCH"
LISTEN = """
outcomes_of_checks = []
get_ipython().events.register(
    "post_run_cell", lambda ran: outcomes_of_checks.append(getattr(ran.result, "outcome", None))
)
"""
NOT_ATTEMPTED = """
found = [outcome for outcome in outcomes_of_checks if outcome]
assert found == ["not attempted"] * {count}, found
"""


def doubled(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return a learner's notebook with its cells twice, between two that see to it that no check counts."""
    again = copy.deepcopy(notebook.cells)
    for cell in again:
        cell.id = f"{cell.id[:58]}-again"
    checks = sum("check" in cell.metadata.get("tags", []) for cell in notebook.cells)
    first = nbformat.v4.new_code_cell(LISTEN, id="listen-to-checks")
    last = nbformat.v4.new_code_cell(NOT_ATTEMPTED.format(count=2 * checks), id="nothing-counts-as-attempted")
    return nbformat.from_dict({**notebook, "cells": [first, *notebook.cells, *again, last]})


def run(notebooks: list[Path], scratch: Path) -> int:
    """Run nbval over copies of notebooks, those of learners doubled, and return its exit code."""
    kernel.install()
    copies = []
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        copies.append(scratch / path.parent.name / path.name)
        copies[-1].parent.mkdir(exist_ok=True)
        nbformat.write(doubled(notebook) if path.parent == NOTEBOOKS else notebook, copies[-1])
    # "loadfile" tells files apart by their place below rootdir
    place = ["-c", os.devnull, "--rootdir", str(scratch), "--dist", "loadfile"]
    place += ["-n", str(min(AT_ONCE, len(copies)))]
    options = ["--nbval-lax", "--nbval-sanitize-with", str(ROOT / "tests" / "notebooks" / "sanitize.cfg")]
    options += ["--nbval-kernel-name", kernel.NAME, f"--nbval-cell-timeout={CELL_DEADLINE_S}"]
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-ptests.notebooks.nbval"]
    temporary = scratch / "tmp"  # what a lesson makes in the temporary folder goes with the rest
    temporary.mkdir()
    environment = {**isolated(scratch), SCRATCH: str(scratch), "TMPDIR": str(temporary)}
    command = [*pytest_here, *place, *options, *map(str, copies)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give the kernel of each notebook, started for its first cell, folders that no other notebook uses."""
    folder = Path(os.environ[SCRATCH]) / f"{item.path.parent.name}-{item.path.stem}"
    folder.mkdir(exist_ok=True)  # IPython warns where it cannot make its own folder
    own = isolated(folder)
    os.environ.update({name: own[name] for name in ("COURSE_WORK", "DSPY_CACHEDIR", "IPYTHONDIR")})


def main() -> int:
    """Run the notebooks named on the command line, or all, and return nbval's exit code."""
    notebooks = [Path(name).resolve() for name in sys.argv[1:]] or [*shipped.LEARNER, *shipped.SOLVED]
    with tempfile.TemporaryDirectory(prefix="course-nbval-", ignore_cleanup_errors=True) as scratch:
        return run(notebooks, Path(scratch))


if __name__ == "__main__":
    sys.exit(main())
