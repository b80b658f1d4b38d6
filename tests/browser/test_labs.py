"""Labs in JupyterLab: used with the keyboard alone, and opened again without the kernel that ran them."""

from __future__ import annotations

import pytest
from nbformat import v4
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

IS_SAVED = """async () => {
  const context = window.jupyterapp.shell.currentWidget.context;
  await context.save();
  return !!context.model.getMetadata('widgets');
}"""
SHUT_DOWN = "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"
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

    notebook.page.wait_for_function(IS_SAVED)  # the widgets' state too, which comes when it comes
    notebook.page.evaluate(SHUT_DOWN)
    notebook.page.goto("about:blank")
    notebook.open(address)

    for name, words in SHOWN.items():
        expect(notebook.output(name)).to_contain_text(words)
    expect(notebook.page.get_by_text("Error displaying widget")).to_have_count(0)
    notebook.output("architecture").locator('[data-key="limiter"]').click()
    expect(notebook.output("architecture").locator(".arch-told")).to_contain_text("Rate limiter")
    shoot("reopened")


def test_the_explorer_is_used_with_the_keyboard_alone(write, opened, shoot):
    notebook, watch = opened
    cell = v4.new_code_cell("from course_lib.labs import cache_explorer\ncache_explorer()", id="explorer")
    notebook.open(write("explorer", cell))
    notebook.run("explorer")
    output = notebook.output("explorer")
    expect(output).to_contain_text("Done: prediction and measurement differ by")

    output.get_by_role("button", name="1 min", exact=True).focus()
    notebook.page.keyboard.press("Shift+Tab")
    notebook.page.keyboard.press("Enter")
    expect(output).to_contain_text("TTL 10 s")

    output.get_by_role("button", name="40%", exact=True).press("Enter")
    expect(output).to_contain_text("(40% of all answers)")
    expect(output.get_by_role("img", name="(40% of all answers)")).to_have_count(1)

    shoot("explorer")
    assert watch.problems() == []
