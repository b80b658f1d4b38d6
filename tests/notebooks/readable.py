"""What makes a notebook one that everybody can read, as far as its file tells.

Main path: findings(notebook) -> every broken rule, with its cell; form_findings(notebook) for learners' ones.
Source: WCAG 2.2 (1.1.1, 1.3.1, 2.4.4). The shown page is judged by axe-core (tests/browser).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby, takewhile
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

VAGUE = frozenset(("", "here", "click here", "this", "this link", "this page", "link", "more", "read more"))
IMAGES = {"image/png", "image/jpeg", "image/svg+xml"}
IMG = re.compile(r'<img\b(?:[^>]*?\balt="([^"]*)")?')
WORDS_FOR_AN_IMAGE = 5
MARKDOWN = MarkdownIt("commonmark").enable("table")

LINES, LONGEST_LINES = 20, 30
LONG_SHARE = 0.1
"""Share of a notebook's code cells that may be longer than LINES."""
CODE_CELLS_IN_A_ROW = 4
"""An exercise, its check, its hint and its solution."""


def findings(notebook: Any) -> list[str]:
    """Return every rule of access that a notebook breaks, with the cell and what to do."""
    found = list(_headings(notebook))
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found += [*_alternatives(cell), *_links(cell)]
        elif cell.cell_type == "code":
            found += _plots(cell)
    return found


def _tokens(cell: Any) -> Iterator[Token]:
    for token in MARKDOWN.parse(cell.source):
        yield token
        yield from token.children or ()


def _headings(notebook: Any) -> Iterator[str]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    headings = [
        (cell.id, int(token.tag[1]))
        for cell in cells
        for token in _tokens(cell)
        if token.type == "heading_open"
    ]
    tops = [cell_id for cell_id, level in headings if level == 1]
    if tops != [notebook.cells[0].id]:
        yield f"top headings are in {', '.join(tops) or 'no cell'}: start the first cell alone with '# '"
    before = headings[0][1] if headings else 0
    for cell_id, level in headings:
        if level > before + 1:
            yield f"cell {cell_id}: a heading goes from level {before} to {level}: make it {before + 1}"
        before = level


def _alternatives(cell: Any) -> Iterator[str]:
    for token in _tokens(cell):
        if token.type.startswith("html") and not token.content.startswith("<!--"):
            text = token.content.strip()[:40]
            yield f"cell {cell.id}: {text!r} is HTML: write it as Markdown, which the other rules can read"
        if token.type == "image" and not token.content.strip():
            where = token.attrs["src"]
            yield f"cell {cell.id}: image {where!r} has no alternative text: write ![what it shows](...)"
        is_diagram = token.type == "fence" and token.info.strip() == "mermaid"
        if is_diagram and not re.search(r"accTitle\s*:|accDescr\s*[:{]", token.content):
            yield f"cell {cell.id}: a mermaid diagram without words: add 'accDescr: what it shows' on line 2"


def _links(cell: Any) -> Iterator[str]:
    tokens = _tokens(cell)
    for token in tokens:
        if token.type == "link_open":
            inside = takewhile(lambda each: each.type != "link_close", tokens)
            words = "".join(each.content for each in inside).strip()
            if words.strip(".:").lower() in VAGUE:
                where = token.attrs["href"]
                yield f"cell {cell.id}: the link to {where!r} reads {words!r}: name its target in its text"


def _plots(cell: Any) -> Iterator[str]:
    bundles = [output.data for output in cell.outputs if "data" in output]
    words = [alt for bundle in bundles for alt in IMG.findall(bundle.get("text/html", ""))]
    words += ["" for bundle in bundles if IMAGES & bundle.keys()]
    if any(len(each.split()) < WORDS_FOR_AN_IMAGE for each in words):
        yield f"cell {cell.id}: a plot without words: plot(figure, alt), {WORDS_FOR_AN_IMAGE} words at least"


def form_findings(notebook: Any) -> list[str]:
    """Return every rule of form that a notebook breaks: short cells, and words between them."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [*_lengths(code), *_walls(notebook.cells)]


def _lengths(code: list[Any]) -> Iterator[str]:
    lines = {cell.id: len(cell.source.rstrip().split("\n")) for cell in code}
    long = [f"{name} ({count})" for name, count in lines.items() if count > LINES]
    allowed = max(1, int(LONG_SHARE * len(code)))
    if len(long) > allowed or max(lines.values(), default=0) > LONGEST_LINES:
        yield (
            f"{len(long)} of {len(code)} code cells have more than {LINES} lines: {', '.join(long)}: "
            f"split or shorten until {allowed} are left, none over {LONGEST_LINES}"
        )


def _walls(cells: list[Any]) -> Iterator[str]:
    for kind, group in groupby(cells, key=lambda cell: cell.cell_type):
        run = list(group)
        if kind == "code" and len(run) > CODE_CELLS_IN_A_ROW:
            yield f"cell {run[0].id}: {len(run)} code cells in a row: say between them what happens next"
