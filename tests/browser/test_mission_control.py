"""Mission control in JupyterLab: by keyboard, on a stack of its own, to axe-core, in both themes."""

from __future__ import annotations

import pytest
from nbformat import v4
from playwright.sync_api import expect

from tests.browser import access
from tests.browser.lab import THEMES

pytestmark = pytest.mark.browser

CELL = """
from course_lib.labs import mission_control

mission_control()
"""


def test_a_learner_breaks_the_model_by_keyboard_and_sees_who_notices(write, opened, shoot):
    """Starts a stack, which takes most of its time."""
    notebook, watch = opened
    notebook.open(write("mission", v4.new_markdown_cell("# Mission"), v4.new_code_cell(CELL, id="mission")))
    notebook.run("mission")
    shown = notebook.output("mission")
    status = shown.get_by_role("status")

    shown.get_by_role("button", name="Start", exact=True).press("Enter")
    expect(status).to_contain_text("Asking", timeout=90_000)
    shown.get_by_role("button", name="down").press("Enter")
    expect(status).to_contain_text("The model is down")
    shown.get_by_role("button", name="kill redis").press("Space")
    expect(shown.get_by_role("button", name="start redis")).to_be_visible()
    expect(shown.get_by_role("img")).to_contain_text("503")
    expect(shown.get_by_role("img")).to_contain_text("redis gone")
    expect(shown.get_by_role("table")).to_have_count(2)
    shown.get_by_role("button", name="Stop").press("Enter")
    expect(status).to_contain_text("every fault is undone", timeout=60_000)

    expect(shown.get_by_role("button", name="kill redis")).to_be_visible()
    found = []
    for name, theme in THEMES.items():
        notebook.choose_theme(theme)
        found += access.problems(notebook.page, "mission")
        shoot(notebook, f"mission_{name}")
    assert "\n".join(found) == ""
    assert watch.problems() == []
