from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from course_lib.authoring import regions
from course_lib.authoring.build import build, check
from course_lib.authoring.errors import BrokenLessonError, StrayNotebookError
from course_lib.authoring.freshness import digests
from course_lib.authoring.notebook import DIGEST
from course_lib.authoring.reading import read
from tests.authoring.conftest import SAMPLE

KNOWN = ["0.9"]


def read_notebook(course: Path, folder: str):
    return nbformat.read(course / folder / "00_sample.ipynb", as_version=4)


def give_outputs(course: Path) -> None:
    """Store outputs in the built solution, as an execution would."""
    path = course / "solutions" / "00_sample.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
        cell.outputs = [nbformat.v4.new_output("stream", text=f"output {count}\n")]
    notebook.metadata[DIGEST] = digests([read(course / "lessons" / "00_sample.py")])["00_sample"]
    path.write_text(nbformat.writes(notebook) + "\n", "utf-8")


def edit_lesson(course: Path, old: str, new: str) -> None:
    path = course / "lessons" / "00_sample.py"
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


def test_a_lesson_makes_two_notebooks(course):
    built = build(course, known=KNOWN)

    assert [str(path.relative_to(course)) for path in built] == [
        "notebooks/00_sample.ipynb",
        "solutions/00_sample.ipynb",
    ]


def test_built_twice_changes_no_byte_and_writes_nothing(course):
    build(course, known=KNOWN)
    first = (course / "notebooks" / "00_sample.ipynb").read_bytes()

    again = build(course, known=KNOWN)

    assert again == []
    assert (course / "notebooks" / "00_sample.ipynb").read_bytes() == first


def test_deleted_notebooks_come_back_the_same(course):
    build(course, known=KNOWN)
    before = {path: path.read_bytes() for path in course.glob("*/*.ipynb")}
    for path in before:
        path.unlink()

    build(course, known=KNOWN)

    assert {path: path.read_bytes() for path in course.glob("*/*.ipynb")} == before


def test_no_line_of_the_solution_reaches_the_learner(course):
    build(course, known=KNOWN)
    text = json.dumps(read_notebook(course, "notebooks"))
    solution = [line for cell in read(SAMPLE).cells for line in regions.solution_lines(cell.source)]

    assert solution
    assert [line for line in solution if json.dumps(line)[1:-1] in text] == []


def test_wrong_answers_are_in_neither_notebook(course):
    build(course, known=KNOWN)

    for folder in ("notebooks", "solutions"):
        assert "priority" not in json.dumps(read_notebook(course, folder))


def test_both_notebooks_share_the_ids_of_shared_cells(course):
    build(course, known=KNOWN)
    learner = [cell.id for cell in read_notebook(course, "notebooks").cells]
    solved = [cell.id for cell in read_notebook(course, "solutions").cells]

    assert [cell_id for cell_id in solved if cell_id in learner] == learner
    assert len(solved) == len(learner) + 1  # the solution-only cell


def test_the_exercise_and_the_tags_stay_in_the_notebook(course):
    build(course, known=KNOWN)
    cell = next(cell for cell in read_notebook(course, "notebooks").cells if cell.id == "exercise-0-9")

    assert cell.metadata == {"exercise": "0.9", "tags": ["exercise"]}


def test_only_the_solution_asks_nbval_to_compare_outputs(course):
    edit_lesson(course, "# %%\nRANKS", '# %% name="ranks" tags=["nbval-check-output"]\nRANKS')
    build(course, known=KNOWN)

    tags = [
        next(cell for cell in read_notebook(course, folder).cells if cell.id == "ranks").metadata.get(
            "tags", []
        )
        for folder in ("notebooks", "solutions")
    ]

    assert tags == [[], ["nbval-check-output"]]


def test_the_kernel_is_the_course_s(course):
    build(course, known=KNOWN)

    assert read_notebook(course, "notebooks").metadata.kernelspec.name == "advanced-dspy"


def test_outputs_stay_while_only_words_change(course):
    build(course, known=KNOWN)
    give_outputs(course)
    edit_lesson(course, "# It has one exercise", "# There is one exercise")

    build(course, known=KNOWN)

    cells = read_notebook(course, "solutions").cells
    assert "There is one exercise" in cells[0].source
    assert all(cell.outputs for cell in cells if cell.cell_type == "code")
    assert check(course, known=KNOWN) == []


def test_outputs_from_other_code_of_the_library_are_stale_until_they_are_run_again(course):
    build(course, known=KNOWN)
    give_outputs(course)
    path = course / "solutions" / "00_sample.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata[DIGEST] = "another"
    path.write_text(nbformat.writes(notebook) + "\n", "utf-8")

    build(course, known=KNOWN)

    assert check(course, known=KNOWN) == [path]


def test_a_changed_cell_of_code_drops_the_outputs(course):
    build(course, known=KNOWN)
    give_outputs(course)
    edit_lesson(course, "RANKS\n", "len(RANKS)\n")

    build(course, known=KNOWN)

    assert not any(cell.get("outputs") for cell in read_notebook(course, "solutions").cells)


def test_check_finds_nothing_when_all_is_fresh(course):
    build(course, known=KNOWN)
    give_outputs(course)

    assert check(course, known=KNOWN) == []


@pytest.mark.parametrize("folder", ["notebooks", "solutions"])
def test_check_names_an_edited_notebook(course, folder):
    build(course, known=KNOWN)
    give_outputs(course)
    path = course / folder / "00_sample.ipynb"
    path.write_text(path.read_text("utf-8").replace("most urgent", "least urgent"), "utf-8")

    assert check(course, known=KNOWN) == [path]


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"cells": 3}', "null"])
def test_a_damaged_notebook_is_stale_and_mended(course, damage):
    build(course, known=KNOWN)
    give_outputs(course)
    path = course / "solutions" / "00_sample.ipynb"
    path.write_text(damage, "utf-8")

    assert check(course, known=KNOWN) == [path]
    assert build(course, known=KNOWN) == [path]


def test_check_names_a_solution_that_was_never_run(course):
    build(course, known=KNOWN)

    assert check(course, known=KNOWN) == [course / "solutions" / "00_sample.ipynb"]


def test_check_names_outputs_in_a_learner_notebook(course):
    build(course, known=KNOWN)
    give_outputs(course)
    path = course / "notebooks" / "00_sample.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="left over")]
    nbformat.write(notebook, path)

    assert check(course, known=KNOWN) == [path]


def test_a_notebook_without_a_lesson_is_refused_not_deleted(course):
    build(course, known=KNOWN)
    mine = course / "notebooks" / "mine.ipynb"
    mine.write_text("{}", "utf-8")

    with pytest.raises(
        StrayNotebookError, match=r"notebooks/mine.ipynb; keep notebooks of your own in work/"
    ):
        build(course, known=KNOWN)

    assert mine.exists()


def test_a_broken_lesson_changes_no_file(course):
    build(course, known=KNOWN)
    before = {path: path.read_bytes() for path in course.glob("*/*.ipynb")}
    (course / "lessons" / "01_broken.py").write_text("# %%\nx = (\n", "utf-8")
    edit_lesson(course, "# # A sample lesson", "# # Another title")

    with pytest.raises(BrokenLessonError, match=r"01_broken.py:2: .*was never closed"):
        build(course, known=KNOWN)

    assert {path: path.read_bytes() for path in course.glob("*/*.ipynb")} == before
