"""Guards: reasons why two questions cannot have the same answer, however near their vectors are.

Main path: refusal(asked, cached) walks GUARDS; the first with a reason gives Refusal(guard, reason).
A vector knows that Norway and Switzerland are alike. That is what it is for, and why it is not enough here.

Each guard takes two questions and returns a reason, or an empty text. They were tuned on the calibrate half
of data/pairs.jsonl, with the words of data/vocabulary.toml. Each guard costs hits and saves wrong answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from course_lib.caching.semantic import vocabulary

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


def plain(text: str) -> str:
    """Return a text in small letters, its apostrophes and spaces made alike."""
    alike = text.lower().replace("\u2019", "'").replace("n't", " not").replace("cannot", "can not")
    return " ".join(alike.split())


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text, in order, in small letters."""
    return tuple(re.findall(r"[^\W\d_]+(?:'[a-z]+)?|\d+(?:[.,]\d+)?", plain(text)))


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def _differ(asked: Iterable[object], cached: Iterable[object], what: str) -> str:
    one, other = (", ".join(sorted(map(str, things))) or "none" for things in (asked, cached))
    return f"{what}: asked {one}, cached {other}"


# -- numbers --------------------------------------------------------------------------------------------

_QUANTITY = re.compile(r"(?<![\w.-])([-+]?\d+(?:[.,]\d+)?)\s?([a-z€]+)?")
_IDENTIFIER = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[a-z])[a-z\d]+(?:-[a-z\d]+)*\b")
_ONE = re.compile(r"(?<!times )(?<!once )\b(?:a|an|one) (?=(?:day|week|fortnight|month|year|hour)\b)")


@lru_cache(maxsize=4096)
def quantities(text: str) -> frozenset[tuple[float, str]]:
    """Return the amounts of a text with their units, in days, months, minutes, kg, m, l or eur.

    >>> quantities("within two weeks") == quantities("in 14 days")
    True
    """
    spelled = re.sub(r"[a-z]+", lambda word: str(vocabulary.NUMBER_WORDS.get(word[0], word[0])), plain(text))
    found = set()
    for number, unit in _QUANTITY.findall(_ONE.sub("1 ", spelled)):
        base, factor = vocabulary.UNITS.get(unit, ("", 1.0))
        found.add((round(float(number.replace(",", ".")) * factor, 6), base))
    return frozenset(found)


def numbers(asked: str, cached: str) -> str:
    """Refuse other amounts and other order, part or model numbers: 30 days is not 14, and 2 weeks are."""
    here, there = (set(_IDENTIFIER.findall(plain(text))) for text in (asked, cached))
    if here != there:
        return _differ(here, there, "numbers of things")
    one, other = quantities(asked), quantities(cached)
    has_digits_or_units = any(map(str.isdigit, asked + cached)) or any(unit for _, unit in one | other)
    if one == other or not (has_digits_or_units or (one and other)):
        return ""  # "two times" may also be said without a number
    here, there = ({f"{number:g} {unit}".strip() for number, unit in amounts} for amounts in (one, other))
    return _differ(here, there, "amounts")


# -- terms ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _named(text: str) -> dict[str, tuple[str, ...]]:
    """Return what a text names, by kind, each in the text's order."""
    return {kind: known.named(plain(text)) for kind, known in vocabulary.NAMES.items()}


def terms(asked: str, cached: str) -> str:
    """Refuse another country, product, act, ...; a "not" more; the opposite word; a price for a time."""
    one, other = _named(asked), _named(cached)
    for kind in vocabulary.STRICT:
        if set(one[kind]) != set(other[kind]):
            return _differ(one[kind], other[kind], kind)
    here, there = ({name for names in named.values() for name in names} for named in (one, other))
    if here - there and there - here:
        return _differ(here - there, there - here, "names")
    return _opposites(plain(asked), plain(cached)) or _asks(plain(asked), plain(cached))


def _opposites(asked: str, cached: str) -> str:
    for pair in vocabulary.OPPOSITES:
        here, there = set(pair.named(asked)), set(pair.named(cached))
        if here - there and there - here:
            return _differ(here, there, "opposites")
    return ""


def _asks(asked: str, cached: str) -> str:
    here, there = set(vocabulary.ASKS.named(asked)), set(vocabulary.ASKS.named(cached))
    return _differ(here, there, "asks for") if here and there and not here & there else ""


# -- order ----------------------------------------------------------------------------------------------

_TO_OR_FROM = re.compile(r"\b(to|into|from)(?: (?:the|a|an|my|your|our))? (\w+)")


def order(asked: str, cached: str) -> str:
    """Refuse the other way round: to Norway is not from Norway, points to money not money to points."""
    return _turned_names(asked, cached) or _turned_words(asked, cached) or _to_for_from(asked, cached)


def _turned_names(asked: str, cached: str) -> str:
    one, other = _named(asked), _named(cached)
    for kind in one:
        if kind != "act" and one[kind] != other[kind] and sorted(one[kind]) == sorted(other[kind]):
            return f"order: asked {' before '.join(one[kind])}, cached {' before '.join(other[kind])}"
    return ""


def _turned_words(asked: str, cached: str) -> str:
    one, other = (
        [_stem(word) for word in words(t) if word not in vocabulary.FUNCTION_WORDS] for t in (asked, cached)
    )
    is_related = vocabulary.RELATIONS & set(words(asked)) & set(words(cached))
    is_turned = one != other and sorted(one) == sorted(other)
    return f"order: asked {' '.join(one)}, cached {' '.join(other)}" if is_related and is_turned else ""


def _to_for_from(asked: str, cached: str) -> str:
    one, other = (
        {what: way == "from" for way, what in _TO_OR_FROM.findall(plain(t))} for t in (asked, cached)
    )
    turned = sorted(what for what in one.keys() & other.keys() if one[what] != other[what])
    return f"to or from: {', '.join(turned)}" if turned else ""


# -- one change -----------------------------------------------------------------------------------------

_LONGEST_CHANGE_WORDS = 4


def one_change(asked: str, cached: str) -> str:
    """Refuse what is the same sentence but for one place: who means the same words it otherwise."""
    one, other = words(asked), words(cached)
    shorter = min(len(one), len(other))
    first = next((at for at in range(shorter) if one[at] != other[at]), shorter)
    last = next((at for at in range(shorter - first) if one[-1 - at] != other[-1 - at]), shorter - first)
    changed = one[first : len(one) - last], other[first : len(other) - last]
    if first + last < shorter / 2 or max(map(len, changed)) > _LONGEST_CHANGE_WORDS:
        return ""
    here, there = ({_stem(word) for word in part} - vocabulary.FUNCTION_WORDS for part in changed)
    return _differ(here, there, "same but for") if here != there else ""


GUARDS: tuple[Guard, ...] = (numbers, terms, order, one_change)
"""All guards, the surest reasons first."""
