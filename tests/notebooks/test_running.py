"""Every notebook runs from top to bottom, twice in one kernel, and its checks say what they should."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from course_lib.authoring import kernel
from tests.notebooks import shipped

CELL_DEADLINE_S = 120


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a notebook's cells `times` times over in one kernel with a work folder of its own."""
    monkeypatch.setenv("COURSE_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("DSPY_CACHEDIR", str(tmp_path / "dspy_cache"))
    kernel.install()

    def run(notebook: nbformat.NotebookNode, *, times: int) -> nbformat.NotebookNode:
        resources = {"metadata": {"path": str(tmp_path)}}
        client = NotebookClient(
            notebook, kernel_name=kernel.NAME, timeout=CELL_DEADLINE_S, resources=resources
        )
        with client.setup_kernel():
            for _ in range(times):
                for index, cell in enumerate(notebook.cells):
                    client.execute_cell(cell, index)
        return notebook

    return run


def said(cell: nbformat.NotebookNode) -> str:
    """Return all plain text under a cell."""
    texts = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in cell.outputs]
    return "\n".join(texts)


def outcomes(notebook: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Return what each check cell says: exercise and outcome."""
    checks = [cell for cell in notebook.cells if "check" in cell.metadata.get("tags", [])]
    words = ("not attempted", "passed", "failed", "crashed")
    return [
        (
            exercise,
            next((word for word in words if f"{exercise} {word}" in said(cell)), f"nothing: {said(cell)!r}"),
        )
        for cell in checks
        if (exercise := cell.metadata.exercise)
    ]


@pytest.mark.parametrize("path", shipped.LEARNER, ids=shipped.name)
def test_a_learner_s_notebook_runs_twice_and_nothing_counts_as_attempted(path: Path, run):
    done = run(nbformat.read(path, as_version=4), times=2)

    assert {outcome for _, outcome in outcomes(done)} <= {"not attempted"}, outcomes(done)


@pytest.mark.parametrize("path", shipped.SOLVED, ids=shipped.name)
def test_a_solution_s_stored_outputs_show_every_check_passed(path: Path):
    stored = nbformat.read(path, as_version=4)

    assert {outcome for _, outcome in outcomes(stored)} <= {"passed"}, outcomes(stored)
