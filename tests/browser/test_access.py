"""Notebooks as shown, in both themes, held to WCAG by axe-core; stored outputs stand for a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from nbformat import v4
from playwright.sync_api import expect

from tests.browser import access
from tests.browser.lab import THEMES
from tests.notebooks import shipped

pytestmark = pytest.mark.browser

BAD = """<p style="background:#eee;color:#999">grey on grey</p><svg role="img"><rect/></svg>"""


@pytest.mark.parametrize("path", shipped.SOLVED, ids=shipped.name)
def test_a_notebook_as_shown_is_accessible_in_both_themes(path: Path, server, opened, shoot):
    notebook, _ = opened
    shutil.copy(path, server.folder / f"shown_{path.name}")
    notebook.open(server.address(f"shown_{path.name}"))
    notebook.trust()

    found = []
    for theme in THEMES.values():
        notebook.choose_theme(theme)
        problems = access.problems(notebook.page, path.stem, colours_alone=theme != THEMES["light"])
        found += [f"{theme}: {problem}" for problem in problems]
        shoot(f"{path.stem}_{theme.rpartition(' ')[2].lower()}")

    assert "\n".join(found) == ""


def test_a_finding_names_notebook_cell_and_fault(write, opened):
    notebook, _ = opened
    shown = v4.new_output("display_data", data={"text/html": BAD})
    bad = v4.new_code_cell("x", id="bad-cell", outputs=[shown])
    notebook.open(write("bad", v4.new_markdown_cell("# A title"), bad))
    notebook.trust()
    expect(notebook.output("bad-cell").locator("svg[role=img]")).to_be_attached()

    found = access.problems(notebook.page, "bad")

    assert all(problem.startswith("bad, cell bad-cell: ") for problem in found)
    for rule in ("color-contrast", "svg-img-alt"):
        assert any(f"({rule})" in problem for problem in found), found
