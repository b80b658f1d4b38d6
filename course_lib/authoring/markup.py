"""HTML and Markdown as a small tree of elements, for the rules of a11y.py to walk.

Main path: parse_html(text), parse_markdown(text) -> Element, whose walk() yields it and all below, in order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser

from markdown_it import MarkdownIt

VOID = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr")
)
_DECLARATION = re.compile(r"\s*(?P<name>[\w-]+)\s*:\s*(?P<value>[^;]+)")


@dataclass(slots=True)
class Element:
    """One element with its attributes, its children and the text directly in it."""

    tag: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    own_text: str = ""
    parent: Element | None = None

    @property
    def text(self) -> str:
        """All text in the element and below, spaces collapsed."""
        return " ".join(" ".join(element.own_text for element in self.walk()).split())

    @property
    def style(self) -> dict[str, str]:
        """The declarations of its style attribute, lower case."""
        found = _DECLARATION.finditer(self.attributes.get("style", "").lower())
        return {match["name"]: match["value"].strip() for match in found}

    def walk(self) -> Iterator[Element]:
        """Yield this element and all below it, in the order of the text."""
        yield self
        for child in self.children:
            yield from child.walk()

    def ancestors(self) -> Iterator[Element]:
        """Yield the elements around this one, the nearest first."""
        element = self.parent
        while element is not None:
            yield element
            element = element.parent

    def has_name(self) -> bool:
        """Whether it has a text alternative of its own, or is declared decoration."""
        given = self.attributes
        named = any(given.get(key, "").strip() for key in ("aria-label", "aria-labelledby", "title"))
        decoration = given.get("aria-hidden") == "true" or given.get("role") in ("presentation", "none")
        return named or decoration


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = self._open = Element("")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, parent=self._open)
        self._open.children.append(element)
        if tag not in VOID:
            self._open = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        element: Element | None = self._open
        while element is not None and element.tag != tag:
            element = element.parent
        if element is not None and element.parent is not None:
            self._open = element.parent

    def handle_data(self, data: str) -> None:
        if self._open.tag not in ("style", "script"):
            self._open.own_text += data


def parse_html(text: str) -> Element:
    """Return the tree of a piece of HTML; an unclosed element ends where its parent does."""
    builder = _Builder()
    builder.feed(text)
    builder.close()
    return builder.root


def parse_markdown(text: str) -> Element:
    """Return the tree of a Markdown cell as JupyterLab shows it, the HTML in it included."""
    return parse_html(_markdown().render(text))


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table")
