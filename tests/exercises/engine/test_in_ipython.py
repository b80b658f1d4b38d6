"""What an IPython shell adds: cards as HTML, and the learner's cell kept as it was checked."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import nbformat
from nbclient import NotebookClient

SHELL = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
shell = InteractiveShell.instance()
shown = []
for cell in json.loads(sys.argv[1]):
    with capture_output() as captured:
        done = shell.run_cell(cell, store_history=True)
    assert done.success, done.error_in_exec
    shown.append({"text": captured.stdout, "outputs": [output.data for output in captured.outputs]})
print(json.dumps(shown))
"""
SETUP = (
    "from course_lib.exercises import check, hint, solution\n"
    "from course_lib.exercises.engine import progress, registry\n"
    "from tests.exercises.conftest import SAMPLES\nregistry.register(*SAMPLES)"
)
LAST_SOURCE = "print(progress.last_source(progress.read(), '99.1'))"


def run_cells(work, *cells):
    environment = os.environ | {
        "COURSE_WORK": str(work),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "IPYTHONDIR": str(work.parent / "ipython"),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SHELL, json.dumps([SETUP, *cells])],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)[1:]


def test_in_a_kernel_a_check_is_one_card_and_nothing_else(work, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    cells = [SETUP, "async def fetch():\n    return '<b>'", "check('99.2', fetch)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, kernel_name="python3", timeout=60).execute()

    (card,) = notebook.cells[-1].outputs

    assert card.output_type == "display_data"
    assert card.data["text/plain"].startswith("99.2 failed: Sample 99.2\n  Checked: three fetches at once")
    assert "[&#x27;&lt;b&gt;&#x27;, " in card.data["text/html"]
    assert "99.2 failed: Sample 99.2</p>" in card.data["text/html"]


BROKEN = {
    "def double(value):\n    return value +": "SyntaxError: invalid syntax, line 2",
    "unknown\ndef double(value):\n    return 2 * value": "NameError: name 'unknown'",
}


def test_a_cell_that_did_not_run_is_told_and_no_old_verdict_is_repeated(work, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    good, verdict = "def double(value):\n    return value + value", "check('99.1', double)"
    cells = [SETUP, "def double(value): ..."]
    cells += [text for broken in BROKEN for text in (broken, verdict)]
    cells += [good, verdict, f"{good}\nunknown", verdict]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, kernel_name="python3", timeout=60, allow_errors=True).execute()

    said = [cell.outputs[0].data["text/plain"] for cell in notebook.cells if cell.source == verdict]

    for text, error in zip(said, BROKEN.values(), strict=False):
        assert text.startswith("99.1 not checked: Sample 99.1")
        assert f"The cell that makes double did not run ({error}" in text
    assert [text.splitlines()[0] for text in said[2:]] == ["99.1 passed: Sample 99.1"] * 2


KEPT = {
    "function": "# my answer\ndef double(value):\n    return value * 2",
    "object": "class Doubler:\n    def __call__(self, value):\n        return value * 2\ndouble = Doubler()",
    "value": "import functools, operator\ndouble = functools.partial(operator.mul, 2)",
    "await": "import asyncio\nawait asyncio.sleep(0)\ndouble = lambda value: value * 2",
    "edited": "def double(value):\n    return 2 * value",
}


def test_the_whole_cell_is_kept_as_it_was_checked_last(work):
    cells = [each for cell in KEPT.values() for each in (cell, "x = 1", "check('99.1', double)", LAST_SOURCE)]

    shown = run_cells(work, "double = None", *cells)

    assert [each["text"].rstrip("\n") for each in shown[4::4]] == list(KEPT.values())


def test_what_check_hint_and_solution_show(work):
    crash = "def double(value):\n    x = 1\n    return x / 0"
    _, crashed, hinted, asked = run_cells(
        work, crash, "check('99.1', double)", "hint('99.1')", "solution('99.1')"
    )

    assert "Where: line 3 of double: return x / 0" in crashed["outputs"][0]["text/plain"]
    html = crashed["outputs"][0]["text/html"]
    assert "color:var(--jp-content-font-color1" in html
    assert "background:var(--jp-layout-color1" in html
    assert hinted["text"] == ""
    assert "hint 1 of 2" in hinted["outputs"][0]["text/plain"]
    assert "ask again" in asked["text"]
    assert asked["outputs"] == []
