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


def use_with_the_keyboard_alone(notebook):
    explorer = notebook.output("cache_explorer")
    explorer.get_by_role("button", name="1 min", exact=True).focus()
    notebook.page.keyboard.press("Shift+Tab")
    notebook.page.keyboard.press("Enter")
    expect(explorer).to_contain_text("TTL 10 s")

    explorer.get_by_role("button", name="40%", exact=True).press("Enter")
    expect(explorer).to_contain_text("(40% of all answers)")
    expect(explorer.get_by_role("img", name="(40% of all answers)")).to_have_count(1)


# A page and a kernel for both: each costs some seconds.
def test_labs_are_used_with_the_keyboard_alone_and_all_stand_without_their_kernel(write, opened, shoot):
    notebook, watch = opened
    cells = [v4.new_code_cell(f"from course_lib.labs import {name}\n{name}()", id=name) for name in SHOWN]
    address = write("reopened", *cells)
    notebook.open(address)
    assert notebook.run_all()
    for name, words in SHOWN.items():
        expect(notebook.output(name)).to_contain_text(words)

    use_with_the_keyboard_alone(notebook)
    shoot("explorer")
    assert watch.problems() == []

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
