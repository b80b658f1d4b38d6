"""Guards: reasons why two questions cannot have the same answer, however near their vectors are.

Main path: refusal(asked, cached) walks GUARDS; the first with a reason gives Refusal(guard, reason).
A vector knows that Norway and Switzerland are alike. That is what it is for, and why it is not enough here.

Each guard takes two questions and returns a reason, or an empty text. They were tuned on the calibrate half
of data/pairs.jsonl, with the words of vocabulary.py. A guard too many costs hits, one too few wrong answers.
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


def _word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# -- reading a question ---------------------------------------------------------------------------------

_FUNCTION_WORDS = _word_set(
    """
    a an the this that these those i you we he she it they me us him her them my your our its their is
    are am was were be been being do does did done have has had can could may might will would shall
    should must of to in on at by for from with as and or but if so than then there here what which who
    when where why how please hi hello thanks thank hey just also too very really some any need want
    like know tell let get got go going
    """
)
_NUMBER_WORDS = {
    "two": 2, "twice": 2, "both": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "fourteen": 14, "fifteen": 15, "twenty": 20,
    "thirty": 30, "sixty": 60,
}  # fmt: skip
_UNITS = {
    **dict.fromkeys(("day", "days"), ("days", 1.0)),
    **dict.fromkeys(("week", "weeks"), ("days", 7.0)),
    **dict.fromkeys(("fortnight",), ("days", 14.0)),
    **dict.fromkeys(("month", "months"), ("months", 1.0)),
    **dict.fromkeys(("year", "years"), ("months", 12.0)),
    **dict.fromkeys(("hour", "hours", "h"), ("hours", 1.0)),
    **dict.fromkeys(("minute", "minutes", "min"), ("hours", 1 / 60)),
    **dict.fromkeys(("kg", "kilo", "kilos", "kilogram", "kilograms"), ("kg", 1.0)),
    **dict.fromkeys(("g", "gram", "grams"), ("kg", 0.001)),
    **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), ("m", 1.0)),
    **dict.fromkeys(("cm", "centimetre", "centimetres"), ("m", 0.01)),
    **dict.fromkeys(("l", "litre", "litres"), ("l", 1.0)),
    **dict.fromkeys(("ml",), ("l", 0.001)),
    **dict.fromkeys(("eur", "euro", "euros", "€"), ("eur", 1.0)),
}
_QUANTITY = re.compile(r"(?<![\w.-])([-+]?\d+(?:[.,]\d+)?)\s?([a-z€]+)?")
_IDENTIFIER = re.compile(r"\b(?=[\w-]*\d)(?=[\w-]*[a-z])[a-z\d]+(?:-[a-z\d]+)*\b")


def plain(text: str) -> str:
    """Return a text in small letters, its apostrophes and spaces made alike."""
    return " ".join(
        text.lower().replace("\u2019", "'").replace("n't", " not").replace("cannot", "can not").split()
    )


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text, in order, in small letters."""
    return tuple(re.findall(r"[^\W\d_]+(?:'[a-z]+)?|\d+(?:[.,]\d+)?", plain(text)))


def _content(text: str) -> tuple[str, ...]:
    return tuple(_stem(word) for word in words(text) if word not in _FUNCTION_WORDS)


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


@lru_cache(maxsize=4096)
def quantities(text: str) -> frozenset[tuple[float, str]]:
    """Return the amounts of a text with their units, in days, months, hours, kg, m, l or eur.

    >>> quantities("within two weeks") == quantities("in 14 days")
    True
    """
    spelled = re.sub(r"[a-z]+", lambda word: str(_NUMBER_WORDS.get(word[0], word[0])), plain(text))
    spelled = re.sub(
        r"(?<!times )(?<!once )\b(?:a|an|one) (?=(?:day|week|fortnight|month|year|hour)\b)", "1 ", spelled
    )
    found = set()
    for number, unit in _QUANTITY.findall(spelled):
        name, factor = _UNITS.get(unit, ("", 1.0))
        found.add((round(float(number.replace(",", ".")) * factor, 6), name))
    return frozenset(found)


@lru_cache(maxsize=4096)
def _named(text: str) -> dict[str, tuple[str, ...]]:
    """Return what a text names, by kind, in the order in which it does."""
    return {kind: found for kind in vocabulary.KINDS if (found := vocabulary.named(plain(text), kind))}


def _listed(things: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, things))) or "none"


def _differ(asked: Iterable[object], cached: Iterable[object], what: str) -> str:
    return f"{what}: asked {_listed(asked)}, cached {_listed(cached)}"


# -- the guards -----------------------------------------------------------------------------------------


def identifiers(asked: str, cached: str) -> str:
    """Refuse another order, part or model number: O-10154 is not O-10145."""
    one, other = (set(_IDENTIFIER.findall(plain(text))) for text in (asked, cached))
    return _differ(one, other, "numbers of things") if one != other else ""


def numbers(asked: str, cached: str) -> str:
    """Refuse other amounts: 30 days is not 14 days, and 2 weeks are."""
    one, other = quantities(asked), quantities(cached)
    is_spoken = not any(map(str.isdigit, asked + cached)) and not any(unit for _, unit in one | other)
    if one == other or (is_spoken and not (one and other)):
        return ""  # "two times" may also be said without a number
    here, there = ({f"{number:g} {unit}".strip() for number, unit in found} for found in (one, other))
    return _differ(here, there, "amounts")


def kinds(asked: str, cached: str) -> str:
    """Refuse another country, product, act, ...: where each names something that the other does not."""
    one, other = _named(asked), _named(cached)
    for kind in sorted(vocabulary.STRICT_KINDS):
        if set(one.get(kind, ())) != set(other.get(kind, ())):
            return _differ(one.get(kind, ()), other.get(kind, ()), kind)
    here, there = ({name for names in found.values() for name in names} for found in (one, other))
    return _differ(here - there, there - here, "names") if here - there and there - here else ""


def negation(asked: str, cached: str) -> str:
    """Refuse where one says not or never, and the other does not."""
    one, other = (vocabulary.NEGATIVES & set(words(text)) for text in (asked, cached))
    return _differ(one, other, "negation") if bool(one) != bool(other) else ""


def opposites(asked: str, cached: str) -> str:
    """Refuse where one says a word and the other its opposite: before and after, on and off."""
    one, other = plain(asked), plain(cached)
    for left, right in vocabulary.OPPOSITES:
        for here, there in ((one, other), (other, one)):
            is_split = vocabulary.says(here, left) and vocabulary.says(there, right)
            if is_split and not vocabulary.says(here, right) and not vocabulary.says(there, left):
                return f"opposites: {min(left)} and {min(right)}"
    return ""


_TO_OR_FROM = re.compile(r"\b(to|into|from)(?: (?:the|a|an|my|your|our))? (\w+)")
_RELATIONS = _word_set("from to into for with instead than before after by over under per once so")


def direction(asked: str, cached: str) -> str:
    """Refuse the other way round: to Norway is not from Norway, points to money not money to points."""
    return _turned_names(asked, cached) or _turned_words(asked, cached) or _to_for_from(asked, cached)


def _turned_names(asked: str, cached: str) -> str:
    one, other = _named(asked), _named(cached)
    for kind in sorted((one.keys() & other.keys()) - {"act"}):
        if one[kind] != other[kind] and sorted(one[kind]) == sorted(other[kind]):
            return f"order: asked {' before '.join(one[kind])}, cached {' before '.join(other[kind])}"
    return ""


def _turned_words(asked: str, cached: str) -> str:
    one, other = _content(asked), _content(cached)
    is_related = _RELATIONS & set(words(asked)) & set(words(cached))
    is_turned = one != other and sorted(one) == sorted(other)
    return f"order: asked {' '.join(one)}, cached {' '.join(other)}" if is_related and is_turned else ""


def _to_for_from(asked: str, cached: str) -> str:
    one, other = (
        {what: way == "from" for way, what in _TO_OR_FROM.findall(plain(t))} for t in (asked, cached)
    )
    turned = sorted(what for what in one.keys() & other.keys() if one[what] != other[what])
    return f"to or from: {', '.join(turned)}" if turned else ""


_ASKING = "(?:do|does|did|will|is|are|was|can|could|would|should|must|may|has|have)"
_ASPECTS = {
    "price": r"how much|what price|prices?|costs?|fees?|charge for|you charge|expensive|cheap|postage"
    r"|free|worth|discount",
    "time": rf"what time|time of day|when {_ASKING}|until when|how long|how soon|how fast|how quickly"
    r"|deadline|how many (?:days|weeks|months|years|hours)|period|what day|which day|what moment",
    "place": rf"where {_ASKING}|where i|where to|which page",
    "person": r"who|whom|whose",
    "reason": r"why|how come|what is the reason|reason for|the reason",
    "how often": r"how often|how many times|weekly|monthly|daily",
}


def _aspects(text: str) -> frozenset[str]:
    return frozenset(
        aspect for aspect, form in _ASPECTS.items() if re.search(rf"\b(?:{form})\b", plain(text))
    )


def question_type(asked: str, cached: str) -> str:
    """Refuse where one asks for a price and the other for a time, place, person or reason."""
    one, other = _aspects(asked), _aspects(cached)
    return _differ(one, other, "asks for") if one and other and not one & other else ""


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
    here, there = ({_stem(word) for word in part} - _FUNCTION_WORDS for part in changed)
    return _differ(here, there, "same but for") if here != there else ""


GUARDS: tuple[Guard, ...] = (
    identifiers,
    numbers,
    kinds,
    negation,
    opposites,
    direction,
    question_type,
    one_change,
)
"""All guards, the surest reasons first."""


def refusal(asked: str, cached: str, *, guards: Sequence[Guard] = GUARDS) -> Refusal | None:
    """Return the first guard that refuses this pair, with its reason; None if none does.

    >>> refusal("Do you ship to Norway?", "Do you ship to Sweden?")
    Refusal(guard='kinds', reason='place: asked norway, cached sweden')
    """
    for guard in guards:
        if reason := guard(asked, cached):
            return Refusal(getattr(guard, "__name__", type(guard).__name__), reason)
    return None
