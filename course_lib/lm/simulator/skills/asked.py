"""What kind of thing a question asks for, and the words of a sentence that are of that kind.

Main path: kind_asked(question) -> a kind; told(kind, question, sentence) -> the pieces of the sentence that answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from course_lib.lm.simulator.agents.lexing import UNITS, Mention, lex
from course_lib.lm.simulator.skills import words

_DAYS = r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?|(?:every |each )?week(?:days?|ends?)"
_MONTHS = r"(?:january|february|march|april|may|june|july|august|september|october|november|december)"
_KINDS: tuple[tuple[str, str], ...] = (
    ("count", r"\bhow many (?!hours|minutes|days|weeks|months|years|miles|met\w+|kilo\w+|euros|dollars)"),
    ("money", r"\bhow much (?:does|do|did|is|are|was|were|will|would|must|to|has)\b(?!.*\b(?:weigh|sleep|water|time)\b)|\bhave to pay\b|\bwhat (?:do|does|did|must|will) [\w ]+ (?:pay|cost)\b|\b(?:price|cost|costs|fee|fine|fare|salary|rent|charge|wage)\b"),
    ("age", r"\bhow old\b|\bminimum age\b|\bwhat age\b"),
    ("length", r"\bhow (?:far(?! in advance)|tall|high|wide|deep|big|large)\b"),
    ("duration", r"\bhow (?:long|soon|late|early|quickly|often)\b|\bin advance\b|\bhow many (?:hours|minutes|days|weeks|months|years)\b"),
    ("percent", r"\bpercent|\bwhat share\b"),
    ("day", r"\b(?:which|what|on which|on what) (?:week)?days?\b"),
    ("when", r"\bwhen\b|\bwhat (?:time|year|date|month)\b|\bwhich (?:year|month|date)\b|\b(?:until|since) when\b"),
    ("who", r"\bwhat(?:'s| is| was| are) (?:my|your|his|her|their|the) [\w']+(?: \w+)?(?:'s)? names?\b|\bwho\b|\bwhose\b|\bwhom\b|\b(?:which|what) (?:person|man|woman|author|player|doctor|teacher)\b|\bname of the (?:man|woman|owner|author|director)\b"),
    ("name", r"\bnames? of\b|\b(?:is|are|was|were) [\w ]+ (?:called|named)\b(?! after)"),
    ("city", r"\b(?:which|what) (?:city|town|country|village)\b"),
    ("where", r"\bwhere\b|\b(?:which|what) (?:city|town|country|place|street|room|building)\b"),
    ("whether", r"^\W*(?:is|are|was|were|do|does|did|can|could|may|must|has|have|had|will|would|should)\b"),
)  # fmt: skip


@lru_cache(maxsize=1024)
def kind_asked(question: str) -> str:
    """Return what a question asks for (`who`, `money`), or an empty text where that is open."""
    return next((kind for kind, pattern in _KINDS if re.search(pattern, question, re.IGNORECASE)), "")


def told(kind: str, question: str, sentence: str) -> tuple[str, ...]:
    """Return the pieces of a sentence that are of the kind asked for and that the question does not have."""
    lowered = question.lower()
    return (
        tuple(piece for piece in _TOLD[kind](question, sentence) if piece.lower() not in lowered)
        if kind in _TOLD
        else ()
    )


_MONTHS_OR_YEARS = re.compile(
    rf"\b{_MONTHS}(?: (?:and|to|until) {_MONTHS})?\b|(?<![-/.\d])(?:1\d|20)\d\d\b(?![-/])|\b(?:{_DAYS})(?:,? (?:and|to|or) (?:{_DAYS}))*\b"
    r"|\bthe (?:following|next|previous) (?:year|day|week|month)\b|\bin the (?:morning|evening|afternoon)\b",
    re.IGNORECASE,
)
_PLACES = frozenset("in at on from near behind under into inside above below to".split())  # noqa: SIM905
_OFTEN = re.compile(r"\b(?:once|twice) an? \w+|\bevery \w+", re.IGNORECASE)
_RELATIVES = re.compile(
    r"\b(?:my|her|his|their|our|the) (?:\w+ )?(?:brother|sister|mother|father|son|daughter|owner|founder|teacher|boss|team)\b"
)


def _in(sentence: str, one: Mention) -> str:
    """Return a mention as it is written, with the unit behind a number."""
    unit = (
        re.match(r"[ -]?(?:(?:working|business|square) )?[^\W\d]+", sentence[one.end :])
        if one.noun and _measure(one)
        else None
    )
    return sentence[one.start : one.end + (unit.end() if unit else 0)]


def _measure(one: Mention) -> str:
    return next((UNITS[stem][0] for stem in one.noun if stem in UNITS), "")


def _of(*kinds: str) -> Callable[[str, str], list[str]]:
    return lambda _, sentence: [_in(sentence, one) for one in lex(sentence) if one.kind in kinds]


def _measured(*dimensions: str) -> Callable[[str, str], list[str]]:
    return lambda _, sentence: [
        _in(sentence, one) for one in lex(sentence) if one.kind == "number" and _measure(one) in dimensions
    ]


def _count(question: str, sentence: str) -> list[str]:
    """Return the numbers that stand before what is counted, as in `how many books`."""
    asked = re.search(r"how many (\w+)(?: (\w+))?", question.lower())
    nouns = {words.stem(word) for word in asked.groups() if word} if asked else set()
    return [
        sentence[one.start : one.end] for one in lex(sentence) if one.kind == "number" and nouns & {*one.noun}
    ]


def _age(_: str, sentence: str) -> list[str]:
    return [
        sentence[one.start : one.end]
        for one in lex(sentence)
        if one.kind == "number"
        and (
            re.match(r"[ -]years?[ -]old|\W*$", sentence[one.end :])
            or re.search(r"\b(?:aged|turned|least) $", sentence[: one.start])
        )
    ]


def _when(question: str, sentence: str) -> list[str]:
    is_habit = re.search(
        r"\bwhen (?:does|do)\b|\bwhat time\b", question, re.IGNORECASE
    )  # of which no year is the time
    found = [(one.start, _in(sentence, one)) for one in lex(sentence) if one.kind in ("date", "time")]
    spoken = [(hit.start(), hit.group()) for hit in _MONTHS_OR_YEARS.finditer(sentence)]
    told = [text for _, text in found] + [
        text for _, text in spoken if not any(text in longer for _, longer in found)
    ]
    return [text for text in told if not (is_habit and re.search(r"\d{4}", text))]


def _who(_: str, sentence: str) -> list[str]:
    names = [one for one in lex(sentence) if one.kind == "name" and one.lead not in _PLACES]
    return [_in(sentence, one) for one in names] or [hit.group() for hit in _RELATIVES.finditer(sentence)]


def _named(_: str, sentence: str) -> list[str]:
    """Return what is in quotes, or is said to be a name."""
    return [
        _in(sentence, one) for one in lex(sentence) if one.kind == "quoted" or one.lead in ("called", "is")
    ]


def _where(_: str, sentence: str) -> list[str]:
    """Return what stands where a place would, the names first."""
    found = [
        one
        for one in lex(sentence)
        if one.kind in ("name", "phrase", "street", "code") and one.lead in _PLACES - {"to"}
    ]
    found.sort(key=lambda one: one.kind == "phrase")
    return [_in(sentence, one) for one in found if not _MONTHS_OR_YEARS.fullmatch(_in(sentence, one))]


_TOLD: dict[str, Callable[[str, str], list[str]]] = {
    "count": _count,
    "money": lambda _, s: (
        _of("money", "percent")("", s) + re.findall(r"\bfree\b|\bno (?:fee|charge|cost)\b", s)
    ),
    "age": _age,
    "length": _measured("length", "mass", "volume", "temperature"),
    "duration": lambda _, s: _measured("time", "length")("", s) + _OFTEN.findall(s),
    "percent": _of("percent"),
    "day": lambda q, s: _when(q, s),
    "when": _when,
    "who": _who,
    "where": _where,
    "name": _named,
    "city": _of("name"),
}
STRICT = _TOLD.keys()
"""Kinds without which a sentence is no answer."""
