"""The cache explorer in JupyterLab: chosen with the keyboard alone, it draws anew and says so."""

from __future__ import annotations

import pytest
from nbformat import v4
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

CELL = "explorer"


def test_the_explorer_is_used_with_the_keyboard_alone(write, opened, shoot):
    notebook, watch = opened
    cell = v4.new_code_cell("from course_lib.labs import cache_explorer\ncache_explorer()", id=CELL)
    notebook.open(write("explorer", cell))
    notebook.run(CELL)
    output = notebook.output(CELL)
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
