"""A saved notebook, opened again without the kernel that ran it, shows what it showed."""

from __future__ import annotations

import pytest
from nbformat import v4
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

SAVE_AND_SHUT_DOWN = """async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.context.save();
  await panel.sessionContext.shutdown();
}"""
SHOWN = {
    "board": "exercises passed",
    "architecture": "Choose a box",
    "self_test": "What does this print?",
    "cache_explorer": "Done: prediction and measurement differ by",
}


def test_maps_boards_tests_and_labs_stand_without_their_kernel(write, opened, shoot):
    notebook, _watch = opened
    cells = [v4.new_code_cell(f"from course_lib.labs import {name}\n{name}()", id=name) for name in SHOWN]
    address = write("reopened", *cells)
    notebook.open(address)
    assert notebook.run_all()
    for name, words in SHOWN.items():
        expect(notebook.output(name)).to_contain_text(words)

    notebook.page.evaluate(SAVE_AND_SHUT_DOWN)
    notebook.page.goto("about:blank")
    notebook.open(address)

    for name, words in SHOWN.items():
        expect(notebook.output(name)).to_contain_text(words)
    expect(notebook.page.get_by_text("Error displaying widget")).to_have_count(0)
    notebook.output("architecture").locator('[data-key="limiter"]').click()
    expect(notebook.output("architecture").locator(".arch-told")).to_contain_text("Rate limiter")
    shoot("reopened")
