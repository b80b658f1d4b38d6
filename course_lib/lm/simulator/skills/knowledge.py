"""Everyday facts: capitals, currencies, chemistry, planets, authors, famous dates.

Main path: recall(question) -> Fact or None. The facts are in facts.json, `subject=answer` by kind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain

from course_lib.lm.simulator.skills import words

_SMALL = frozenset(words.ENGLISH["small"].split())


@dataclass(frozen=True, slots=True)
class Fact:
    """An answer, as a word or two and as a sentence, and what it answers."""

    short: str
    sentence: str
    kind: str = ""
    asks: tuple[tuple[str, ...], ...] = ()
    subject: tuple[str, ...] = ()


def _roots(text: str) -> tuple[str, ...]:
    return tuple(words.stem(word) for word in words.words(text) if word not in _SMALL)


@cache
def _rows() -> dict[str, list[Fact]]:
    """Return the rows by the first word of their subject, the longest subjects first."""
    rows: dict[str, list[Fact]] = {}
    for kind, part in words.data("facts.json").items():
        asks = tuple(_roots(ask) for ask in part["ask"])
        for line in part["rows"].split("; "):
            subject, _, answer = line.partition("=")
            sentence = part["say"].format(s=subject, o=answer)
            row = Fact(answer, sentence[:1].upper() + sentence[1:], kind, asks, _roots(subject))
            rows.setdefault(row.subject[0], []).append(row)
    for same_start in rows.values():
        same_start.sort(key=lambda row: -len(row.subject))
    return rows


@cache
def places(kind: str) -> frozenset[str]:
    """Return the cities or the countries that the facts name, in lower case."""
    rows = (row for same_start in _rows().values() for row in same_start if row.kind == "capital")
    sentences = (row.sentence for row in rows)
    pairs = (re.fullmatch(r"The capital of (?:the )?(.+) is (.+)\.", sentence) for sentence in sentences)
    return frozenset(pair.group(2 if kind == "city" else 1).lower() for pair in pairs if pair)


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
    if not named:
        return _reverse(question, have)
    return max(named, key=lambda row: 2 * len(row.subject) + bool(row.asks))


def _names(roots: tuple[str, ...], have: set[str], row: Fact) -> bool:
    """Say whether the question names the row's subject and little else."""
    if not have.issuperset(row.subject):
        return False
    known = set(row.subject).union(*row.asks)
    left = [root for root in roots if root not in known and root not in words.STOP]
    return len(left) <= (1 if row.asks else 2)


def _reverse(question: str, have: set[str]) -> Fact | None:
    """Answer `Paris is the capital of which country?` from the same rows."""
    symbol = re.fullmatch(
        r"\W*what (?:is|does|stands for) ((?=\S*[A-Z\d])[A-Z][\w]{0,7})(?: stand for| mean)?\W*",
        question,
        re.IGNORECASE,
    )
    named = re.search(r"\b(which|what) (country|element|book|novel|play)\b", question, re.IGNORECASE)
    if symbol and symbol.group(1) != symbol.group(1).lower():
        rows = (row for row in chain.from_iterable(_rows().values()) if row.short == symbol.group(1))
        return next(
            (Fact(" ".join(row.sentence.split(" is ")[0].split(" of ")[-1:]), row.sentence) for row in rows),
            None,
        )
    if not named:
        return None
    for row in chain.from_iterable(_rows().values()):
        answer = set(_roots(row.short))
        if answer and have.issuperset(answer) and any(have.issuperset(ask) for ask in row.asks):
            named = re.search(r"of (?:the )?([\w ]+?) is", row.sentence)
            return Fact(named.group(1) if named else row.sentence, row.sentence)
    return None
