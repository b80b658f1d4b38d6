"""Every notebook runs: what counts as an attempt, and what stored outputs say of the checks."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from nbformat import v4
from traitlets.config import Config

from tests.notebooks import nbval, shipped

ANSWERS = "class Result:\n    outcome = {outcome!r}\n\nResult()"
FAILS_AGAIN = "count = globals().get('count', 0) + 1\nassert count < 2"


def said(cell: nbformat.NotebookNode) -> str:
    """Return all plain text under a cell."""
    texts = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in cell.outputs]
    return "\n".join(texts)


@pytest.mark.parametrize("path", shipped.SOLVED, ids=shipped.name)
def test_a_solution_s_stored_outputs_show_every_check_passed(path: Path):
    cells = nbformat.read(path, as_version=4).cells
    checks = [cell for cell in cells if "check" in cell.metadata.get("tags", [])]

    assert checks
    assert [cell.id for cell in checks if f"{cell.metadata.exercise} passed" not in said(cell)] == []


@pytest.mark.parametrize(
    ("outcome", "other_cell", "is_green"),
    [
        ("not attempted", "pass", True),
        ("failed", "pass", False),
        ("passed", "pass", False),
        ("not attempted", FAILS_AGAIN, False),
    ],
    ids=["not attempted", "failed", "passed", "raises the second time"],
)
def test_a_run_is_red_where_a_check_counts_that_nobody_answered_or_the_second_run_raises(
    outcome, other_cell, is_green
):
    check = v4.new_code_cell(ANSWERS.format(outcome=outcome), metadata={"tags": ["check"]})
    given = v4.new_notebook(cells=[v4.new_code_cell(other_cell), check])
    notebook = nbval.pair(given, given)
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))

    results = [shell.run_cell(cell.source) for cell in notebook.cells]

    assert len(results) == 6
    assert all(result.success for result in results) is is_green


# Half a minute to a minute each: all cells of a lesson run twice, and models and servers take their time.
@pytest.mark.parametrize("name", [path.name for path in shipped.LEARNER])
def test_a_lesson_runs_solved_and_then_as_given_in_the_same_kernel(name: str):
    ended = nbval.run(nbval.lesson(name))

    assert ended.returncode == 0, ended.stdout
    assert "left behind" not in ended.stdout


@pytest.mark.soak
@pytest.mark.parametrize("path", shipped.LEARNER, ids=shipped.name)
def test_a_learner_s_notebook_runs_twice_with_nothing_solved(path: Path):
    given = nbformat.read(path, as_version=4)

    ended = nbval.run(nbval.pair(given, given))

    assert ended.returncode == 0, ended.stdout
