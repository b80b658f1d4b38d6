"""Guards: reasons why two questions cannot have the same answer, however near their vectors are.

Main path: refusal(asked, cached) walks GUARDS; the first with a reason gives Refusal(guard, reason).
A vector knows that Norway and Switzerland are alike. That is what it is for, and why it is not enough here.

Each guard takes two questions and returns a reason, or an empty text. They look at numbers, names, negation,
word order and at how alike two sentences are; data/vocabulary.toml adds what words mean in this shop. Each
guard costs hits and saves wrong answers; data/README.md says how many of each kind still get through.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

Guard = Callable[[str, str], str]
"""(asked, cached question) -> why the one's answer is not the other's, or an empty text."""


class Refusal(NamedTuple):
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

_PERSONS = {"i": "i", "me": "i", "my": "i", "you": "you", "your": "you"}
_LONGEST_CHANGE_WORDS = 4
_ALIKE_SHARE = 0.7
"""Of the words of both questions, so many in common make them the same sentence."""

_READ = tomllib.loads((Path(__file__).parent / "data" / "vocabulary.toml").read_text("utf-8"))
_FUNCTION_WORDS, _RELATIONS = (frozenset(_READ[name].split()) for name in ("function_words", "relations"))
_UNITS = {unit: (base, factor) for base, units in _READ["units"].items() for unit, factor in units.items()}


def _spellings(lines: Iterable[str]) -> dict[str, str]:
    """Read lines of comma-separated spellings; the first of a line is the meaning of all in it."""
    return {each: line.split(", ")[0] for line in lines for each in line.split(", ")}


def _finder(meanings: Mapping[str, str]) -> Callable[[str], set[str]]:
    """Return a function: text -> the meanings whose spellings it holds."""
    longest_first = sorted(meanings, key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})(?![\w-])")
    return lambda text: {meanings[spelling] for spelling in pattern.findall(_plain(text))}


_KINDS = _READ["strict"] | _READ["names"]
_NAMED = {kind: _finder(_spellings(lines)) for kind, lines in _KINDS.items()}
_MEANINGS = _spellings(line for kind, lines in _KINDS.items() for line in lines if kind != "negation")
_STRICT = {word for lines in _READ["strict"].values() for name in _spellings(lines) for word in name.split()}
_OPPOSITES = [_finder(_spellings(lines)) for lines in _READ["opposites"]]
_ASKS = _finder({each: what for what, lines in _READ["asks"].items() for each in _spellings(lines)})
_NUMBERS = (
    {str(number): str(number) for number in range(1000)} | _READ["marks"]["numbers"] | _READ["number_words"]
)
_DIRECTIONS, _NEGATIONS = _READ["marks"]["directions"], _READ["marks"]["negations"]
_THINGS = {line.split(", ")[0] for kind, lines in _KINDS.items() for line in lines if kind != "act"}


@lru_cache(maxsize=4096)
def _plain(text: str) -> str:
    """Return a text in small letters, its apostrophes and spaces made alike."""
    alike = text.lower().replace("\u2019", "'").replace("n't", " not").replace("cannot", "can not")
    return " ".join(alike.split())


@lru_cache(maxsize=4096)
def _words(text: str) -> list[str]:
    """Return the words, numbers and signs of a text, in order: their meaning where it is known, or stem."""
    words = re.findall(
        r"[^\W\d_]+(?:'[a-z]+)?|\d+(?:[.,]\d+)?|[^\w\s.,;:!?'\"()\u2010-\u201d\u2026-]", _plain(text)
    )
    return [_MEANINGS.get(word) or _stem(word) for word in words]


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and word not in _FUNCTION_WORDS:
            return word.removesuffix(ending)
    return word


def _topic(words: Iterable[str]) -> list[str]:
    """Return the words that say what a text is about, in order."""
    return [word for word in words if word not in _FUNCTION_WORDS]


def _differ(asked: Iterable[str], cached: Iterable[str], what: str) -> str:
    one, other = (", ".join(sorted(things)) or "none" for things in (asked, cached))
    return f"{what}: asked {one}, cached {other}"


# -- the guards -----------------------------------------------------------------------------------------

_QUANTITY = re.compile(r"(?<![\w.-])([-+]?\d+(?:[.,]\d+)?)[\s-]?([a-z€%]+)?")
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
    """Refuse other amounts, other numbers of the same thing, and other order, part or model numbers."""
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
    one, other = ({kind: named(text) for kind, named in _NAMED.items()} for text in (asked, cached))
    for kind in _READ["strict"]:
        if one[kind] != other[kind]:
            return _differ(one[kind], other[kind], kind)
    here, there = (set().union(*named.values()) for named in (one, other))
    if here - there and there - here:
        return _differ(here - there, there - here, "names")
    for opposite in _OPPOSITES:
        here, there = opposite(asked), opposite(cached)
        if here - there and there - here:
            return _differ(here, there, "opposites")
    here, there = _ASKS(asked), _ASKS(cached)
    return _differ(here, there, "asks for") if here and there and not here & there else ""


_NAME = re.compile(r"(?<=[^.?!:]\s)[A-Z]\w+")


def names(asked: str, cached: str) -> str:
    """Refuse a name, a weekday or a month that the other does not have; a name begins with a capital."""
    one, other = _capitals(asked) - set(_words(cached)), _capitals(cached) - set(_words(asked))
    return _differ(one, other, "names") if one or other else ""


def _capitals(text: str) -> set[str]:
    """Return the names of a text that the vocabulary does not know; in capitals throughout, it has none."""
    found = [name for name in _NAME.findall(text) if name.lower() not in _STRICT and not text.isupper()]
    return set(_topic(_words(" ".join(found))))


_SIGN = re.compile(r"[^\w\s.,;:!?'\"()\u2010-\u201d\u2026-]|(?<=\w)-(?!\w)")


def _signs(text: str) -> Counter[str]:
    """Count the signs that are no punctuation, and the words that capitals make a name: A++, ****, US."""
    names = [name for name in _NAME.findall(text) if name.isupper() and name.lower() in _FUNCTION_WORDS]
    signs = [sign for sign in _SIGN.findall(text) if sign not in _UNITS]
    return Counter(signs if text.isupper() else signs + names)


def marks(asked: str, cached: str) -> str:
    """Refuse other signs, and what is counted, directed or negated otherwise: A++; changed, not by me."""
    if (signs := _signs(asked)) != _signs(cached):
        return _differ(signs.elements(), _signs(cached).elements(), "signs")
    one, other = _words(asked), _words(cached)
    for meanings in (_NUMBERS, _DIRECTIONS, _NEGATIONS):
        here, there = _marked(one, meanings), _marked(other, meanings)
        shared = set(one) & set(other) if meanings is _NEGATIONS else here.keys() & there.keys()
        for thing in shared:
            if here.get(thing) != there.get(thing):
                return f"{thing}: asked {here.get(thing, '-')}, cached {there.get(thing, '-')}"
    return ""


def _marked(words: Sequence[str], meanings: Mapping[str, str]) -> dict[str, str]:
    """Return the word of the topic behind each mark, with its mark: {"norway": "to"}."""
    behind = {at: [*_topic(words[at + 1 :]), ""][0] for at, word in enumerate(words) if word in meanings}
    return {thing: str(meanings[words[at]]) for at, thing in behind.items()}


def order(asked: str, cached: str) -> str:
    """Refuse the same words the other way round: points for euros, the Alder before the Dovre, you to me."""
    one, other = _words(asked), _words(cached)
    is_same_topic = sorted(_topic(one)) == sorted(_topic(other))
    for kept in (_THINGS, set(_topic(one)), _RELATIONS, _PERSONS) if is_same_topic else (_THINGS,):
        here, there = ([_PERSONS.get(word, word) for word in words if word in kept] for words in (one, other))
        if here != there and (kept is _RELATIONS or sorted(here) == sorted(there)):
            return f"order: asked {' '.join(here)}, cached {' '.join(there)}"
    return ""


def same_words(asked: str, cached: str) -> str:
    """Refuse what is the same sentence but for a few words: who means the same words it otherwise."""
    one, other = _words(asked), _words(cached)
    first = _common(one, other)
    last = _common(one[first:][::-1], other[first:][::-1])
    longest_change = max(len(one), len(other)) - first - last
    is_edited = first + last >= min(len(one), len(other)) / 2 and longest_change <= _LONGEST_CHANGE_WORDS
    common = (Counter(one) & Counter(other)).total()
    if not is_edited and 2 * common < _ALIKE_SHARE * (len(one) + len(other)):
        return ""
    here, there = set(one) - set(other), set(other) - set(one)
    if set(_topic(here)) == set(_topic(there)):
        here, there = here & _RELATIONS, there & _RELATIONS
    return _differ(here, there, "same but for") if here != there else ""


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many words two lists have in common from the beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


GUARDS: tuple[Guard, ...] = (numbers, names, terms, marks, order, same_words)
"""All guards, the surest reasons first."""
