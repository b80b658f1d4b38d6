"""The flight in JupyterLab by keyboard, and its pages in a browser: to axe-core, in both themes, on paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
from axe_playwright_python.sync_playwright import Axe
from nbformat import v4
from playwright.sync_api import expect

from course_lib.flight import report
from tests.browser import access, chromium
from tests.browser.lab import THEMES
from tests.flight.flown import flown

pytestmark = pytest.mark.browser

CELL = """
from course_lib.labs import flight_lab

flight_lab(only=["outage"])
"""


def test_a_learner_starts_a_flight_by_keyboard_and_reads_its_scorecard(write, opened, shoot):
    """Starts servers, and flies fourteen seconds."""
    notebook, watch = opened
    notebook.open(write("flight", v4.new_markdown_cell("# Flight"), v4.new_code_cell(CELL, id="flight")))
    notebook.run("flight")
    shown = notebook.output("flight")

    shown.get_by_role("button", name="Start", exact=True).press("Enter")
    expect(shown.get_by_role("status")).to_contain_text("outage", timeout=90_000)
    expect(shown.get_by_role("img")).to_contain_text("answered")
    shoot(notebook, "flight_under_way")
    expect(shown.get_by_role("status")).to_contain_text("hold", timeout=60_000)

    expect(shown.get_by_role("table").first).to_contain_text("availability")
    found = []
    for name, theme in THEMES.items():
        notebook.choose_theme(theme)
        found += access.problems(notebook.page, "flight")
        shoot(notebook, f"flight_{name}")
    assert "\n".join(found) == ""
    assert watch.problems() == []


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("page", [report.as_html, report.certificate], ids=["scorecard", "certificate"])
def test_a_page_can_be_read_in_both_themes_and_printed(browser, tmp_path, page, theme):
    path = tmp_path / "page.html"
    whole = replace(flown(), levels=flown().levels * 5, gates=flown().gates * 4)
    path.write_text(page(whole), "utf-8")
    with chromium.page(browser, path.as_uri()) as (opened, watch):
        opened.emulate_media(color_scheme=theme)
        opened.goto(path.as_uri())

        assert [each["id"] for each in Axe().run(opened).response["violations"]] == []
        assert watch.problems() == []
        if page is report.certificate:
            printed = opened.pdf(prefer_css_page_size=True)
            assert printed.count(b"/Type /Page\n") == 1, "it is one sheet"
