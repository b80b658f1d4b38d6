"""Each rule of reading lets good cells through, and names a bad one."""

from __future__ import annotations

import pytest
from nbformat import v4

from tests.notebooks import readable

TITLE = "# A title\n\nSome words."


def notebook(*cells: str | object):
    made = [v4.new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    return v4.new_notebook(cells=made)


def code(source: str = "x", *outputs):
    return v4.new_code_cell(source, outputs=list(outputs), execution_count=1)


def plot():
    return code("x", v4.new_output("display_data", data={"image/png": "iVBOR", "text/plain": "<Figure>"}))


def shown(html: str):
    return code("x", v4.new_output("execute_result", data={"text/html": html, "text/plain": "x"}))


GOOD = {
    "levels that go up and down": "## A\n\n### B\n\n## C",
    "a hash in a code block": "```python\n# not a heading\n#### nor this\n```",
    "an image with words": "![requests per second against time](plot.png)",
    "a comment for the checks": "<!-- invented names -->",
    "a described diagram": "```mermaid\nflowchart LR\n  accDescr: a request goes out\n  A --> B\n```",
    "a link that says where": "[the caching notebook](02_caching.ipynb)",
    "a plot with an alternative text": shown('<img src="p.png" alt="the hit rate rises to 80 %">'),
}


BAD = {
    "second top heading": ("# Another", "top headings are in"),
    "skipped level": ("## A\n\n#### B", "a heading goes from level"),
    "heading in html": ("## A\n\n<h4>B</h4>", "is HTML"),
    "skip right after the title": ("### A", "a heading goes from level"),
    "image": ("![](plot.png)", "no alternative text"),
    "html image": ('text <img src="plot.png"> text', "is HTML"),
    "diagram": ("```mermaid\nflowchart LR\n  A --> B\n```", "a mermaid diagram without words"),
    "link here": ("Read it [here](a.md).", "name its target"),
    "empty link": ("[](a.md)", "name its target"),
    "plot with two words": (shown('<img class="p" alt="a plot" src="p.png">'), "a plot without words"),
    "plot with no alternative": (shown('<img class="p" src="p.png">'), "a plot without words"),
    "plot without words": (plot(), "a plot without words"),
}


def test_good_cells_are_let_through():
    assert readable.findings(notebook(TITLE, *GOOD.values())) == []


@pytest.mark.parametrize(("cell", "rule"), BAD.values(), ids=BAD.keys())
def test_a_bad_cell_is_named_with_rule_and_remedy(cell, rule):
    given = notebook(TITLE, cell)

    (found,) = readable.findings(given)

    assert rule in found
    assert given.cells[1].id in found


@pytest.mark.parametrize("cells", [["Words."], ["Words.", TITLE]], ids=["none", "below the first cell"])
def test_a_notebook_whose_title_is_not_on_top_is_named(cells):
    (found,) = readable.findings(notebook(*cells))

    assert found.startswith("top headings are in ")


def lines(count: int):
    return code("\n".join(["x = 1"] * count))


FORMS = {
    "good": ([TITLE, lines(3), "w", lines(30), *map(lines, [20] * 3)], ""),
    "a very long cell": ([TITLE, lines(31)], "1 of 1 code cells have more than 20 lines"),
    "many long cells": ([TITLE, lines(21), "w", lines(21), "w", lines(2)], "2 of 3 code cells"),
    "a wall of code": ([TITLE, *map(lines, [2] * 5)], "5 code cells in a row"),
}


@pytest.mark.parametrize(("cells", "finding"), FORMS.values(), ids=FORMS.keys())
def test_bad_form_is_named(cells, finding):
    found = readable.form_findings(notebook(*cells))

    assert len(found) == bool(finding)
    assert finding in "".join(found)
