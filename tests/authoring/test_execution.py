from __future__ import annotations

import nbformat
import pytest

from course_lib.authoring.build import build, check
from course_lib.authoring.execution import WIDGET_VIEW, scrubbed
from course_lib.authoring.lesson import AuthoringError

LESSON = """# %% [markdown]
# # Outputs
#
# That differ from run to run.

# %%
import os
from pathlib import Path

print(object(), Path.cwd(), os.environ["COURSE_WORK"])
"""


def with_output(output) -> nbformat.NotebookNode:
    cell = nbformat.v4.new_code_cell("x", execution_count=1, outputs=[output])
    return nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}})


def data(**by_kind: str) -> nbformat.NotebookNode:
    kinds = {"plain": "text/plain", "html": "text/html", "view": WIDGET_VIEW}
    bundle = {kinds[kind]: content for kind, content in by_kind.items()}
    return with_output(nbformat.v4.new_output("display_data", data=bundle))


def test_a_solution_runs_once_and_keeps_its_scrubbed_outputs(course):
    for lesson in (course / "lessons").glob("*.py"):
        lesson.unlink()
    (course / "lessons" / "01_outputs.py").write_text(LESSON, "utf-8")

    first = build(course, execute=True)
    again = build(course, execute=True)

    solution = nbformat.read(course / "solutions" / "01_outputs.ipynb", as_version=4)
    third = build(course, execute=True, fresh=True)
    assert len(first) == 2
    assert third == []  # run anew, with the same outputs
    assert again == check(course) == []
    assert solution.cells[1].outputs[0].text == "<object object at 0x...> work work\n"
    assert "execution" not in solution.cells[1].metadata


def test_a_solution_that_does_not_run_changes_no_file(course):
    (course / "lessons" / "00_sample.py").write_text("# %%\nlen(3)\n", "utf-8")

    with pytest.raises(
        AuthoringError, match=r"(?s)solutions/00_sample.ipynb does not run: .*len\(3\).*make build"
    ):
        build(course, execute=True)

    assert list(course.glob("*/*.ipynb")) == []


def printed(text: str) -> nbformat.NotebookNode:
    return with_output(nbformat.v4.new_output("stream", name="stderr", text=text))


PICTURE = f'<img alt="" src="data:image/png;base64,{"iVBOR" * 40_000}">'
SCRUBBED = {
    "a widget leaves its HTML": (
        data(plain="Board()", html="<p>1 of 1 passed</p>", view="."),
        {"text/plain": "Board()", "text/html": "<p>1 of 1 passed</p>"},
    ),
    "a large picture in HTML stays, and is read once": (data(html=PICTURE), {"text/html": PICTURE}),
    "a path gets a plain name": (data(plain="'/home/me/course/lessons'"), {"text/plain": "'./lessons'"}),
    "a warning's place is the cell": (printed("/tmp/ipykernel_42/123.py:1: W"), "<cell>:1: W"),
}


@pytest.mark.parametrize(("given", "expected"), SCRUBBED.values(), ids=SCRUBBED.keys())
def test_what_differs_from_run_to_run_is_scrubbed(given, expected):
    notebook = scrubbed(given, {"/home/me/course": "."})

    output = notebook.cells[0].outputs[0]
    assert output.get("data", output.get("text")) == expected
    assert "widgets" not in notebook.metadata
