"""Guards: reasons why two questions cannot have the same answer, however near their vectors are.

Main path: refusal(asked, cached) walks GUARDS; the first with a reason gives Refusal(guard, reason).
A vector knows that Norway and Switzerland are alike. That is what it is for, and why it is not enough here.

Each guard takes two questions and returns a reason, or an empty text. They were tuned on the calibrate half
of data/pairs.jsonl, with the words of data/vocabulary.toml. Each guard costs hits and saves wrong answers.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

Guard = Callable[[str, str], str]
"""(asked, cached question) -> why the one's answer is not the other's, or an empty text."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which guard refused, and why."""

    guard: str
    reason: str


def refusal(asked: str, cached: str, *, guards: Sequence[Guard] | None = None) -> Refusal | None:
    """Return the first guard that refuses this pair, with its reason; None if none does.

    >>> refusal("Do you ship to Norway?", "Do you ship to Sweden?")
    Refusal(guard='terms', reason='place: asked norway, cached sweden')
    """
    for guard in GUARDS if guards is None else guards:
        if reason := guard(asked, cached):
            return Refusal(getattr(guard, "__name__", type(guard).__name__), reason)
    return None


# -- words ----------------------------------------------------------------------------------------------

_READ = tomllib.loads((Path(__file__).parent / "data" / "vocabulary.toml").read_text("utf-8"))
_FUNCTION_WORDS, _RELATIONS = (frozenset(_READ[name].split()) for name in ("function_words", "relations"))
_UNITS = {unit: (base, factor) for base, units in _READ["units"].items() for unit, factor in units.items()}


def _spellings(lines: Iterable[str]) -> dict[str, str]:
    """Read lines of comma-separated spellings; the first of a line is the meaning of all in it."""
    return {each: line.split(", ")[0] for line in lines for each in line.split(", ")}


def _finder(meanings: Mapping[str, str]) -> Callable[[str], list[str]]:
    """Return a function: plain text -> the meanings whose spellings it holds, each once, in its order."""
    longest_first = sorted(meanings, key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")
    return lambda text: list(dict.fromkeys(meanings[spelling] for spelling in pattern.findall(text)))


_NAMED = {kind: _finder(_spellings(lines)) for kind, lines in (_READ["strict"] | _READ["names"]).items()}
_OPPOSITES = [_finder(_spellings(lines)) for lines in _READ["opposites"]]
_ASKS = _finder({each: what for what, lines in _READ["asks"].items() for each in _spellings(lines)})


@lru_cache(maxsize=4096)
def _plain(text: str) -> str:
    """Return a text in small letters, its apostrophes and spaces made alike."""
    alike = text.lower().replace("\u2019", "'").replace("n't", " not").replace("cannot", "can not")
    return " ".join(alike.split())


@lru_cache(maxsize=4096)
def _names(text: str) -> dict[str, list[str]]:
    """Return what a text names, by kind, each in the text's order."""
    return {kind: named(_plain(text)) for kind, named in _NAMED.items()}


def _words(text: str) -> list[str]:
    """Return the words and numbers of a text, in order, in small letters."""
    return re.findall(r"[^\W\d_]+(?:'[a-z]+)?|\d+(?:[.,]\d+)?", _plain(text))


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def _topic(text: str) -> list[str]:
    """Return the stems of the words that say what a text is about, in order."""
    return [_stem(word) for word in _words(text) if word not in _FUNCTION_WORDS]


def _differ(asked: Iterable[str], cached: Iterable[str], what: str) -> str:
    one, other = (", ".join(sorted(things)) or "none" for things in (asked, cached))
    return f"{what}: asked {one}, cached {other}"


# -- the guards -----------------------------------------------------------------------------------------

_QUANTITY = re.compile(r"(?<![\w.-])([-+]?\d+(?:[.,]\d+)?)\s?([a-z€]+)?")
_IDENTIFIER = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[a-z])[a-z\d]+(?:-[a-z\d]+)*\b")
_ONE = re.compile(r"(?<!times )(?<!once )\b(?:a|an|one) (?=(?:day|week|fortnight|month|year|hour)\b)")


def _quantities(text: str) -> set[tuple[float, str]]:
    """Return the amounts of a text with their units, in days, months, minutes, kg, m, l or eur."""
    spelled = re.sub(r"[a-z]+", lambda word: str(_READ["number_words"].get(word[0], word[0])), _plain(text))
    found = set()
    for number, unit in _QUANTITY.findall(_ONE.sub("1 ", spelled)):
        base, factor = _UNITS.get(unit, ("", 1.0))
        found.add((round(float(number.replace(",", ".")) * factor, 6), base))
    return found


def numbers(asked: str, cached: str) -> str:
    """Refuse other amounts and other order, part or model numbers: 30 days is not 14, and 2 weeks are."""
    here, there = (set(_IDENTIFIER.findall(_plain(text))) for text in (asked, cached))
    if here != there:
        return _differ(here, there, "numbers of things")
    one, other = _quantities(asked), _quantities(cached)
    has_digits_or_units = any(map(str.isdigit, asked + cached)) or any(unit for _, unit in one | other)
    if one == other or not (has_digits_or_units or (one and other)):
        return ""  # "two times" may also be said without a number
    here, there = ({f"{number:g} {unit}".strip() for number, unit in amounts} for amounts in (one, other))
    return _differ(here, there, "amounts")


def terms(asked: str, cached: str) -> str:
    """Refuse another country, product, act, ...; a "not" more; the opposite word; a price for a time."""
    one, other = _names(asked), _names(cached)
    for kind in _READ["strict"]:
        if set(one[kind]) != set(other[kind]):
            return _differ(one[kind], other[kind], kind)
    here, there = (set().union(*named.values()) for named in (one, other))
    if here - there and there - here:
        return _differ(here - there, there - here, "names")
    for opposite in _OPPOSITES:
        here, there = (set(opposite(_plain(text))) for text in (asked, cached))
        if here - there and there - here:
            return _differ(here, there, "opposites")
    here, there = (set(_ASKS(_plain(text))) for text in (asked, cached))
    return _differ(here, there, "asks for") if here and there and not here & there else ""


_TO_OR_FROM = re.compile(r"\b(to|into|from)(?: (?:the|a|an|my|your|our))? (\w+)")


def order(asked: str, cached: str) -> str:
    """Refuse the other way round: to Norway is not from Norway, points to money not money to points."""
    one, other = _names(asked), _names(cached)
    lists = [(one[kind], other[kind], " before ") for kind in one if kind != "act"]
    if _RELATIONS & set(_words(asked)) & set(_words(cached)):
        lists.append((_topic(asked), _topic(cached), " "))
    for here, there, between in lists:
        if here != there and sorted(here) == sorted(there):
            return f"order: asked {between.join(here)}, cached {between.join(there)}"
    to, fro = ({what: way == "from" for way, what in _TO_OR_FROM.findall(_plain(t))} for t in (asked, cached))
    turned = sorted(what for what in to.keys() & fro.keys() if to[what] != fro[what])
    return f"to or from: {', '.join(turned)}" if turned else ""


_LONGEST_CHANGE_WORDS = 4


def one_change(asked: str, cached: str) -> str:
    """Refuse what is the same sentence but for one place: who means the same words it otherwise."""
    one, other = _words(asked), _words(cached)
    first = _common(one, other)
    last = _common(one[first:][::-1], other[first:][::-1])
    changed = one[first : len(one) - last], other[first : len(other) - last]
    is_short = max(map(len, changed)) <= _LONGEST_CHANGE_WORDS
    if first + last < min(len(one), len(other)) / 2 or not is_short:
        return ""
    here, there = (set(map(_stem, part)) - _FUNCTION_WORDS for part in changed)
    return _differ(here, there, "same but for") if here != there else ""


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many words two lists have in common from the beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


GUARDS: tuple[Guard, ...] = (numbers, terms, order, one_change)
"""All guards, the surest reasons first."""
