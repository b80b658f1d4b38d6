"""Quantities in a text: a number and what it counts or measures, or a rate such as 60 km an hour.

Main path: quantities(text) -> Quantity in order; factor(unit, other) converts between units of one kind.
Units and how they are written are in units.json; a noun that is no unit stands for itself, as its stems.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from course_lib.lm.simulator.skills import words

Unit = frozenset[str]
"""One name of units.json, or the stems of what is counted; empty where the text leaves it out."""
NONE: Unit = frozenset()
PERCENT: Unit = frozenset({"%"})


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, its unit, and for a rate the unit that it is for."""

    value: float
    unit: Unit
    start: int
    end: int
    per: Unit = NONE
    per_value: float = 1.0


_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_SMALL = {**words.NUMBERS, **{word: 10.0 * at for at, word in enumerate(_TENS, 2)}}
_SMALL |= {f"{ten}{gap}{one}": _SMALL[ten] + value for ten in _TENS for one, value in words.NUMBERS.items()
           if 0 < value < 10 for gap in "- "}  # fmt: skip
_LARGE = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000, "dozen": 12}
_SPELLED = "|".join(sorted(_SMALL, key=len, reverse=True))
NUMBER = (
    rf"(?:(?:(?<![\w.,])[-\u2212]?\d+(?:,\d{{3}})*(?:\.\d+)?(?:\s?k\b)?|\b(?:{_SPELLED})\b"
    rf"|\ba\b(?=\s+(?:hundred|thousand|million|dozen)))"
    rf"(?:\s+(?:{'|'.join(_LARGE)})\b)?"
    r"|(?:(?<=after )|(?<=in )|(?<=for )|(?<=over )|(?<=within ))an?(?=\s(?:year|month|week|day|hour"
    r"|minute)\b)"
    r"|\b(?:an?|the)(?=\s(?:year|month|week|day|hour|minute)s?\s(?:after|before|later|ago|earlier|prior"
    r"|from)\b))"
)
_UNITS = words.data("units.json")
NAMES: dict[str, tuple[str, str, float]] = {
    spelled: (kind, name, size)
    for kind, units in _UNITS.items()
    for name, (size, spellings) in units.items()
    for spelled in spellings.split()
}
"""How a unit is written: what it measures, what it is called, and its size in the kind's first unit."""
_TABLE = {kind: units for kind, units in _UNITS.items() if kind not in ("temperature", "percent", "people")}
_NAMES = {spelled: unit for spelled, unit in NAMES.items() if unit[0] in _TABLE}
_SIGN = r"us\$|[$€£¥]|\b(?:eur|usd|gbp|chf)\b"
_PER = r"\s*(?:(?:in|on|to|for|from)(?:to)? (?=each|every))?(?:/|\b(?:per|an?|each|every|apiece)\b)\s*"
_NOUN = r"[A-Za-z\u00c0-\u024f][\w'\u00b0-]*"
_FOUND = re.compile(
    rf"(?P<sign>{_SIGN})?\s?(?P<number>{NUMBER})"
    rf"(?:\s?(?P<percent>%|percent\b|per cent\b)|\s?(?P<after>{_SIGN}|°\s?[CF]?)"
    rf"|[ -]?(?P<noun>{_NOUN}(?:[ -]{_NOUN}){{0,3}}))?",
    re.IGNORECASE,
)
_STOPS = words.STOP | set(words.ENGLISH["uncounted"].split())  # no part of what is counted


def number(text: str) -> float:
    """Return the value of a number as NUMBER finds it.

    >>> number("1,250"), number("twenty-five"), number("two thousand"), number("a dozen")
    (1250.0, 25.0, 2000.0, 12.0)
    """
    spoken = text.lower().replace("\u2212", "-").strip()
    head, _, tail = spoken.rpartition(" ")
    times = _LARGE.get(tail, 1)
    head = head.strip() if times != 1 else spoken
    if head.endswith("k") and head[:1].isdigit():
        head, times = head[:-1].strip(), times * 1_000
    return float(times) * (
        _SMALL[head]
        if head in _SMALL
        else 1.0
        if head in ("a", "an", "the")
        else float(head.replace(",", ""))
    )


def unit_of(noun: str) -> Unit:
    """Return the unit that a word names, or the stems of the words of a noun phrase."""
    spoken = [word for word in noun.split() if word.lower() not in _STOPS]
    if not spoken:
        return NONE
    for word in (spoken[0], spoken[-1]):
        if known := _NAMES.get(word) or _NAMES.get(word.lower()) or _NAMES.get(word.lower().rstrip("s")):
            return frozenset({known[1]})
    return frozenset(words.stem(word.lower()) for word in spoken)


def sizes(kind: str) -> dict[str, float]:
    """Return the size of each unit of a kind, in the kind's first unit."""
    return {name: size for name, (size, _) in _TABLE[kind].items()}


def kind_of(unit: Unit) -> str:
    """Return what a unit measures (`length`, `money`), or an empty text for things that are counted."""
    (name,) = unit if len(unit) == 1 else ("",)
    return next((kind for kind, units in _TABLE.items() if name in units), "")


def factor(unit: Unit, other: Unit) -> float | None:
    """Return how many of `other` one `unit` is; None if they have nothing to do with one another."""
    if unit & other:
        return 1.0
    kind = kind_of(unit)
    if not kind or kind != kind_of(other):
        return None
    (one,), (two,) = unit, other
    if kind == "money" and "cent" not in (one, two):
        return None
    return float(_TABLE[kind][one][0] / _TABLE[kind][two][0])


_MIXED = (
    (rf"\b({NUMBER}) and a half( [a-z]+)?", lambda match: f"{number(match[1]) + 0.5:g}{match[2] or ''}"),
    (r"\b(?:an?|one) (hour|day|week|month|year|mile|litre|kilo) and a half", r"1.5 \1s"),
    (r"\bhalf (?:an? )(hour|day|year|mile|litre|kilo|dozen)", r"0.5 \1s"),
    (rf"\b({NUMBER}) hours? and a quarter", lambda match: f"{number(match[1]) + 0.25:g} hours"),
    (r"\b(?:a )?quarter of an hour", "15 minutes"),
)


@lru_cache(maxsize=512)
def in_figures(text: str) -> str:
    """Write mixed numbers such as `two and a half hours` in figures."""
    for pattern, figures in _MIXED:
        text = re.sub(pattern, figures, text, flags=re.IGNORECASE)
    return text


@lru_cache(maxsize=512)
def quantities(text: str) -> tuple[Quantity, ...]:
    """Return the quantities of a text in order."""
    found: list[Quantity] = []
    at = 0
    while match := _FOUND.search(text, at):
        found.append(_read(match, text))
        at = max(found[-1].end, match.end("number"))  # "per 100 km" belongs to what stands before it
    return tuple(found)


def _read(match: re.Match[str], text: str) -> Quantity:
    value = number(match.group("number"))
    noun, end = _noun(match)
    if match.group("percent"):
        unit = PERCENT
    elif sign := match.group("sign") or match.group("after"):
        unit = unit_of(sign.strip())
    else:
        unit = unit_of(noun)
    found = Quantity(value, unit, match.start("number"), end)
    per = re.compile(
        rf"(?: (?:worth )?of [a-z]+)?{_PER}(?:(?P<many>{NUMBER})\s*)?(?P<noun>{_NOUN})?", re.IGNORECASE
    )
    rate = per.match(text, end)
    return _rate(found, rate) if rate and unit != PERCENT else found


def _noun(match: re.Match[str]) -> tuple[str, int]:
    """Return the words after a number that belong to it, and where they end."""
    if not match.group("noun"):
        return "", match.end()
    kept: list[str] = []
    for word in re.finditer(_NOUN, match.group("noun")):
        lower = word.group().lower()
        if lower in ("such", "new", "further", "other") and not kept:
            continue
        if lower in _STOPS or (kept and re.search(r"[a-z]{2}ed$|ing$", lower)):
            break
        kept.append(word.group())
        end = match.start("noun") + word.end()
        if lower in _NAMES or lower.rstrip("s") in _NAMES:
            break
    return (" ".join(kept), end) if kept else ("", match.start("noun") - 1)


def _rate(found: Quantity, rate: re.Match[str]) -> Quantity:
    per = unit_of(rate.group("noun") or "")
    is_each = re.search(r"each|every|apiece", rate.group(), re.IGNORECASE)
    if not per and not is_each:
        return found
    is_loose = re.match(r"\s*an?\b", rate.group(), re.IGNORECASE)
    if is_loose and (rate.group("many") or not kind_of(per)):
        return found  # "4 apples a friend gave me", "4 friends share a 36 euro taxi"
    many = number(rate.group("many")) if rate.group("many") else 1.0
    return replace(
        found, per=per or frozenset({"each"}), per_value=many, end=rate.end() if per else found.end
    )
