from __future__ import annotations

import pytest
from nbformat import v4

from course_lib.authoring import a11y, form

TITLE = "# A title\n\nSome words."


def notebook(*cells: str | object):
    made = [v4.new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    return v4.new_notebook(cells=made)


def code(source: str = "x", *outputs):
    return v4.new_code_cell(source, outputs=list(outputs), execution_count=1)


def shown(**data: str):
    kinds = {"plain": "text/plain", "html": "text/html", "png": "image/png", "markdown": "text/markdown"}
    return v4.new_output("display_data", data={kinds[kind]: content for kind, content in data.items()})


GOOD_CELLS = {
    "levels that go up and down": "## A\n\n### B\n\n## C",
    "a hash in a code block": "```python\n# not a heading\n#### nor this\n```",
    "an image with words": "![requests per second against time](plot.png)",
    "decoration": '<img src="line.png" alt="" role="presentation">',
    "a drawing": '<svg role="img"><title>Three boxes in a row</title><rect fill="#333"/></svg>',
    "hidden drawing": '<svg aria-hidden="true"><rect/></svg>',
    "a described diagram": "```mermaid\nflowchart LR\n  accDescr: a request goes out\n  A --> B\n```",
    "colour and words": '<span style="color:var(--jp-success-color1)">passed</span>',
    "colour beside words": '<p>ok <span aria-hidden="true" style="background:#0a0;color:#fff"></span></p>',
    "both colours": '<p style="background:#fff;color:#111">text</p>',
    "theme's colours": '<p style="background:var(--jp-layout-color1,#fff)">text</p>',
    "symbol with words": "| a |\n| - |\n| 🟢 running |",
    "a link that says where": "[the caching notebook](02_caching.ipynb)",
    "a table": "| tier | hits |\n| --- | --- |\n| memory | 3 |",
}


@pytest.mark.parametrize("cell", GOOD_CELLS.values(), ids=GOOD_CELLS.keys())
def test_good_cells_are_let_through(cell):
    assert a11y.findings(notebook(TITLE, cell)) == []


BAD_CELLS = {
    "second top heading": ("# Another", "one top heading"),
    "skipped level": ("## A\n\n#### B", "no skipped level"),
    "skipped level in html": ("## A\n\n<h4>B</h4>", "no skipped level"),
    "skip right after the title": ("### A", "no skipped level"),
    "empty heading": ("##", "no empty heading"),
    "image": ("![](plot.png)", "text alternative"),
    "html image": ('text <img src="plot.png"> text', "text alternative"),
    "svg without title": ('<svg role="img"><rect/></svg>', "text alternative"),
    "svg without role": ("<svg><title>Boxes</title></svg>", "text alternative"),
    "diagram": ("```mermaid\nflowchart LR\n  A --> B\n```", "text alternative"),
    "coloured dot": ('<span style="background:green;color:white"></span>', "no state by colour alone"),
    "coloured cell": (
        '<table><tr><th>a</th></tr><tr><td style="background:#f00;color:#fff"></td></tr></table>',
        "no state by colour alone",
    ),
    "symbol alone": ("| a | b |\n| - | - |\n| cache | 🔴 |", "no state by colour alone"),
    "dark in both themes": ('<p style="color: navy">text</p>', "readable in both themes"),
    "light box": ('<div style="background-color:#ffe">text</div>', "readable in both themes"),
    "grey on grey": ('<p style="background:#eee;color:#999999">text</p>', "contrast"),
    "link here": ("Read it [here](a.md).", "links say where they go"),
    "empty link": ("[](a.md)", "links say where they go"),
    "table without headings": ("<table><tr><td>1</td></tr></table>", "tables have headings"),
}


@pytest.mark.parametrize(("cell", "rule"), BAD_CELLS.values(), ids=BAD_CELLS.keys())
def test_bad_cells_are_named(cell, rule):
    found = a11y.findings(notebook(TITLE, cell))

    assert [finding.rule for finding in found] == [rule], found
    assert found[0].remedy


def test_a_notebook_without_a_title_is_named():
    assert [finding.rule for finding in a11y.findings(notebook("Words."))] == ["one top heading"]


def test_a_title_below_the_first_cell_is_named():
    found = a11y.findings(notebook("Words.", TITLE))

    assert [finding.what for finding in found] == ["the top heading is not in the first cell"]


BAD_OUTPUTS = {
    "plot without words": (shown(png="iVBOR", plain="<Figure size 640x480>"), "text alternative"),
    "html": (shown(html='<b style="background:#f00;color:#fff"></b>'), "no state by colour alone"),
    "markdown": (shown(markdown="![](plot.png)"), "text alternative"),
    "printed symbols": (v4.new_output("stream", text="🟢 🔴\n"), "no state by colour alone"),
}


@pytest.mark.parametrize(("output", "rule"), BAD_OUTPUTS.values(), ids=BAD_OUTPUTS.keys())
def test_bad_outputs_are_named(output, rule):
    cell = code("x", output)

    found = a11y.findings(notebook(TITLE, cell))

    assert [(finding.rule, finding.cell) for finding in found] == [(rule, cell.id)]


def test_a_plot_with_a_printed_sentence_is_let_through():
    said = v4.new_output("stream", text="Hit rate rises from 20 % to 80 %.\n")

    assert a11y.findings(notebook(TITLE, code("x", shown(png="iVBOR"), said))) == []


def test_a_finding_says_cell_fault_remedy_and_rule():
    cell = v4.new_markdown_cell("[here](a.md)", id="intro")

    (found,) = a11y.findings(notebook(TITLE, cell))

    assert str(found) == (
        "cell intro: link to 'a.md' reads 'here'. "
        "Name the target in the link's text. (links say where they go)"
    )


def test_html_of_a_lab_is_judged_by_the_same_rules():
    assert [finding.rule for finding in a11y.html_findings('<img src="x.png">')] == ["text alternative"]


def lines(count: int):
    return code("\n".join(["x = 1"] * count))


BAD_FORMS = {
    "a very long cell": ([TITLE, lines(31)], "short code cells"),
    "many long cells": ([TITLE, lines(21), "w", lines(21), "w", lines(2)], "short code cells"),
    "a wall of code": ([TITLE, *(lines(2) for _ in range(5))], "words before code"),
    "nothing runs early": ([TITLE, "b", "c", "d", lines(2)], "something runs early"),
}


@pytest.mark.parametrize(("cells", "rule"), BAD_FORMS.values(), ids=BAD_FORMS.keys())
def test_bad_form_is_named(cells, rule):
    assert [finding.rule for finding in form.findings(notebook(*cells))] == [rule]


def test_good_form_is_let_through():
    assert form.findings(notebook(TITLE, lines(3), "w", lines(30), *(lines(20) for _ in range(3)))) == []
