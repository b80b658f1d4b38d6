"""What kind of thing a question asks for, and the words of a sentence that are of that kind.

Main path: kind_asked(question) -> a kind; told(kind, question, sentence) -> the pieces of the sentence that answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.candidates import candidates
from course_lib.lm.simulator.skills.quantities import NUMBER

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
    ("colour", r"\b(?:what|which) colou?r\b"),
    ("whether", r"^\W*(?:is|are|was|were|do|does|did|can|could|may|must|has|have|had|will|would|should)\b"),
)  # fmt: skip
STRICT = frozenset(
    (
        "count",
        "money",
        "age",
        "length",
        "percent",
        "colour",
        "name",
        "when",
        "who",
        "day",
        "city",
        "where",
        "duration",
    )
)
"""Kinds without which a sentence is no answer."""
_OPPOSITES = tuple(
    frozenset(pair.split("/"))
    for pair in [
        "open/close",
        "start/end",
        "begin/end",
        "arrive/depart",
        "arrive/leave",
        "buy/sell",
        "first/last",
        "lend/borrow",
        "north/south",
        "east/west",
        "cheap/expensive",
        "minimum/maximum",
        "earliest/latest",
        "check-in/check-out",
        "enter/leave",
    ]
    if "/" in pair
)


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


def _all(pattern: str, text: str) -> list[str]:
    return [match.group() for match in re.finditer(pattern, text, re.IGNORECASE)]


def _count(question: str, sentence: str) -> list[str]:
    """Return the numbers that stand before what is counted, as in `how many books`; any, where that is left open."""
    noun = re.search(r"how many (?:\w+ )?(\w+)", question, re.IGNORECASE)
    nouns = (
        {words.stem(word) for word in re.findall(r"how many (\w+)(?: (\w+))?", question.lower())[0]}
        if noun
        else set()
    )
    found = []
    for match in re.finditer(rf"(?:{NUMBER})((?:[ -]\w+){{0,3}})", sentence, re.IGNORECASE):
        counted = {
            words.stem(word) for word in re.findall(r"[a-z]+", match.group(match.lastindex or 0).lower())
        }
        if nouns & counted and not any(
            a < match.end() and match.start() < b for a, b in candidates(sentence).busy
        ):
            found.append(re.match(NUMBER, match.group(), re.IGNORECASE).group())  # type: ignore[union-attr]
    return found


def _money(_question: str, sentence: str) -> list[str]:
    return [
        *candidates(sentence).of("money"),
        *_all(r"\bfree\b|\bno (?:fee|charge|cost)\b", sentence),
        *candidates(sentence).of("percent"),
    ]


def _who(_question: str, sentence: str) -> list[str]:
    found = candidates(sentence)
    return list(found.of("person")) or _all(
        r"\b(?:my|her|his|their|our|the) (?:\w+ )?(?:brother|sister|mother|father|son|daughter|owner|founder|teacher|boss|team)\b",
        sentence,
    )


def _where(_question: str, sentence: str) -> list[str]:
    found = candidates(sentence)
    near = re.findall(r"\b(?:in|at|on|from|near|behind|under|next to|into|inside|above|below)\s+((?:the |an? |our |its |my |room )?[^\W\d_][\w'-]*(?: [A-Z\d][\w'-]*| (?!and\b|or\b|is\b|in\b|on\b|at\b|for\b|with\b|only\b|from\b|to\b)[a-z]+){0,2})", sentence)  # fmt: skip
    timely = re.compile(
        rf"(?:the )?(?:{_DAYS}|{_MONTHS}|{'|'.join(words.NUMBERS)}|noon|time|morning|evening|day|year|week)\b",
        re.IGNORECASE,
    )
    return [*found.of("city"), *found.of("country"), *(place for place in near if not timely.match(place))]


def _when(question: str, sentence: str) -> list[str]:
    found = candidates(sentence)
    is_habit = re.search(
        r"\bwhen (?:does|do)\b|\bwhat time\b", question, re.IGNORECASE
    )  # of which no year is the time
    dated = [*(sentence[piece.start : piece.end] for piece in found.pieces("date"))]
    return [
        *found.of("time"),
        *([] if is_habit else [*dated, *_all(rf"\b(?:{_MONTHS} )?(?:1\d|20)\d\d\b", sentence)]),
        *_all(rf"\b(?:{_DAYS})(?:,? (?:and|to|or) (?:{_DAYS}))*\b|\b{_MONTHS}(?: (?:and|to|until) {_MONTHS})?\b", sentence),
        *_all(rf"(?<=\bat )(?:{NUMBER}|noon|midnight)|\b(?:{NUMBER}) ?(?:to|until|till|-|\u2013) ?(?:{NUMBER})", sentence),
        *_all(r"\bthe (?:following|next|previous) (?:year|day|week|month)\b|\bin the (?:morning|evening|afternoon)\b", sentence),
    ]  # fmt: skip


_TOLD: dict[str, Callable[[str, str], list[str]]] = {
    "count": _count,
    "money": _money,
    "age": lambda _, s: _all(rf"(?:(?<=aged )|(?<=turned )){NUMBER}|{NUMBER}(?=[ -]years?[ -]old)|(?:(?<=is )|(?<=was )){NUMBER}(?=\W|$)|at least {NUMBER} years", s),
    "length": lambda _, s: _all(rf"{NUMBER}[ -]?(?:km|m|cm|mm|miles?|met(?:re|er)s?|kilomet(?:re|er)s?|feet|ft|inch(?:es)?|square \w+|hectares?|acres?|litres?|GB|MB)\b", s),
    "duration": lambda _, s: _all(rf"{NUMBER}[ -]?(?:working |business )?(?:seconds?|minutes?|min|hours?|h|days?|weeks?|months?|years?|km|m|met(?:re|er)s?|miles?|feet|cm)\b(?! old)|\b(?:once|twice) an? \w+|\bevery \w+", s),
    "percent": lambda _, s: list(candidates(s).of("percent")),
    "day": lambda _, s: _all(rf"\b(?:{_DAYS})(?:,? (?:and|to) (?:{_DAYS}))*\b", s) or [s[p.start : p.end] for p in candidates(s).pieces("date")],
    "when": _when,
    "who": _who,
    "where": _where,
    "name": lambda _, s: [*candidates(s).of("quoted"), *candidates(s).of("person")],
    "city": lambda _, s: list(candidates(s).names),
    "colour": lambda _, s: list(candidates(s).of("colour")),
}  # fmt: skip


def is_opposite(question: str, sentence: str) -> bool:
    """Say whether a sentence speaks of the opposite of what a question asks (`close` for `open`)."""
    asked, said = (
        {words.stem(word) for word in re.findall(r"[a-z-]+", text.lower())} for text in (question, sentence)
    )
    pairs = ({words.stem(word): word for word in pair} for pair in _OPPOSITES)
    return any(
        len(asked & pair.keys()) == 1 and not (asked & said & pair.keys()) and bool(said & pair.keys())
        for pair in pairs
    )
