"""What a request mentions: dates, times, numbers with units, names, phrases, and the words around each.

Main path: lex(text) -> tuple of Mention, in order. Mentions may overlap (a number and the phrase around it):
whoever takes one leaves the others at the same place alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.quantities import NAMES

GRAMMAR = words.data("grammar.json")
PREPOSITIONS = {word: frozenset(map(words.stem, of.split())) for word, of in GRAMMAR["prepositions"].items()}
"""The small words before a phrase, and the stems of argument names that such a phrase is for."""
_MONTH_S = 2_629_800
UNITS: dict[str, tuple[str, float, str]] = {
    words.stem(spelled): ("time", size * _MONTH_S, name) if kind == "months" else (kind, size, name)
    for spelled, (kind, name, size) in NAMES.items()
    if kind not in ("money", "bits", "count")
}
"""What a stem measures, in how many of the dimension's first unit, and what the unit is called."""
SPELLINGS = {
    name: [spelled for spelled, (_, other, _) in NAMES.items() if other == name]
    for _, _, name in UNITS.values()
}
CODES = {name: code for code, names in GRAMMAR["codes"].items() for name in names.split()}
"""What people say, and the code for it: of a currency or a language."""
VERBS = frozenset(GRAMMAR["verbs"].split())
COMMON = words.STOP | words.COMMON_WORDS
MOST_READ = 4_000  # characters of a request that are read

Span = tuple[int, int]


class Placed:
    """What stands in a text from `start` to `end`."""

    __slots__ = ()
    start: int
    end: int

    def touches(self, spans: Sequence[Span]) -> bool:
        """Say whether it stands where something is taken."""
        return any(self.start < end and start < self.end for start, end in spans)


@dataclass(frozen=True, slots=True)
class Mention(Placed):
    """A piece or a phrase of a text, and how the text introduces it."""

    kind: str
    """A name of `_PATTERNS`, `phrase`, or `text` for words to hand on as they stand."""
    value: Any
    start: int
    end: int
    lead: str = ""
    """The preposition before it; `:` after a label, `called` after "named", `is` after a form of to be."""
    label: tuple[str, ...] = ()
    """Stems of the words before it that say what it is, as in "ticket 12" or "subject: Lunch"."""
    noun: tuple[str, ...] = ()
    """Stems of the words after it that say of what it is so many, as in "4 people"."""
    is_joined: bool = False
    """A comma, "and" or "or" stands between it and the mention before."""


_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()  # noqa: SIM905
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DAY = r"(?:3[01]|[012]?\d)"
_WEEKDAY = r"(?:mon|tues?|wednes|wed|thu(?:rs)?|fri|satur|sat|sun)(?:day)?\b"
_NUMBER_WORD = rf"(?:{'|'.join(sorted(words.NUMBERS, key=len, reverse=True))})"
_NAME = r"[A-ZÀ-Þ][\wÀ-ÿ'\u2019&]*(?:-[\wÀ-ÿ'\u2019]+)*"
_MORE = rf"(?!(?:[A-Z]*\d|[A-Z]+-\d|[A-Z]{{2,4}}\s\d)){_NAME}"  # a code ends a name
_CURRENCY = "|".join(
    sorted((re.escape(name) for name, code in CODES.items() if code.isupper()), key=len, reverse=True)
)
_ISO = "|".join(sorted({code for code in CODES.values() if code.isupper()}))
_STREET = rf"(?i:{'|'.join(GRAMMAR['streets'].split())})"
_UNIT = "|".join(
    sorted(
        {re.escape(word) for spelled in SPELLINGS.values() for word in spelled if word.isalpha()},
        key=len,
        reverse=True,
    )
)
_HALF = r"[ap]\.?m\b\.?"
_PATTERNS = {
    "quoted": r"[\"“„«][^\"”“»]{1,500}[\"”»]|(?<!\w)['\u2018][^'\n]{2,200}['\u2019](?!\w)",
    "email": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "url": r"https?://[^\s<>\"')\]]+",
    "tag": r"(?<!\w)[#@][A-Za-z][\w-]*",
    "date": rf"(?i:\b(?:\d{{4}}-\d\d-\d\d|\d{{1,2}}[./]\d{{1,2}}[./]\d{{4}}"
    rf"|{_DAY}(?:st|nd|rd|th)?(?:\sof)?\s{_MONTH}(?:,?\s\d{{4}})?"
    rf"|{_MONTH}\s{_DAY}(?:st|nd|rd|th)?\b(?:,?\s\d{{4}})?|(?:(?:this|next|coming)\s)?{_WEEKDAY}"
    r"|next\s(?:week|weekend|month|year)|(?:the\s)?day\safter\stomorrow|tomorrow|today|tonight|yesterday)\b)",
    "time": rf"(?i:\b\d{{1,2}}:\d\d(?::\d\d)?(?:\s?{_HALF})?|\b\d{{1,2}}\s?{_HALF}"
    rf"|\b(?:noon|midday|midnight)\b"
    rf"|\b(?:half|(?:a\s)?quarter|five|ten|twenty(?:-five)?)\s(?:past|to)\s(?:1[0-2]|[1-9]|{_NUMBER_WORD})\b"
    rf"|\b(?:\d{{1,2}}|{_NUMBER_WORD})\so'clock)",
    "path": r"~?/?\b(?!(?:and/or|km/h)\b)(?:[\w.-]+/)+[\w.-]*\w|\b[\w-]+\.(?=\w*[a-z])[a-z0-9]{2,4}\b",
    "street": rf"\b\d{{1,4}}[a-z]?,?\s(?:{_NAME}\s){{0,3}}{_STREET}\b(?:\s{_NAME})?"
    rf"|\b{_NAME}(?:stra(?:ß|ss)e|weg|platz|gasse|allee)\s\d+[a-z]?\b",
    "percent": r"\d+(?:\.\d+)?\s?(?:%|percent\b|per\scent\b)",
    "money": rf"[$€£¥]\s?\d(?:[\d.,]*\d)?|\b(?:{_ISO})\s?\d(?:[\d.,]*\d)?|\d(?:[\d.,]*\d)?\s?"
    rf"(?:[$€£¥]|(?:{_ISO})\b|(?i:(?:u\.?s\.?|swiss|british|canadian)\s)?(?i:{_CURRENCY})\b)",
    "phone": r"\+\d[\d ()/-]{6,}\d|\b0\d[\d ()/-]{5,}\d\b|\(\d{3}\)\s?\d{3}-\d{4}"
    r"|\b\d{3}[- ]\d{3}[- ]\d{3,4}\b",
    "code": rf"\b[A-Z]{{1,3}}-[A-Z]{{1,3}}\s\d{{1,4}}\b"
    rf"|\b[A-Z]{{2,4}}\s\d{{2,5}}\b(?!\s?%|\s?[a-z]|\s?(?:{_UNIT})\b|[.,:]\d)"
    r"|\b(?=[\w-]*\d)(?=[\w-]*[A-Z])[A-Z0-9]+(?:-[A-Z0-9]+)*\b|\b\d+(?:-\d+){2,}\b|\b\d{3,}-\d{2,}\b|#\d+\b",
    "number": rf"(?<![\w.])-?\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|(?<![\w.])-?\d+(?:\.\d+)?"
    rf"|\b(?i:{_NUMBER_WORD})\b(?: and a half\b)?"
    r"|\bhalf\san?\b(?=\s[a-z])|\ban?\b(?=\s(?:second|minute|hour|day|week|month|year|dozen)\b)",
    "name": rf"(?:(?:Dr|Mr|Mrs|Ms|Prof|St)\.?\s|(?:[A-Z]\.\s?)+)?{_NAME}"
    rf"(?:[ ](?:(?:of|de|da|del|van|von|der|la|le|of\sthe|&)[ ])?{_MORE})*",
    "word": r"[a-zß-ÿ][\wÀ-ÿ'\u2019]*(?:-\w+)*",
    "stop": r"->|[,;:.?!()\u2014\u2013=\n\u2192]|-",
}
_TOKEN = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _PATTERNS.items()))
_CALLED = frozenset(("named", "called", "titled", "labelled", "labeled", "entitled"))
_JOINTS = frozenset((",", "and", "or", "&", "plus"))
_BEING = frozenset(("is", "are", "was", "be", "=", "i'm", "we're", "that's", "it's"))
_ARTICLES = frozenset("the a an my our your their his her its some this that these any no".split())  # noqa: SIM905
_FIGURES = frozenset(("number", "money", "percent", "date", "time"))


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int

    @property
    def word(self) -> str:
        return self.text.lower().replace("\u2019", "'")


@lru_cache(maxsize=1024)
def lex(text: str) -> tuple[Mention, ...]:
    """Return what the text mentions, in order of appearance."""
    text = text[:MOST_READ]
    tokens = _tokens(text)
    found = [*_pieces(tokens, text), *_units(tokens), *_phrases(tokens, text), *_handed_on(text)]
    return tuple(sorted(found, key=lambda one: (one.start, one.end)))


# -- tokens -----------------------------------------------------------------------------------------------


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while match := _TOKEN.search(text, at):
        kind = "word" if match.group() in ("sun", "sat", "wed", "mon") else match.lastgroup or ""
        token = _Token(kind, match.group(), match.start(), match.end())
        if token.kind == "name":
            token = _proper(token, found, text)
        if token.kind == "word" and token.text.endswith(("'s", "\u2019s")) and token.word not in _BEING:
            token = replace(token, text=token.text[:-2], end=token.end - 2)
            at = token.end + 2
        else:
            at = token.end
        found.append(token)
    return found


_ACTS = re.compile(
    rf"'s\b|,\s[A-Z]\w+(?:,|\s(?:and|or)\b)|\s(?:\w+ed|is|has|was|wants?|needs?|gets?|got|will|can|and\s[A-Z]|{'|'.join(GRAMMAR['past'].values())})\b"
    r"|\s[a-z]{2,}[^\Wsui]s(?:\s(?:the|an?|my|his|her|at|in|on|for|from|to|[A-Z]\w|\d)|[.,!?])"
)


def _proper(token: _Token, before: Sequence[_Token], text: str) -> _Token:
    """Return a name without a word that is capitalised only since a sentence begins, or that word alone."""
    first, _, rest = token.text.partition(" ")
    plain = first.lower().partition("'")[0]
    last = before[-1].text if before else "."
    begins = last in (".", "?", "!", "\n", ")") or (last == ":" and plain in VERBS)
    is_long = len(rest.split()) > 2  # "Go Your Own Way" is called so
    is_common = plain == "i" or (begins and (plain in COMMON or plain in VERBS) and not is_long)
    is_alone = begins and not rest and not first.isupper() and not _ACTS.match(text[token.end :])
    if not (is_common or is_alone) or (plain == "the" and rest and not begins):
        return token
    return _Token("word", first, token.start, token.start + len(first))


# -- pieces -----------------------------------------------------------------------------------------------


def _pieces(tokens: Sequence[_Token], text: str) -> Iterator[Mention]:
    for at, token in enumerate(tokens):
        if token.kind in ("word", "stop"):
            continue
        lead, label, is_joined = _before(tokens, at)
        noun = _noun(tokens, at)
        value = _VALUES[token.kind](token, text) if token.kind in _VALUES else token.text
        found = Mention(token.kind, value, token.start, token.end, lead, label, noun, is_joined)
        if token.kind == "number" and (clock := _hour(tokens, at, found, text)):
            yield clock
        if token.kind == "money":
            yield from _currency(token, found)
            start, end = _DIGITS.search(token.text).span()  # type: ignore[union-attr]
            found = replace(found, start=token.start + start, end=token.start + end)
        yield found


def _before(tokens: Sequence[_Token], at: int) -> tuple[str, tuple[str, ...], bool]:
    """Return the preposition, the label and whether a joint stands before a token."""
    label: list[str] = []
    is_joined = False
    for place in range(at - 1, max(at - 25, -1), -1):
        token = tokens[place]
        if token.word in _JOINTS:
            if label:
                break
            is_joined = True
        elif token.kind not in ("word", "stop"):
            if not is_joined or label or tokens[at].kind not in (token.kind, "word"):
                break  # but "from Rome and Oslo", "2 or 3 people"
        elif lead := _lead(tokens, place, at):
            return lead, tuple(label[:3]), is_joined
        elif token.kind == "stop" or token.word in PREPOSITIONS:
            break
        elif token.word not in _ARTICLES and token.word not in words.STOP:
            label.append(words.stem(token.word))
    return "", tuple(label[:3]), is_joined


def _lead(tokens: Sequence[_Token], place: int, at: int) -> str:
    """Return how the token at a place introduces the one at another; empty if it does not."""
    word = tokens[place].word
    if word in ("->", "\u2192", "\u2013") or (word == "-" and tokens[at].kind in _FIGURES):
        return "to"
    if word in _BEING:
        return ":" if word == "=" else "is"
    return "called" if word in _CALLED else word if word in PREPOSITIONS or word == ":" else ""


SPELLED_OUT = {
    "dr": "doctor", "prof": "professor", "long": "length", "wide": "width", "tall": "height",
    "high": "height", "deep": "depth", "heavy": "weight", "weighs": "weight", "old": "age", "aged": "age",
    "cost": "price", "costs": "price",
}  # fmt: skip
"""Words, and the nouns that fields and arguments are named after."""


def _noun(tokens: Sequence[_Token], at: int) -> tuple[str, ...]:
    stems: list[str] = []
    for token in tokens[at + 1 : at + 5]:
        is_unit = words.stem(token.word.strip("-°")) in UNITS
        if token.text == "-" and not stems:
            continue
        if token.kind not in ("word", "name") or token.word in PREPOSITIONS or token.word in _JOINTS | _BEING:
            break
        if token.word not in words.STOP:
            stems.append(words.stem(SPELLED_OUT.get(token.word, token.word.strip("-°"))))
        if is_unit:
            break
    return tuple(stems[:3])


def _units(tokens: Sequence[_Token]) -> Iterator[Mention]:
    """Yield words for units and currencies: "from" where a number stands before, "to" after "how many"."""
    for at, token in enumerate(tokens):
        own = token.word.strip("-°")
        if token.kind not in ("word", "name", "code") or not (
            words.stem(own) in UNITS
            or own in CODES
            or (token.text.isupper() and token.text in CODES.values())
        ):
            continue
        if own in _OF_UNITS and at + 1 < len(tokens) and words.stem(tokens[at + 1].word) in UNITS:
            continue  # "degrees Fahrenheit"
        before = next((one for one in reversed(tokens[:at]) if one.word not in _OF_UNITS), None)
        is_from, is_to = (
            before and before.kind in ("number", "money"),
            before and before.word in ("many", "much"),
        )
        lead = "from" if is_from else "to" if is_to else ""
        yield Mention("unit", token.text.strip("-"), token.start, token.end, lead or _before(tokens, at)[0])


_OF_UNITS = frozenset(("degrees", "degree", "-", "us", "swiss", "british"))


_DIGITS = re.compile(r"\d[\d.,]*")
_VALUES: dict[str, Callable[[_Token, str], Any]] = {
    "quoted": lambda token, _: token.text[1:-1].strip(),
    "number": lambda token, _: _figure(token.word),
    "percent": lambda token, _: float(re.sub(r"[^\d.]", "", token.text)),
    "money": lambda token, _: amount(_DIGITS.search(token.text).group()),  # type: ignore[union-attr]
    "date": lambda token, _: day(token.text),
    "time": lambda token, text: clock(token.text, text, token.end),
}


def _figure(word: str) -> float:
    first, *more = word.split()
    if more[-2:] == ["a", "half"]:
        return _figure(first) + 0.5
    known = {**words.NUMBERS, "half": 0.5, "a": 1, "an": 1}
    return float(known[first] if first in known else word.replace(",", ""))


def amount(written: str) -> float:
    """Read an amount in either way of writing decimals.

    >>> amount("39,50"), amount("1,234.50"), amount("1.234,50")
    (39.5, 1234.5, 1234.5)
    """
    written = written.rstrip(".,")
    decimals = re.search(r"[.,](\d{1,2})$", written)
    whole = re.sub(r"[.,]", "", written[: decimals.start()] if decimals else written)
    return float(f"{whole}.{decimals.group(1) if decimals else 0}")


def _currency(token: _Token, found: Mention) -> Iterator[Mention]:
    """Yield the currency of an amount as a mention of its own."""
    for part in re.finditer(r"[^\d\s.,]+(?:\s[a-z]+)?", token.text):
        code = CODES.get(part.group().lower().split()[-1], CODES.get(part.group(), part.group()))
        start = token.start + part.start()
        yield Mention("unit", code, start, token.start + part.end(), "from", found.label)


# -- dates and times --------------------------------------------------------------------------------------


def day(text: str) -> str:
    """Return a date as YYYY-MM-DD where it has a year, else as a word for a day, or as it was written.

    >>> day("3 May 2027"), day("tonight"), day("on Fri"), day("May 3rd")
    ('2027-05-03', 'today', 'Friday', '3 May')
    """
    spoken = text.lower()
    if iso := re.search(r"\d{4}-\d\d-\d\d", spoken):
        return iso.group()
    if dotted := re.fullmatch(r"(\d{1,2})[./](\d{1,2})[./](\d{4})", spoken):
        return "{2}-{1:0>2}-{0:0>2}".format(*dotted.groups())
    numbers = re.findall(r"\d+", spoken)
    if month := re.search(rf"\b({'|'.join(_MONTHS)})", spoken):
        at = _MONTHS.index(month.group()) + 1
        if len(numbers) == 2:
            return f"{numbers[1]}-{at:02}-{int(numbers[0]):02}"
        return f"{int(numbers[0])} {_FULL[at - 1]}" if numbers else text
    for name in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"):
        if re.search(rf"\b{name[:3].lower()}", spoken):
            return f"next {name}" if "next" in spoken else name
    return "today" if spoken == "tonight" else spoken.removeprefix("the ")


_FULL = "January February March April May June July August September October November December".split()  # noqa: SIM905
_LATE = re.compile(r"\b(?:tonight|evening|dinner|supper|afternoon)\b", re.IGNORECASE)
_EARLY = re.compile(r"\b(?:morning|breakfast|early)\b", re.IGNORECASE)


def clock(written: str, text: str = "", at: int = 0) -> str:
    """Return a time of day as HH:MM; a bare hour is read by what the text says of the part of the day.

    >>> clock("7pm"), clock("half past seven", "tonight"), clock("9:30"), clock("quarter to ten")
    ('19:00', '19:30', '09:30', '09:45')
    """
    spoken = written.lower()
    if spoken in ("noon", "midday", "midnight"):
        return "00:00" if spoken == "midnight" else "12:00"
    past = re.fullmatch(r"(?:a\s)?(\S+)\s(past|to)\s(\S+)", spoken)
    if past:
        minutes = {"half": 30, "quarter": 15}.get(past[1]) or int(_figure(past[1]))
        hour, minute = int(_figure(past[3])), minutes if past[2] == "past" else -minutes
    else:
        figures = re.match(rf"(\d{{1,2}}|{_NUMBER_WORD})(?::(\d\d))?", spoken)
        hour, minute = int(_figure(figures[1])), int(figures[2] or 0)  # type: ignore[index]
    text, at = text[max(at - 60, 0) : at + 18], min(at, 60)
    half = re.search(r"([ap])\.?m", spoken) or re.match(
        r"(?:\s?(?:to|-|\u2013|until)\s?\d{1,2}(?::\d\d)?)?\s?([ap])\.?m", text[at:].lower()
    )
    if half:
        hour = hour % 12 + 12 * (half[1] == "p")
    elif not re.match(r"\d\d:|0", spoken) and 1 <= hour <= 11:
        is_late = (hour < 7 or bool(_LATE.search(text))) and not _EARLY.search(text)
        hour += 12 * (is_late and not (":" in spoken and not _LATE.search(text)))
    total = (60 * hour + minute) % 1440
    return f"{total // 60:02}:{total % 60:02}"


_HOURLY = frozenset(("at", "by", "from", "until", "till", "before", "after", "around", "to"))


def _hour(tokens: Sequence[_Token], at: int, found: Mention, text: str) -> Mention | None:
    """Return a number as a time of day where it stands as one: "at seven", "from 9 to 10 am"."""
    beside = re.match(
        rf"\s?(?:to|-|\u2013|until|till)\s?\d{{1,2}}(?::\d\d|\s?{_HALF})", text[found.end :], re.IGNORECASE
    )
    label = next((token.word for token in reversed(tokens[:at]) if token.kind != "stop"), "")
    is_said = label == "is" or (label in _HOURLY and found.lead in _HOURLY)
    if found.noun or not 0 < found.value <= 24 or found.value % 1 or not (beside or is_said):
        return None
    return replace(found, kind="time", value=clock(tokens[at].text, text, found.end))


# -- phrases ----------------------------------------------------------------------------------------------


def _phrases(tokens: Sequence[_Token], text: str) -> Iterator[Mention]:
    """Yield runs of words between prepositions, joints, articles and stops, also with "of ..." behind."""
    run: list[int] = []
    for at, token in enumerate([*tokens, _Token("stop", ".", 0, 0)]):
        is_counted = token.kind == "number" and tokens[at + 1 : at + 2] and tokens[at + 1].kind == "word"
        is_word = (
            token.kind == "word" and token.word not in _ENDING and not (run and token.word in VERB_FORMS)
        )
        is_figure = token.kind in ("code", "number", "path") and bool(run) and not is_counted
        if is_word or is_figure or token.kind == "name":
            run.append(at)
            continue
        if trimmed := _trimmed(tokens, run):
            yield from _phrase(tokens, trimmed, text)
        behind = [one for one in tokens[at + 1 : at + 2] if one.kind == "word" and one.word not in _ENDING]
        run = [*trimmed, at] if trimmed and token.word == "of" and behind else []  # "bags of soil"


_ENDING = {*PREPOSITIONS, *_JOINTS, *_CALLED, *_BEING, *_ARTICLES, *GRAMMAR["pronouns"].split()}
VERB_FORMS: dict[str, str] = {form: verb for verb, form in GRAMMAR["past"].items()}
"""The past of irregular verbs, and the verbs."""


FILLERS = frozenset(GRAMMAR["fillers"].split())


def _trimmed(tokens: Sequence[_Token], run: Sequence[int]) -> list[int]:
    kept = list(run)
    while kept and (tokens[kept[-1]].word in words.STOP | FILLERS):
        kept.pop()
    while kept and _is_beside(tokens, kept[0]):
        kept.pop(0)
    return kept


def _is_beside(tokens: Sequence[_Token], at: int) -> bool:
    """Say whether a word says nothing, or is a verb: first, or after a joint, "to", "I" or "please"."""
    word, before = tokens[at].word, tokens[at - 1].word if at else "."
    is_verb = word in VERBS and (before in _BEFORE_VERBS or before in FILLERS)
    return tokens[at].kind == "word" and (word in words.STOP or word in FILLERS or is_verb)


_BEFORE_VERBS = frozenset((*".!?\n:;,", "to", "i", "we", "you", "and", "then", "please", "also", "me"))


def _phrase(tokens: Sequence[_Token], run: Sequence[int], text: str) -> Iterator[Mention]:
    first, last = tokens[run[0]], tokens[run[-1]]
    if len(run) == 1 and first.kind != "word":
        return
    kind = "named" if first.kind == "name" else "phrase"
    lead, label, is_joined = _before(tokens, run[0])
    yield Mention(kind, text[first.start : last.end], first.start, last.end, lead, label, (), is_joined)


# -- texts to hand on -------------------------------------------------------------------------------------

_HANDED = (
    (
        ":",
        r"\b(?P<label>[\w#+-]*(?:\s[\w#+-]+)?)\s?:\s+"
        r"(?P<text>\S.*?)(?=[,;.]?\s+(?:and\s|with\s|the\s)*[A-Za-z]{2,}(?:\s\w+)?:\s|\n|$)",
    ),
    ("that", r"\b(?:saying|reading|says?)\s+(?:that\s+)?(?P<text>[^:\s].*)"),
    ("that", r"\b(?:that|know)\s+(?!(?:to|the|is|was|he|she)\b(?=\s\w+\W*$))(?:that\s+)?(?P<text>\w.*)"),
    ("to", r"(?i:\b(?:remind|remember|tell|ask)\w*\b(?:[^.:]|\d:\d){0,40}?\bto)\s+(?P<text>[a-z].*)"),
    ("to", r"(?i:\breminder\b[^.:]{0,40}?\b(?:for|about))\s+(?P<text>[a-z].*)"),
)
_MOMENT = f"(?:{_PATTERNS['date']}|{_PATTERNS['time']}|at \\d+)"
_TRAILING = re.compile(rf"(?:,?\s(?:(?:on|at|by|this|every|in the|for)\s)*{_MOMENT})+$")
_END = re.compile(
    r"[.!?](?=\s+[A-Z\"'])|,?\s(?:and|then)\s(?:then\s|also\s)?(?=([a-z]+)\s(?:the|a|an|my|me|it|us|our|to|[A-Z\d]))"
)


def _handed_on(text: str) -> Iterator[Mention]:
    for lead, pattern in _HANDED:
        at = 0
        while match := re.compile(pattern).search(text, at):
            start, end = match.span("text")
            for stop in _END.finditer(text, start, end):
                if stop[1] is None or stop[1] in VERBS:
                    end = stop.start()
                    break
            at = max(end, match.start() + 1)
            value = text[start:end].strip(" ,;").removesuffix(".")
            if not value or value[:1] in "\"'\u201c":
                continue
            label = tuple(map(words.stem, words.words(match.groupdict().get("label", ""))))
            yield Mention("text", value, start, start + len(value), lead, label)
            if (short := _TRAILING.sub("", value)) != value and len(short.split()) > 1:
                yield Mention("short text", short, start, start + len(short), lead, label)
