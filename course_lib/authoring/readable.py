"""What makes a notebook one that everybody can read, as far as its file tells.

Main path: findings(notebook) -> every broken rule, with its cell; form_findings(notebook) for learners' ones.
Source: WCAG 2.2 (1.1.1, 1.3.1, 2.4.4). The shown page is judged by axe-core (tests/browser).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
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
RUNS_BY_CELL = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule."""

    rule: str
    what: str
    """What is wrong, with the text at that place."""
    remedy: str
    cell: str = ""
    """Id of the cell, when it is about one."""

    def __str__(self) -> str:
        where = f"cell {self.cell}: " if self.cell else ""
        return f"{where}{self.what}. {self.remedy}. ({self.rule})"


def findings(notebook: Any) -> list[Finding]:
    """Return every rule of access that a notebook's text and stored outputs break."""
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


def _headings(notebook: Any) -> Iterator[Finding]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    headings = [
        (cell.id, int(token.tag[1]))
        for cell in cells
        for token in _tokens(cell)
        if token.type == "heading_open"
    ]
    tops = [cell_id for cell_id, level in headings if level == 1]
    if tops != [notebook.cells[0].id]:
        what = f"top headings are in these cells: {', '.join(tops) or 'none'}"
        yield Finding("one top heading", what, "Give the first cell one line that starts with '# '")
    before = headings[0][1] if headings else 0
    for cell_id, level in headings:
        if level > before + 1:
            what = f"a heading goes from level {before} to {level}"
            yield Finding("no skipped level", what, f"Make it level {before + 1}", cell_id)
        before = level


def _alternatives(cell: Any) -> Iterator[Finding]:
    for token in _tokens(cell):
        if token.type.startswith("html") and not token.content.startswith("<!--"):
            what = f"HTML in Markdown: {token.content.strip()[:40]!r}"
            yield Finding("no HTML", what, "Write it as Markdown, which other rules can read", cell.id)
        if token.type == "image" and not token.content.strip():
            what = f"image {token.attrs['src']!r} has no alternative text"
            yield Finding("text alternative", what, "Write ![what it shows](...)", cell.id)
        is_diagram = token.type == "fence" and token.info.strip() == "mermaid"
        if is_diagram and not re.search(r"accTitle\s*:|accDescr\s*[:{]", token.content):
            remedy = "Add a line 'accDescr: what the diagram shows' below its first line"
            yield Finding("text alternative", "a mermaid diagram has no description", remedy, cell.id)


def _links(cell: Any) -> Iterator[Finding]:
    tokens = _tokens(cell)
    for token in tokens:
        if token.type == "link_open":
            inside = takewhile(lambda each: each.type != "link_close", tokens)
            words = "".join(each.content for each in inside).strip()
            if words.strip(".:").lower() in VAGUE:
                what = f"link to {token.attrs['href']!r} reads {words!r}"
                yield Finding("links say where they go", what, "Name the target in the link's text", cell.id)


def _plots(cell: Any) -> Iterator[Finding]:
    bundles = [output.data for output in cell.outputs if "data" in output]
    printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    is_bare = any(IMAGES & bundle.keys() for bundle in bundles)
    words = [printed] if is_bare else []
    words += [alt for bundle in bundles for alt in IMG.findall(bundle.get("text/html", ""))]
    if any(len(each.split()) < WORDS_FOR_AN_IMAGE for each in words):
        remedy = f"Use plot(figure, alt), and say in {WORDS_FOR_AN_IMAGE} words or more what it shows"
        yield Finding("text alternative", "a plot comes without words", remedy, cell.id)


def form_findings(notebook: Any) -> list[Finding]:
    """Return every rule of form that a notebook breaks: short cells, words before code, something early."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = [*_lengths(code), *_walls(notebook.cells)]
    if not any(cell.cell_type == "code" for cell in notebook.cells[:RUNS_BY_CELL]):
        what = f"nothing runs in the first {RUNS_BY_CELL} cells"
        found.append(Finding("something runs early", what, "Move the set-up cell up"))
    return found


def _lengths(code: list[Any]) -> Iterator[Finding]:
    lines = {cell.id: len(cell.source.rstrip().split("\n")) for cell in code}
    long = [f"{name} ({count})" for name, count in lines.items() if count > LINES]
    allowed = max(1, int(LONG_SHARE * len(code)))
    if len(long) > allowed or max(lines.values(), default=0) > LONGEST_LINES:
        what = f"{len(long)} of {len(code)} code cells have more than {LINES} lines: {', '.join(long)}"
        remedy = f"Split or shorten until {allowed} are left, none over {LONGEST_LINES}"
        yield Finding("short code cells", what, remedy)


def _walls(cells: list[Any]) -> Iterator[Finding]:
    for kind, group in groupby(cells, key=lambda cell: cell.cell_type):
        run = list(group)
        if kind == "code" and len(run) > CODE_CELLS_IN_A_ROW:
            what = f"{len(run)} code cells in a row"
            yield Finding("words before code", what, "Say between them what happens next", run[0].id)
