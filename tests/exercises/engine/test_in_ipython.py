"""What an IPython shell adds: cards as HTML, and the learner's cell kept as it was checked."""

from __future__ import annotations

import os
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from tests.exercises.conftest import REGISTERED

LAST_SOURCE = "print(progress.last_source(progress.read(), '99.1'))"


@pytest.fixture
def outputs(monkeypatch):
    """Run cells in a kernel of their own; return the outputs of each."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))

    def run(*cells):
        made = [nbformat.v4.new_code_cell(cell) for cell in (REGISTERED, *cells)]
        notebook = nbformat.v4.new_notebook(cells=made)
        NotebookClient(notebook, kernel_name="python3", timeout=60, allow_errors=True).execute()
        return [cell.outputs for cell in notebook.cells[1:]]

    return run


def test_in_a_kernel_a_check_is_one_card_and_nothing_else(outputs):
    _, (card,) = outputs("async def fetch():\n    return '<b>'", "check('99.2', fetch)")

    assert card.output_type == "display_data"
    assert card.data["text/plain"].startswith("99.2 failed: Sample 99.2\n  Checked: three fetches at once")
    assert "[&#x27;&lt;b&gt;&#x27;, " in card.data["text/html"]
    assert "99.2 failed: Sample 99.2</p>" in card.data["text/html"]


BROKEN = {
    "def double(value):\n    return value +": "SyntaxError: invalid syntax, line 2",
    "unknown\ndef double(value):\n    return 2 * value": "NameError: name 'unknown'",
}


def test_a_cell_that_did_not_run_is_told_and_no_old_verdict_is_repeated(outputs):
    good, verdict = "def double(value):\n    return value + value", "check('99.1', double)"
    pairs = [(cell, verdict) for cell in (*BROKEN, good, f"{good}\nunknown")]
    shown = outputs("def double(value): ...", *(cell for pair in pairs for cell in pair))

    said = [card.data["text/plain"] for (card,) in shown[2::2]]

    for text, error in zip(said, BROKEN.values(), strict=False):
        assert text.startswith("99.1 not checked: Sample 99.1")
        assert f"The cell that makes double did not run ({error}" in text
    assert [text.splitlines()[0] for text in said[2:]] == ["99.1 passed: Sample 99.1"] * 2


def test_exit_in_an_answer_is_a_crash_with_its_line_and_the_kernel_goes_on(outputs):
    answers = [f"import sys\ndef double(value):\n    {word}" for word in ("exit()", "quit()", "sys.exit()")]
    shown = outputs(*(cell for answer in answers for cell in (answer, "check('99.1', double)")), "print(1)")

    for (card,), answer in zip(shown[1::2], answers, strict=True):
        assert card.data["text/plain"].startswith("99.1 crashed")
        assert f"Where: line 3 of double: {answer.split()[-1]}\n" in card.data["text/plain"]
    assert shown[-1][0].text == "1\n"


KEPT = {
    "function": "# my answer\ndef double(value):\n    return value * 2",
    "object": "class Doubler:\n    def __call__(self, value):\n        return value * 2\ndouble = Doubler()",
    "value": "import functools, operator\ndouble = functools.partial(operator.mul, 2)",
    "await": "import asyncio\nawait asyncio.sleep(0)\ndouble = lambda value: value * 2",
    "edited": "def double(value):\n    return 2 * value",
}


def test_the_whole_cell_is_kept_as_it_was_checked_last(outputs):
    cells = [each for cell in KEPT.values() for each in (cell, "x = 1", "check('99.1', double)", LAST_SOURCE)]

    shown = outputs("double = None", *cells)

    assert [each[0].text.rstrip("\n") for each in shown[4::4]] == list(KEPT.values())


def test_an_answer_and_its_check_may_share_a_cell(outputs):
    shared = "# double, Sample\ndef double(value):\n    return 2 * value\ncheck('99.1', double)"

    shown = outputs("Sample = 3", shared, LAST_SOURCE)

    assert shown[1][0].data["text/plain"].startswith("99.1 passed")
    assert shown[2][0].text.rstrip("\n") == shared


def test_what_hint_and_solution_show(outputs):
    (hinted,), (asked,) = outputs("hint('99.1')", "solution('99.1')")

    assert "hint 1 of 2" in hinted.data["text/plain"]
    assert "color:var(--jp-content-font-color1" in hinted.data["text/html"]
    assert "background:var(--jp-layout-color1" in hinted.data["text/html"]
    assert "ask again" in asked.text
