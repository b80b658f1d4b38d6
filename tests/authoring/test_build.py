from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbconvert import ScriptExporter
from nbformat.v4 import new_output

from course_lib.authoring.build import build, check
from course_lib.authoring.freshness import digests
from course_lib.authoring.lesson import AuthoringError, BrokenLessonError
from course_lib.authoring.notebook import DIGEST
from course_lib.authoring.reading import read
from tests.authoring.conftest import SAMPLE
from tests.notebooks.shipped import solution_lines


@pytest.fixture
def built(course: Path) -> Path:
    """The sample course with its notebooks built, the solution with outputs as after a run."""
    assert build(course) == [solution(course, "notebooks"), solution(course)]
    edit_notebook(course, run)
    return course


def solution(course: Path, folder: str = "solutions") -> Path:
    return course / folder / "00_sample.ipynb"


def cells_of(course: Path, folder: str) -> dict:
    return {cell.id: cell for cell in nbformat.read(solution(course, folder), as_version=4).cells}


def edit_notebook(course: Path, edit, folder: str = "solutions") -> None:
    path = solution(course, folder)
    notebook = nbformat.read(path, as_version=4)
    edit(notebook)
    path.write_text(nbformat.writes(notebook) + "\n", "utf-8")


def run(notebook) -> None:
    """Store outputs, as an execution would."""
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count, cell.outputs = count, [new_output("stream", text=f"output {count}\n")]
    notebook.metadata[DIGEST] = digests([read(SAMPLE)])["00_sample"]


def edit_lesson(course: Path, old: str, new: str) -> None:
    path = course / "lessons" / "00_sample.py"
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


def files(course: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in course.glob("*/*.ipynb")}


def test_what_is_fresh_is_not_written_again(built):
    before = files(built)

    assert check(built) == build(built) == []
    assert files(built) == before


def test_no_line_of_the_solution_reaches_the_learner_and_no_answer_of_the_proof_anyone(built):
    learner, solved = (json.dumps(cells_of(built, folder)) for folder in ("notebooks", "solutions"))
    lines = [line for cell in read(SAMPLE).cells for line in solution_lines(cell.source)]

    assert lines
    assert [line for line in lines if json.dumps(line)[1:-1] in learner] == []
    assert not {"priority", "itemgetter"} & set(re.findall(r"\w+", learner + solved))


def test_both_notebooks_share_the_ids_and_the_tags_of_shared_cells(built):
    learner, solved = cells_of(built, "notebooks"), cells_of(built, "solutions")

    assert list(solved) == list(learner)
    assert learner["exercise-0-9"].metadata == {"exercise": "0.9", "tags": ["exercise"]}


def test_both_notebooks_export_as_a_python_script(course):
    build(course)

    for folder in ("notebooks", "solutions"):
        _, resources = ScriptExporter().from_filename(str(solution(course, folder)))
        assert resources["output_extension"] == ".py"


def test_only_the_solution_asks_nbval_to_compare_outputs(course):
    edit_lesson(course, "# %%\nRANKS", '# %% name="ranks" tags=["nbval-check-output"]\nRANKS')
    build(course)

    tags = [cells_of(course, each)["ranks"].metadata.get("tags") for each in ("notebooks", "solutions")]

    assert tags == [None, ["nbval-check-output"]]


@pytest.mark.parametrize(
    ("old", "new", "is_kept"),
    [("# It has one exercise", "# There is one exercise", True), ("RANKS\n", "len(RANKS)\n", False)],
    ids=["words", "code"],
)
def test_outputs_stay_while_only_words_change(built, old, new, is_kept):
    edit_lesson(built, old, new)

    assert solution(built) in build(built)

    cells = cells_of(built, "solutions").values()
    assert any(cell.get("outputs") for cell in cells) is is_kept
    assert check(built) == ([] if is_kept else [solution(built)])


EDITS = {
    "run on other code": ("solutions", lambda notebook: notebook.metadata.update({DIGEST: "another"})),
    "never run": ("solutions", lambda notebook: notebook.cells[1].update(execution_count=None)),
    "other words in a solution": ("solutions", lambda notebook: notebook.cells[0].update(source="# Mine")),
    "other words": ("notebooks", lambda notebook: notebook.cells[0].update(source="# Mine")),
    "outputs for a learner": (
        "notebooks",
        lambda notebook: notebook.cells[1].update(outputs=[new_output("stream", text="left over")]),
    ),
}


@pytest.mark.parametrize(("folder", "edit"), EDITS.values(), ids=EDITS.keys())
def test_check_names_a_notebook_that_was_edited_or_not_run_on_this_code(built, folder, edit):
    edit_notebook(built, edit, folder)

    assert check(built) == [solution(built, folder)]


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"cells": 3}', "null", None])
def test_a_damaged_or_deleted_notebook_is_stale_and_comes_back_the_same(built, damage):
    before, path = files(built), solution(built, "notebooks")
    path.unlink()
    if damage is not None:
        path.write_text(damage, "utf-8")

    assert check(built) == build(built) == [path]
    assert files(built) == before


def test_a_notebook_without_a_lesson_is_refused_not_deleted(built):
    mine = built / "notebooks" / "mine.ipynb"
    mine.write_text("{}", "utf-8")

    with pytest.raises(AuthoringError, match=r"notebooks/mine.ipynb; keep notebooks .* in work/"):
        build(built)

    assert mine.exists()


def test_a_broken_lesson_changes_no_file(built):
    before = files(built)
    (built / "lessons" / "01_broken.py").write_text("# %%\nx = (\n", "utf-8")
    edit_lesson(built, "# # A sample lesson", "# # Another title")

    with pytest.raises(BrokenLessonError, match=r"01_broken.py:2: .*was never closed"):
        build(built)

    assert files(built) == before
