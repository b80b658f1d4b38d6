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
    if kind not in STRICT:
        return ()
    mentions = [one for one in lex(sentence) if _WANTED[kind](one, question, sentence)]
    if kind == "where":
        mentions.sort(key=lambda one: one.kind == "phrase")  # names of places first
    found = [_in(sentence, one) for one in mentions]
    others = [hit.group() for hit in _BESIDE[kind].finditer(sentence)] if kind in _BESIDE else []
    found += [text for text in others if not any(text in longer for longer in found)]
    if kind in ("when", "day") and _HABIT.search(question):
        found = [text for text in found if not re.search(r"\d{4}", text)]  # no year is the time of a habit
    return tuple(piece for piece in found if piece.lower() not in question.lower())


def _in(sentence: str, one: Mention) -> str:
    """Return a mention as it is written, with the unit behind a number."""
    unit = (
        re.match(r"[ -]?(?:(?:working|business|square) )?[^\W\d]+", sentence[one.end :])
        if _measure(one)
        else None
    )
    return sentence[one.start : one.end + (unit.end() if unit else 0)]


def _measure(one: Mention) -> str:
    return next((UNITS[stem][0] for stem in one.noun if stem in UNITS), "")


def _is_counted(one: Mention, question: str, _: str) -> bool:
    """Say whether a number stands before what is counted, as in `how many books`."""
    asked = re.search(r"how many (\w+)(?: (\w+))?", question.lower())
    nouns = {words.stem(word) for word in asked.groups() if word} if asked else set()
    return one.kind == "number" and bool(nouns & {*one.noun})


def _is_age(one: Mention, _: str, sentence: str) -> bool:
    after = re.match(r"[ -]years?[ -]old|\W*$", sentence[one.end :])
    return one.kind == "number" and bool(
        after or re.search(r"\b(?:aged|turned|least) $", sentence[: one.start])
    )


def _is(*kinds: str, dimensions: tuple[str, ...] = ("",)) -> Callable[[Mention, str, str], bool]:
    return lambda one, *_: one.kind in kinds and (dimensions == ("",) or _measure(one) in dimensions)


_PLACES = frozenset("in at on from near behind under into inside above below".split())  # noqa: SIM905
_HABIT = re.compile(r"\bwhen (?:does|do)\b|\bwhat time\b", re.IGNORECASE)
_WANTED: dict[str, Callable[[Mention, str, str], bool]] = {
    "count": _is_counted,
    "money": _is("money", "percent"),
    "age": _is_age,
    "length": _is("number", dimensions=("length", "mass", "volume", "temperature")),
    "duration": _is("number", dimensions=("time", "length")),
    "percent": _is("percent"),
    "day": _is("date", "time"),
    "when": _is("date", "time"),
    "who": lambda one, *_: one.kind == "name" and one.lead not in _PLACES | {"to"},
    "where": lambda one, *_: one.kind in ("name", "phrase", "street", "code") and one.lead in _PLACES,
    "name": lambda one, *_: one.kind == "quoted" or one.lead in ("called", "is"),
    "city": _is("name"),
}
"""Which mentions are of the kind that a question asks for."""
_TIMES = re.compile(
    rf"\b{_MONTHS}(?: (?:and|to|until) {_MONTHS})?\b|(?<![-/.\d])(?:1\d|20)\d\d\b(?![-/])|\b(?:{_DAYS})(?:,? (?:and|to|or) (?:{_DAYS}))*\b"
    r"|\bthe (?:following|next|previous) (?:year|day|week|month)\b|\bin the (?:morning|evening|afternoon)\b",
    re.IGNORECASE,
)
_BESIDE = {
    "money": re.compile(r"\bfree\b|\bno (?:fee|charge|cost)\b"),
    "duration": re.compile(r"\b(?:once|twice) an? \w+|\bevery \w+", re.IGNORECASE),
    "day": _TIMES,
    "when": _TIMES,
    "who": re.compile(r"\b(?:my|her|his|their|our|the) (?:\w+ )?(?:brother|sister|mother|father|son|daughter|owner|founder|teacher|boss|team)\b"),
}  # fmt: skip
"""What else is of that kind, and is no mention."""
STRICT = _WANTED.keys()
"""Kinds without which a sentence is no answer."""
