"""What a notebook must offer to a reader who does not see it, or sees it in another theme.

Main path: findings(notebook) -> what breaks a rule, by cell; html_findings(text) for a lab's own HTML.
Source: WCAG 2.2 (1.1.1, 1.3.1, 1.4.1, 1.4.3, 2.4.4), as far as a program can tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from course_lib.authoring.markup import Element, parse_html, parse_markdown

VAGUE = frozenset(
    {"", "here", "click here", "this", "this link", "this page", "link", "more", "read more", "see here"}
)
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
COLOURS = ("background", "background-color", "border-color", "border-left-color", "color", "fill")
COLOUR_SYMBOLS = re.compile("[\U0001f534\U0001f535\U0001f7e0-\U0001f7eb\u26aa\u26ab\U0001f6d1]")
IMAGES = ("image/png", "image/jpeg", "image/svg+xml")
WORDS_FOR_AN_IMAGE = 5
READABLE_RATIO = 4.5
_HEX = re.compile(r"#([0-9a-f]{6}|[0-9a-f]{3})")
_SELF_EXPLAINING = ("img", "svg", "input", "button", "progress", "meter", "canvas")


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule."""

    rule: str
    what: str
    """What is wrong, the place in the text included."""
    remedy: str
    cell: str = ""
    """Id of the cell, when it is about one."""

    def __str__(self) -> str:
        where = f"cell {self.cell}: " if self.cell else ""
        return f"{where}{self.what}. {self.remedy}. ({self.rule})"


def findings(notebook: Any) -> list[Finding]:
    """Return every accessibility rule that a notebook breaks, its stored outputs included."""
    trees = [
        (cell.id, parse_markdown(cell.source)) for cell in notebook.cells if cell.cell_type == "markdown"
    ]
    found = list(_headings(notebook, trees))
    for cell_id, tree in trees:
        found += _in_cell(cell_id, _tree_findings(tree))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            found += _in_cell(cell.id, _output_findings(cell.outputs))
    return found


def html_findings(text: str) -> list[Finding]:
    """Return every rule that a piece of HTML breaks."""
    return list(_tree_findings(parse_html(text)))


def _in_cell(cell_id: str, found: Iterator[Finding]) -> Iterator[Finding]:
    for finding in found:
        yield Finding(finding.rule, finding.what, finding.remedy, cell_id)


def _headings(notebook: Any, trees: list[tuple[str, Element]]) -> Iterator[Finding]:
    headings = [
        (cell_id, element) for cell_id, tree in trees for element in tree.walk() if element.tag in HEADINGS
    ]
    tops = [cell_id for cell_id, element in headings if element.tag == "h1"]
    if len(tops) != 1:
        what = f"{len(tops)} top headings" + (f" (in cells {', '.join(tops)})" if tops else "")
        yield Finding("one top heading", what, "Give the notebook one line that starts with '# '")
    elif tops[0] != notebook.cells[0].id:
        yield Finding("one top heading", "the top heading is not in the first cell", "Move it there", tops[0])
    level = 0
    for cell_id, element in headings:
        now = HEADINGS.index(element.tag) + 1
        if now > level + 1 and level:
            what = f"heading {element.text!r} goes from level {level} to {now}"
            yield Finding("no skipped level", what, f"Make it level {level + 1}", cell_id)
        if not element.text:
            yield Finding("no empty heading", f"a level {now} heading without text", "Give it words", cell_id)
        level = now


def _tree_findings(tree: Element) -> Iterator[Finding]:
    for element in tree.walk():
        for rule in RULES:
            yield from rule(element)


def _image(element: Element) -> Iterator[Finding]:
    if element.tag == "img" and not element.attributes.get("alt", "").strip() and not element.has_name():
        source = element.attributes.get("src", "")[:60]
        yield Finding(
            "text alternative", f"image {source!r} has no alternative text", "Write ![what it shows](...)"
        )


def _svg(element: Element) -> Iterator[Finding]:
    if element.tag != "svg" or element.attributes.get("aria-hidden") == "true":
        return
    titled = any(child.tag == "title" and child.text for child in element.children)
    if not (titled or element.has_name()) or "role" not in element.attributes:
        remedy = 'Give it role="img" and a <title>, or aria-hidden="true" if it only decorates'
        yield Finding("text alternative", "an <svg> has no role or no title", remedy)


def _mermaid(element: Element) -> Iterator[Finding]:
    is_diagram = element.tag == "code" and "language-mermaid" in element.attributes.get("class", "")
    if is_diagram and not re.search(r"accTitle\s*:|accDescr\s*[:{]", element.own_text):
        remedy = "Add a line 'accDescr: what the diagram shows' below its first line"
        yield Finding("text alternative", "a mermaid diagram has no description", remedy)


def _colour_alone(element: Element) -> Iterator[Finding]:
    if element.tag in _SELF_EXPLAINING or not any(name in element.style for name in COLOURS):
        return
    inside = list(element.walk())
    says = any(each.text or each.has_name() or each.tag in _SELF_EXPLAINING for each in inside)
    if not says and not any(each.tag == "svg" for each in element.ancestors()):
        what = (
            f"a coloured <{element.tag}> says nothing in words (style {element.attributes['style'][:60]!r})"
        )
        yield Finding(
            "no state by colour alone", what, 'Put the state in words, or mark it aria-hidden="true"'
        )


def _colour_symbol(element: Element) -> Iterator[Finding]:
    if COLOUR_SYMBOLS.search(element.own_text) and not re.search(r"[^\W\d_]", element.text):
        what = f"{element.text[:40]!r} tells its state by the colour of a symbol"
        yield Finding("no state by colour alone", what, "Write the state beside it")


def _theme(element: Element) -> Iterator[Finding]:
    style = element.style
    background = _fixed(style.get("background-color") or style.get("background"))
    if background and "color" not in style:
        what = f"background {background!r} with the theme's text colour"
        yield Finding("readable in both themes", what, "Set color too, or use var(--jp-layout-color2)")
    text = _fixed(style.get("color"))
    if text and not any(_has_background(each) for each in (element, *element.ancestors())):
        what = f"text colour {text!r} on the theme's background"
        yield Finding(
            "readable in both themes", what, "Set background too, or use var(--jp-content-font-color1)"
        )


def _contrast(element: Element) -> Iterator[Finding]:
    text, background = (_HEX.fullmatch(element.style.get(name, "")) for name in ("color", "background"))
    if text is None or not element.text:
        return
    background = background or _HEX.fullmatch(element.style.get("background-color", ""))
    if background and (ratio := _ratio(text[1], background[1])) < READABLE_RATIO:
        what = f"text {text[0]} on {background[0]} has a contrast of {ratio:.1f}"
        yield Finding("contrast", what, f"Choose colours with at least {READABLE_RATIO}")


def _ratio(one: str, other: str) -> float:
    """Return the contrast of two colours written in hex, 1 for none to 21 for black on white (WCAG 1.4.3)."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(digits: str) -> float:
    pairs = [digits[n : n + 2] for n in (0, 2, 4)] if len(digits) == 6 else [2 * digit for digit in digits]
    shares = [int(pair, 16) / 255 for pair in pairs]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _fixed(colour: str | None) -> str | None:
    """Return a colour that stays the same in the dark theme, None for one that follows the theme."""
    free = ("var(", "transparent", "none", "inherit", "initial", "unset", "currentcolor", "canvas", "url(")
    return colour if colour and not colour.startswith(free) else None


def _has_background(element: Element) -> bool:
    style = element.style
    return bool(_fixed(style.get("background-color") or style.get("background")))


def _link(element: Element) -> Iterator[Finding]:
    if element.tag != "a" or "href" not in element.attributes or element.has_name():
        return
    alternatives = [child.attributes.get("alt", "") for child in element.walk() if child.tag == "img"]
    words = " ".join([element.text, *alternatives]).strip().strip(".:").lower()
    if words in VAGUE:
        what = f"link to {element.attributes['href'][:60]!r} reads {element.text!r}"
        yield Finding("links say where they go", what, "Name the target in the link's text")


def _table(element: Element) -> Iterator[Finding]:
    if element.tag == "table" and not any(each.tag == "th" for each in element.walk()):
        yield Finding("tables have headings", "a <table> without <th>", "Mark its headings as <th>")


RULES: tuple[Callable[[Element], Iterator[Finding]], ...] = (
    _image,
    _svg,
    _mermaid,
    _colour_alone,
    _colour_symbol,
    _theme,
    _contrast,
    _link,
    _table,
)


def _output_findings(outputs: list[Any]) -> Iterator[Finding]:
    bundles = [output.data for output in outputs if "data" in output]
    for bundle in bundles:
        if html := bundle.get("text/html"):
            yield from _tree_findings(parse_html(html))
        if markdown := bundle.get("text/markdown"):
            yield from _tree_findings(parse_markdown(markdown))
    plain = [output.text for output in outputs if output.output_type == "stream"]
    plain += [
        bundle["text/plain"] for bundle in bundles if "text/plain" in bundle and "text/html" not in bundle
    ]
    for line in "\n".join(plain).splitlines():
        yield from _colour_symbol(Element("line", own_text=line))
    if any(kind in bundle for bundle in bundles for kind in IMAGES) and not _is_described(outputs):
        remedy = f"Print a sentence of at least {WORDS_FOR_AN_IMAGE} words that says what it shows"
        yield Finding("text alternative", "a plot comes without words", remedy)


def _is_described(outputs: list[Any]) -> bool:
    said = [output.text for output in outputs if output.output_type == "stream" and output.name == "stdout"]
    for output in outputs:
        data = output.get("data", {})
        said += [parse_html(data.get("text/html", "")).text, data.get("text/markdown", "")]
        said += [
            meta.get("alt", "") for meta in output.get("metadata", {}).values() if isinstance(meta, dict)
        ]
    return len(" ".join(said).split()) >= WORDS_FOR_AN_IMAGE
