"""What is committed is what the lessons say, and gives no solution away."""

from __future__ import annotations

import nbformat
import pytest

from course_lib.authoring.build import build, check
from course_lib.authoring.lesson import Lesson
from course_lib.authoring.reading import read, read_all
from course_lib.authoring.rules import FOR_THE_PROOF
from course_lib.files import write_whole
from course_lib.paths import LESSONS, ROOT
from tests.authoring.conftest import SAMPLE
from tests.notebooks import shipped

TRIVIAL_CHARS = 12
"""A line this short (`else:`, `return []`) gives nothing away, and may stand elsewhere too."""


def lines_of(cells) -> set[str]:
    return {line.strip() for cell in cells for line in cell.source.split("\n")}


def leaks(lesson: Lesson, learner: nbformat.NotebookNode) -> list[str]:
    """Return the lines of a lesson's solutions that stand in a learner's notebook, in whatever cell."""
    shown = lines_of(learner.cells)
    secret = [line for cell in lesson.cells for line in shipped.solution_lines(cell.source)]
    answers = [cell for cell in lesson.cells if not FOR_THE_PROOF.isdisjoint(cell.tags)]
    given = lines_of([cell for cell in lesson.cells if cell not in answers])
    secret += lines_of(answers) - given
    return [line for line in secret if len(line) > TRIVIAL_CHARS and line in shown]


def test_every_lesson_has_its_notebooks_and_they_are_fresh():
    stale = [str(path.relative_to(ROOT)) for path in check()]

    assert stale == [], "run: make build"


def test_every_registered_exercise_is_set_in_the_lesson_it_names():
    from course_lib.exercises.engine.registry import exercises

    wanted = {exercise.id: exercise.lesson for exercise in exercises()}
    lessons = read_all(LESSONS)

    assert {exercise: lesson.name for lesson in lessons for exercise in lesson.exercise_ids()} == wanted


@pytest.mark.parametrize("path", shipped.LEARNER, ids=shipped.name)
def test_a_learner_s_notebook_holds_no_line_of_a_solution_and_no_output(path):
    learner = nbformat.read(path, as_version=4)

    assert leaks(read(LESSONS / f"{path.stem}.py"), learner) == []
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in learner.cells)


def test_a_line_of_a_solution_in_any_cell_is_found(tmp_path):
    line = 'urgency_of = [(RANKS[ticket["urgency"]], ticket) for ticket in tickets]'
    lesson_file = tmp_path / "lessons" / "00_sample.py"
    write_whole(lesson_file, f"{SAMPLE.read_text('utf-8')}\n{line}\n")
    build(tmp_path)

    learner = nbformat.read(tmp_path / "notebooks" / "00_sample.ipynb", as_version=4)

    assert leaks(read(lesson_file), learner) == [line]
