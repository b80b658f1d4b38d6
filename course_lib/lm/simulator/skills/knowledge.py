"""Everyday facts: capitals, currencies, chemistry, planets, authors, famous dates.

Main path: recall(question) -> Fact or None. The facts are in facts.json, `subject=answer` by kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

from course_lib.lm.simulator.skills import words

_SMALL = frozenset(words.ENGLISH["small"].split())


@dataclass(frozen=True, slots=True)
class Fact:
    """An answer, as a word or two and as a sentence, and what it answers."""

    short: str
    sentence: str
    asks: tuple[tuple[str, ...], ...] = ()
    subject: tuple[str, ...] = ()


def _roots(text: str) -> tuple[str, ...]:
    return tuple(words.stem(word) for word in words.words(text) if word not in _SMALL)


@cache
def _rows() -> dict[str, list[Fact]]:
    """Return the rows by the first word of their subject, the longest subjects first."""
    rows: dict[str, list[Fact]] = {}
    for part in words.data("facts.json").values():
        asks = tuple(_roots(ask) for ask in part["ask"])
        for line in part["rows"].split("; "):
            subject, _, answer = line.partition("=")
            sentence = part["say"].format(s=subject, o=answer)
            row = Fact(answer, sentence[:1].upper() + sentence[1:], asks, _roots(subject))
            rows.setdefault(row.subject[0], []).append(row)
    for same_start in rows.values():
        same_start.sort(key=lambda row: -len(row.subject))
    return rows


@lru_cache(maxsize=1024)
def recall(question: str) -> Fact | None:
    """Return the fact that `question` asks for, or None if it is not known here."""
    if len(question) > 300:
        return None
    roots = _roots(question)
    have = set(roots)
    rows = (row for root in roots for row in _rows().get(root, ()))
    asked = (row for row in rows if not row.asks or any(have.issuperset(ask) for ask in row.asks))
    named = [row for row in asked if _names(roots, have, row)]
    return max(named, key=lambda row: 2 * len(row.subject) + bool(row.asks), default=None)


def _names(roots: tuple[str, ...], have: set[str], row: Fact) -> bool:
    """Say whether the question names the row's subject and little else."""
    if not have.issuperset(row.subject):
        return False
    known = set(row.subject).union(*row.asks)
    left = [root for root in roots if root not in known and root not in words.STOP]
    return len(left) <= (1 if row.asks else 2)
