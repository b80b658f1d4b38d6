"""Notebooks as shown, in both themes, held to WCAG by axe-core; stored outputs stand for a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbformat import v4
from playwright.sync_api import expect

from tests.browser import access, chromium
from tests.browser.lab import THEMES
from tests.browser.notebook import Notebook
from tests.notebooks import shipped

pytestmark = pytest.mark.browser

BAD = """<p style="background:#eee;color:#999">grey on grey</p><svg role="img"><rect/></svg>"""


@pytest.fixture(scope="module")
def shown(write, browser, server) -> Iterator[Notebook]:
    """A page for all notebooks, one after the other: to load JupyterLab takes longest."""
    with chromium.page(browser, server.url) as (page, _):
        notebook = Notebook(page)
        notebook.open(write("empty"))
        yield notebook


@pytest.mark.parametrize("path", shipped.SOLVED, ids=shipped.name)
def test_a_notebook_as_shown_is_accessible_in_both_themes(path: Path, server, shown, shoot):
    notebook = shown
    shutil.copy(path, server.folder / f"shown_{path.name}")
    notebook.open_instead(f"shown_{path.name}")
    notebook.trust()

    found = []
    for theme in THEMES.values():
        notebook.choose_theme(theme)
        problems = access.problems(notebook.page, path.stem, colours_alone=theme != THEMES["light"])
        found += [f"{theme}: {problem}" for problem in problems]
        shoot(notebook, f"{path.stem}_{theme.rpartition(' ')[2].lower()}")

    assert "\n".join(found) == ""


def test_a_finding_names_notebook_cell_and_fault(write, shown):
    notebook = shown
    bad_output = v4.new_output("display_data", data={"text/html": BAD})
    bad = v4.new_code_cell("x", id="bad-cell", outputs=[bad_output])
    write("bad", v4.new_markdown_cell("# A title"), bad)
    notebook.open_instead("bad.ipynb")
    notebook.trust()
    expect(notebook.output("bad-cell").locator("svg[role=img]")).to_be_attached()

    found = access.problems(notebook.page, "bad")

    assert all(problem.startswith("bad, cell bad-cell: ") for problem in found)
    for rule in ("color-contrast", "svg-img-alt"):
        assert any(f"({rule})" in problem for problem in found), found
