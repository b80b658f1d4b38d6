from __future__ import annotations

import pytest
from nbformat import v4

from course_lib.authoring import readable

TITLE = "# A title\n\nSome words."


def notebook(*cells: str | object):
    made = [v4.new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    return v4.new_notebook(cells=made)


def code(source: str = "x", *outputs):
    return v4.new_code_cell(source, outputs=list(outputs), execution_count=1)


def plot(*more):
    shown = v4.new_output("display_data", data={"image/png": "iVBOR", "text/plain": "<Figure>"})
    return code("x", shown, *more)


def shown(html: str):
    return code("x", v4.new_output("execute_result", data={"text/html": html, "text/plain": "x"}))


def printed(text: str):
    return v4.new_output("stream", text=text)


GOOD = {
    "levels that go up and down": "## A\n\n### B\n\n## C",
    "a hash in a code block": "```python\n# not a heading\n#### nor this\n```",
    "an image with words": "![requests per second against time](plot.png)",
    "a comment for the checks": "<!-- invented names -->",
    "a described diagram": "```mermaid\nflowchart LR\n  accDescr: a request goes out\n  A --> B\n```",
    "a link that says where": "[the caching notebook](02_caching.ipynb)",
    "a plot with an alternative text": shown('<img src="p.png" alt="the hit rate rises to 80 %">'),
    "a plot with a sentence": plot(printed("Hit rate rises from 20 % to 80 %.\n")),
}


BAD = {
    "second top heading": ("# Another", "one top heading"),
    "skipped level": ("## A\n\n#### B", "no skipped level"),
    "heading in html": ("## A\n\n<h4>B</h4>", "no HTML"),
    "skip right after the title": ("### A", "no skipped level"),
    "image": ("![](plot.png)", "text alternative"),
    "html image": ('text <img src="plot.png"> text', "no HTML"),
    "diagram": ("```mermaid\nflowchart LR\n  A --> B\n```", "text alternative"),
    "link here": ("Read it [here](a.md).", "links say where they go"),
    "empty link": ("[](a.md)", "links say where they go"),
    "plot with two words": (shown('<img class="p" alt="a plot" src="p.png">'), "text alternative"),
    "plot with no alternative": (shown('<img class="p" src="p.png">'), "text alternative"),
    "plot without words": (plot(), "text alternative"),
}


def test_good_cells_are_let_through():
    assert "\n".join(map(str, readable.findings(notebook(TITLE, *GOOD.values())))) == ""


@pytest.mark.parametrize(("cell", "rule"), BAD.values(), ids=BAD.keys())
def test_a_bad_cell_is_named_with_rule_and_remedy(cell, rule):
    given = notebook(TITLE, cell)

    (found,) = readable.findings(given)

    assert (found.rule, found.remedy in str(found)) == (rule, True)
    assert found.cell in ("", given.cells[1].id)


@pytest.mark.parametrize("cells", [["Words."], ["Words.", TITLE]], ids=["none", "below the first cell"])
def test_a_notebook_whose_title_is_not_on_top_is_named(cells):
    assert [finding.rule for finding in readable.findings(notebook(*cells))] == ["one top heading"]


def lines(count: int):
    return code("\n".join(["x = 1"] * count))


FORMS = {
    "good": ([TITLE, lines(3), "w", lines(30), *map(lines, [20] * 3)], []),
    "a very long cell": ([TITLE, lines(31)], ["short code cells"]),
    "many long cells": ([TITLE, lines(21), "w", lines(21), "w", lines(2)], ["short code cells"]),
    "a wall of code": ([TITLE, *map(lines, [2] * 5)], ["words before code"]),
    "nothing runs early": ([TITLE, "b", "c", "d", lines(2)], ["something runs early"]),
}


@pytest.mark.parametrize(("cells", "rules"), FORMS.values(), ids=FORMS.keys())
def test_bad_form_is_named(cells, rules):
    assert [finding.rule for finding in readable.form_findings(notebook(*cells))] == rules
