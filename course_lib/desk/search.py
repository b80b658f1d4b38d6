"""A small search engine over the help articles: BM25, the formula most search servers start from.

Main path: Index(articles).search(question) -> the articles that share rare words with it, best first.
Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from course_lib.desk.help_centre import Article, articles

K1 = 1.2  # how soon a repeated word stops counting
B = 0.75  # how much a long text is held against it
HEAD_WEIGHT = 4  # a word of the title or keywords counts as if the body held it this often

_WORD = re.compile(r"\b(?![0-9]+\b)[a-z0-9]+")
_STOP_WORDS = frozenset(
    """
    a about after again all also am an and any are as at be because been before being but by can
    could did do does doing don for from get got had has have he hello her here hi him his how i if
    in into is it its just know like ll m me more my no not now of on only or our out please re s
    she should so some still t than thank thanks that the their them then there they this to too up
    us ve very want was we were what when where which while who why will with would you your monday
    tuesday wednesday thursday friday saturday sunday something anything someone somebody anybody
    nothing
    """.split()  # noqa: SIM905 - a list of 120 strings is harder to read
)
# Longest first; a stem keeps at least three letters, so that "bring" does not become "br".
_ENDINGS = (("ies", "y"), ("ing", ""), ("ied", "y"), ("es", ""), ("ed", ""), ("s", ""), ("e", ""))
_SHORTEST_STEM = 3
_DOUBLED = re.compile(r"([bdfgmnprt])\1$")  # shipp(ed) -> ship


class Hit(NamedTuple):
    """One article found."""

    score: float
    """BM25 score above 0; comparable within one search only."""
    article: Article
    """The article."""


def stem(word: str) -> str:
    """Cut a plural, a verb's ending or a final e from a lower-case word, roughly.

    >>> [stem(word) for word in ("deliveries", "shipping", "shipped", "charged", "charges", "bus")]
    ['delivery', 'ship', 'ship', 'charg', 'charg', 'bus']
    """
    if word.endswith(("ss", "us")):
        return word
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return _DOUBLED.sub(r"\1", word[: -len(ending)]) + instead
    return word


def terms(text: str) -> list[str]:
    """Split a text into the stems that search compares, without accents, stop words and bare numbers.

    >>> terms("Where are my 2 parcels, señora?")
    ['parcel', 'senora']
    """
    plain = unicodedata.normalize("NFKD", text.lower()).replace("e-mail", "email")
    words = _WORD.findall("".join(letter for letter in plain if not unicodedata.combining(letter)))
    return [stem(word) for word in words if word not in _STOP_WORDS]


class Index:
    """The articles, counted once, ready to be searched."""

    def __init__(self, pages: Iterable[Article]) -> None:
        self._pages = sorted(pages, key=lambda page: page.id)
        heads = [f"{page.title} {' '.join(page.keywords)}" for page in self._pages]
        self._counts = [
            Counter(terms(head) * HEAD_WEIGHT + terms(page.body))
            for head, page in zip(heads, self._pages, strict=True)
        ]
        lengths = [counts.total() for counts in self._counts]
        mean = sum(lengths) / max(1, len(lengths)) or 1.0  # no article may hold a word
        self._length_norms = [K1 * (1 - B + B * length / mean) for length in lengths]
        self._document_counts = Counter(term for counts in self._counts for term in counts)

    def search(self, question: str, k: int | None = None) -> list[Hit]:
        """Return the `k` best articles (all that match if None), best first; equal scores in order of id."""
        query = Counter(terms(question))
        scores = (self._score(query, at) for at in range(len(self._pages)))
        hits = [Hit(score, page) for score, page in zip(scores, self._pages, strict=True) if score > 0]
        return sorted(hits, key=lambda hit: (-hit.score, hit.article.id))[:k]

    def _score(self, query: Counter[str], at: int) -> float:
        counts, length_norm = self._counts[at], self._length_norms[at]
        return sum(
            self._rarity(term) * counts[term] * (K1 + 1) / (counts[term] + length_norm)
            for term in query  # a fixed order: floats added in the order of a set differ between runs
            if term in counts
        )

    def _rarity(self, term: str) -> float:
        count = self._document_counts[term]
        return math.log(1 + (len(self._pages) - count + 0.5) / (count + 0.5))


@lru_cache(maxsize=1)
def _index() -> Index:
    return Index(articles())


def search_articles(question: str, k: int | None = None) -> list[Hit]:
    """Search the help centre: the `k` best articles (all that match if None), best first."""
    return _index().search(question, k)
