"""The trace viewer in JupyterLab: by mouse, by keyboard, to axe-core; HTML in a prompt stays a text."""

from __future__ import annotations

import pytest
from nbformat import v4
from playwright.sync_api import expect

from tests.browser import access
from tests.browser.lab import THEMES

pytestmark = pytest.mark.browser

CELL = """
from course_lib import desk, lm
from course_lib.debugging import Tracer
from course_lib.labs import trace_viewer
import dspy

def traced(model, *texts):
    with dspy.context(lm=lm.connect(model, cache=False)), Tracer(content=True) as tracer:
        for text in texts:
            desk.Triage()(ticket=text)
    return tracer.spans

BAD = "<img src=x onerror='document.title = String(1)'><script>document.title = 1</script> Where is my lamp?"
tickets = [BAD, *(ticket.text for ticket in desk.tickets("train")[:3])]
trace_viewer(traced("sim-large", *tickets), traced("sim-small@sloppy", "Where is my tent?", *tickets[1:]))
"""


@pytest.fixture
def viewer(write, opened):
    """The page, and the output in which the viewer stands."""
    notebook, watch = opened
    notebook.open(write("viewer", v4.new_markdown_cell("# Traces"), v4.new_code_cell(CELL, id="viewer")))
    notebook.run("viewer")
    expect(notebook.output("viewer").get_by_role("tree")).to_have_count(2)
    return notebook, notebook.output("viewer"), watch


def test_a_click_opens_a_span_beside_its_counterpart_and_a_search_leaves_what_was_found(viewer):
    _, shown, watch = viewer
    first, second = shown.get_by_role("tree").all()

    first.get_by_role("treeitem").filter(has_text="chat sim").first.click()

    expect(second.locator("[aria-selected=true]")).to_contain_text("chat sim-small@sloppy")
    expect(shown.get_by_role("region", name="first run")).to_contain_text("<img src=x onerror=")
    expect(shown.locator("pre:visible").filter(has_text="+ Where is my tent?")).to_be_visible()
    shown.get_by_label("search").fill("adapterparseerror")
    expect(first.get_by_role("treeitem")).to_have_count(0)
    expect(second.get_by_role("treeitem")).to_have_count(1)
    expect(shown.get_by_role("status")).to_contain_text("Found: 0 and 1 rows.")
    assert watch.problems() == []


def test_the_keys_move_the_focus_and_open(viewer):
    notebook, shown, _ = viewer
    tree, press = shown.get_by_role("tree").first, notebook.page.keyboard.press
    shown.get_by_label("search").focus()

    for key in ("Tab", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowUp", "Enter"):
        press(key)

    expect(tree.locator(":focus")).to_contain_text("chat sim-large")
    expect(tree.locator("[aria-selected=true]")).to_contain_text("chat sim-large")
    expect(shown.get_by_role("status")).to_contain_text("Below: chat sim-large")
    press("Tab")
    expect(shown.get_by_role("tree").nth(1).locator(":focus")).to_be_visible()  # each tree is one stop


def test_it_is_accessible_in_both_themes(viewer, shoot):
    notebook, shown, _ = viewer
    shown.get_by_role("treeitem").filter(has_text="chat sim").first.click()
    found = []
    for name, theme in THEMES.items():
        notebook.choose_theme(theme)
        found += access.problems(notebook.page, "viewer")
        shoot(notebook, f"viewer_{name}")

    assert "\n".join(found) == ""
