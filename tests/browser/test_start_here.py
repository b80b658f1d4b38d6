"""A learner's first half hour: notebook 00 in JupyterLab, from Run All to a passed exercise."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from course_lib.authoring import regions
from course_lib.authoring.reading import read
from course_lib.paths import LESSONS

pytestmark = pytest.mark.browser

LESSON = read(LESSONS / "00_start_here.py")
(EXERCISE,) = LESSON.cells_of("0.1", "exercise")
(CHECK,) = LESSON.cells_of("0.1", "check")
WRONG = LESSON.cells_of("0.1", "wrong")[0]


def cell_id(name: str) -> str:
    """Return the id of a cell of the lesson, which must have it."""
    return next(cell.id for cell in LESSON.cells if cell.name == name)


def test_a_learner_runs_all_uses_the_map_fails_takes_hints_passes_and_sees_the_board(server, opened, shoot):
    notebook, watch = opened
    row = notebook.output(cell_id("board")).locator("tr", has_text="0.1")

    notebook.open(server.address("00_start_here.ipynb"))
    assert notebook.run_all(), "a cell of the untouched notebook raised"
    expect(notebook.output(CHECK.id)).to_contain_text("0.1 not attempted")
    expect(row).to_contain_text("not attempted")
    shoot("1_run_all")

    shown = notebook.output(cell_id("architecture"))
    shown.locator('[data-key="limiter"]').click()
    expect(shown.locator(".arch-told")).to_contain_text("Rate limiter")
    shown.locator('[data-key="router"]').press("Enter")
    expect(shown.locator(".arch-told")).to_contain_text("Router")

    notebook.write(EXERCISE.id, WRONG.source)
    notebook.run(EXERCISE.id)
    notebook.run(CHECK.id)
    expect(notebook.output(CHECK.id)).to_contain_text("0.1 failed")
    expect(notebook.output(CHECK.id).locator(".course-card")).to_contain_text(WRONG.message)
    expect(row).to_contain_text("failed")

    help_cell = cell_id("help-0-1")
    notebook.write(help_cell, 'hint("0.1")')
    notebook.run(help_cell)
    expect(notebook.output(help_cell)).to_contain_text("hint 1 of 3")
    notebook.run(help_cell)
    expect(notebook.output(help_cell)).to_contain_text("hint 2 of 3")
    expect(row).to_contain_text("2 of 3")
    shoot("2_failed")

    notebook.write(EXERCISE.id, regions.solved(EXERCISE.source))
    notebook.run(EXERCISE.id)
    notebook.run(CHECK.id)
    expect(notebook.output(CHECK.id)).to_contain_text("0.1 passed")
    expect(row).to_contain_text("passed")
    notebook.write(help_cell, 'solution("0.1")')
    notebook.run(help_cell)
    expect(notebook.output(help_cell)).to_contain_text("Ours")
    shoot("3_passed")

    notebook.restart()
    notebook.run(cell_id("board"))
    expect(row).to_contain_text("passed")
    assert watch.problems() == []
