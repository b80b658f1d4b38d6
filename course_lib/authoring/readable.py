"""What makes a notebook one that everybody can read, as far as its file tells.

Main path: findings(notebook) -> every broken rule, with its cell; form_findings(notebook) for learners' ones.
Source: WCAG 2.2 (1.1.1, 1.3.1, 1.4.1, 2.4.4). The shown page is judged by axe-core (tests/browser).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby, takewhile
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

VAGUE = frozenset(("", "here", "click here", "this", "this link", "this page", "link", "more", "read more"))
COLOUR_SYMBOLS = re.compile("[\U0001f534\U0001f535\U0001f7e0-\U0001f7eb\u26aa\u26ab\U0001f6d1]")
HTML_IMAGE = re.compile(
    r"<img\b(?![^>]*\b(?:alt=[\"'][^\"']|role=[\"'](?:presentation|none)))[^>]*>", re.IGNORECASE
)
HTML_HEADING = re.compile(r"<h([1-6])\b", re.IGNORECASE)
IMAGES = ("image/png", "image/jpeg", "image/svg+xml")
WORDS_FOR_AN_IMAGE = 5

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
            found += _alternatives(cell)
            found += _links(cell)
            found += _symbols(cell.id, cell.source)
        elif cell.cell_type == "code":
            found += _outputs(cell)
    return found


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table")


def _tokens(source: str) -> Iterator[Token]:
    for token in _markdown().parse(source):
        yield token
        yield from token.children or ()


def _levels(cell: Any) -> Iterator[tuple[int, str]]:
    """Yield level and words of each heading of a Markdown cell, those written as HTML without their words."""
    tokens = list(_tokens(cell.source))
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open":
            yield int(token.tag[1]), after.content if after is not None else ""
        elif token.type == "html_block":
            yield from ((int(level), "in HTML") for level in HTML_HEADING.findall(token.content))


def _headings(notebook: Any) -> Iterator[Finding]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    headings = [(cell.id, level, words) for cell in cells for level, words in _levels(cell)]
    tops = [cell_id for cell_id, level, _ in headings if level == 1]
    if tops != [notebook.cells[0].id]:
        what = f"top headings are in these cells: {', '.join(tops) or 'none'}"
        yield Finding("one top heading", what, "Give the first cell one line that starts with '# '")
    before = headings[0][1] if headings else 0
    for cell_id, level, words in headings:
        if level > before + 1:
            what = f"heading {words!r} goes from level {before} to {level}"
            yield Finding("no skipped level", what, f"Make it level {before + 1}", cell_id)
        if not words:
            what = f"a level {level} heading without text"
            yield Finding("no empty heading", what, "Give it words", cell_id)
        before = level


def _alternatives(cell: Any) -> Iterator[Finding]:
    for token in _tokens(cell.source):
        bare = HTML_IMAGE.search(token.content) if token.type.startswith("html") else None
        if bare or (token.type == "image" and not token.content.strip()):
            what = f"image {bare[0] if bare else token.attrs['src']!r} has no alternative text"
            yield Finding("text alternative", what, "Write ![what it shows](...)", cell.id)
        is_diagram = token.type == "fence" and token.info.strip() == "mermaid"
        if is_diagram and not re.search(r"accTitle\s*:|accDescr\s*[:{]", token.content):
            remedy = "Add a line 'accDescr: what the diagram shows' below its first line"
            yield Finding("text alternative", "a mermaid diagram has no description", remedy, cell.id)


def _links(cell: Any) -> Iterator[Finding]:
    tokens = _tokens(cell.source)
    for token in tokens:
        if token.type == "link_open":
            inside = takewhile(lambda each: each.type != "link_close", tokens)
            words = "".join(each.content for each in inside).strip()
            if words.strip(".:").lower() in VAGUE:
                what = f"link to {token.attrs['href']!r} reads {words!r}"
                yield Finding("links say where they go", what, "Name the target in the link's text", cell.id)


def _symbols(cell_id: str, text: str) -> Iterator[Finding]:
    for line in text.splitlines():
        if COLOUR_SYMBOLS.search(line) and not re.search(r"[^\W\d_]", line):
            what = f"{line.strip()[:40]!r} tells its state by the colour of a symbol"
            yield Finding("no state by colour alone", what, "Write the state beside it", cell_id)


def _outputs(cell: Any) -> Iterator[Finding]:
    bundles = [output.data for output in cell.outputs if "data" in output]
    printed = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    yield from _symbols(cell.id, "\n".join([printed, *(each.get("text/plain", "") for each in bundles)]))
    words = [printed, *(re.sub(r"<[^>]*>", " ", each.get("text/html", "")) for each in bundles)]
    has_image = any(kind in bundle for bundle in bundles for kind in IMAGES)
    if has_image and len(" ".join(words).split()) < WORDS_FOR_AN_IMAGE:
        remedy = f"Print a sentence of at least {WORDS_FOR_AN_IMAGE} words that says what it shows"
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
    remedy = f"Split or shorten until {allowed} are left, none over {LONGEST_LINES}"
    if len(long) > allowed or max(lines.values(), default=0) > LONGEST_LINES:
        what = f"{len(long)} of {len(code)} code cells have more than {LINES} lines: {', '.join(long)}"
        yield Finding("short code cells", what, remedy)


def _walls(cells: list[Any]) -> Iterator[Finding]:
    for kind, group in groupby(cells, key=lambda cell: cell.cell_type):
        run = list(group)
        if kind == "code" and len(run) > CODE_CELLS_IN_A_ROW:
            what = f"{len(run)} code cells in a row"
            yield Finding("words before code", what, "Say between them what happens next", run[0].id)
