"""Lantern's help-centre articles: the texts that answers may quote.

Main path: articles() -> one Article per file of data/articles, in order of id.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from course_lib.errors import CourseError

FOLDER = Path(__file__).parent / "data" / "articles"


class ArticleError(CourseError):
    """No article has this id, or its file does not have the head that it needs."""


@dataclass(frozen=True, slots=True)
class Article:
    """One page of the help centre."""

    id: str
    """The file's name without its ending, such as `return-policy`; what citations name."""
    title: str
    """The heading, which other articles use to refer to this one."""
    body: str
    """Markdown; a paragraph, list item or table row is one line, so that sentences are never broken."""
    updated: date
    """When the text was last revised. Where two articles differ, the newer one holds."""
    keywords: tuple[str, ...] = ()
    """What customers say instead of the words of the text; searched, but never shown or quoted."""

    @property
    def chunk(self) -> str:
        """The article as a program gets it in `context`: id in brackets, title, body."""
        return f"[{self.id}] {self.title}\n{self.body}"


def articles() -> list[Article]:
    """Return all articles, in order of id."""
    return list(_by_id().values())


def article(article_id: str) -> Article:
    """Return one article.

    Raises:
        ArticleError: no article has this id.
    """
    try:
        return _by_id()[article_id]
    except KeyError:
        known = ", ".join(_by_id())
        raise ArticleError(f"no article has the id {article_id!r}; known: {known}") from None


@lru_cache(maxsize=1)
def _by_id() -> dict[str, Article]:
    return {path.stem: parse(path.stem, path.read_text("utf-8")) for path in sorted(FOLDER.glob("*.md"))}


def parse(article_id: str, text: str) -> Article:
    r"""Read a file's text: a head of `key: value` lines between two lines `---`, then the body.

    Raises:
        ArticleError: the head is missing, or lacks a title or a date.

    >>> parse("hours", "---\ntitle: Opening hours\nupdated: 2026-02-01\n---\nWe never close.").title
    'Opening hours'
    """
    try:
        _, head, body = text.split("---\n", 2)
        fields = dict(line.split(": ", 1) for line in head.splitlines() if ": " in line)
        keywords = tuple(word.strip() for word in fields.get("keywords", "").split(",") if word.strip())
        updated = date.fromisoformat(fields["updated"])
        return Article(article_id, fields["title"], body.strip(), updated, keywords)
    except (KeyError, ValueError) as error:
        raise ArticleError(
            f"article {article_id!r} begins {text[:80]!r}; it needs a head between two lines '---', "
            f"with a line 'title: ...' and a line such as 'updated: 2026-02-01'"
        ) from error
