"""What can be picked out of a text: addresses, dates, amounts, ids, names of people and places, things, lists.

Main path: candidates(text).pieces(kind) -> Piece in order of appearance, .of(kind) -> their texts;
.phrases -> noun phrases, .lists -> runs of them (`flour, butter and sugar`). Which piece a field wants: roles.py.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.knowledge import places
from course_lib.lm.simulator.skills.quantities import NUMBER, UNIT_WORDS, number

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = rf"(?:{'|'.join(_MONTHS)})[a-z]*\.?"
_CURRENCY = r"EUR|USD|GBP|CHF|euros?|dollars?|bucks|pounds?|crowns?|francs?|cents|pence"
_FIGURES = r"\d[\d,]*(?:\.\d+)?"

_PATTERNS = {
    "email": re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]+(?:\.[\w-]+)+"),
    "url": re.compile(r"https?://[^\s<>\"')\]]+[^\s<>\"')\].,;:!?]|\bwww\.[\w.-]+\.\w+(?:/\S*)?"),
    "phone": re.compile(r"(?<![\w-])\(?\+?\d[\d ()/-]{7,}\d(?![\w-])|(?<![\w-])\d{3}-\d{4}(?![\w-])"),
    "hashtag": re.compile(r"(?<!\w)#[A-Za-z]\w*"),
    "handle": re.compile(r"(?<![\w.])@\w+"),
    "id": re.compile(
        r"(?i:\b(?:invoice|order|ticket|booking|policy|plate|case|no|number|nr|id|code|ref|reference|ending(?: in)?|account|card)\b\.?[ :#]+)((?=[\w/-]*\d)[A-Za-z\d][\w/-]{2,}\w)"
        r"|\b[A-Z]{1,3}-[A-Z]{1,2} \d{1,4}\b|\b(?!EUR|USD|GBP|CHF)[A-Z]{2,4} \d{2,5}\b"
        r"|\b[A-Z]{1,6}-?\d{2,}(?:-\w+)*\b|#[0-9A-Fa-f]{6}\b|#\d+\b|\b(?=\w*\d)(?=\w*[A-Z])[A-Z0-9]{6,}\b|\b[A-Z]{1,4}\d?(?:-[A-Z\d]+)*-\d+\b"
    ),
    "gate": re.compile(
        r"(?i:\b(?:gate|platform|room|seat|track|aisle|apartment|flat|table|locker)\s+)([A-Z]?\d+[A-Z]?|[A-Z]\b)"
    ),
    "zip": re.compile(
        r"\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b|\b\d{5}(?:-\d{4})?\b|\b\d{4} ?[A-Z]{2}\b|\b\d{4}(?= [A-Z])"
    ),
    "money": re.compile(
        rf"(?:[$€£¥]|\b(?:EUR|USD|GBP|CHF)\s?)\s?{_FIGURES}(?:\s(?:million|billion)\b|k\b)?"
        rf"|\b{_FIGURES}(?:\s(?:million|billion))?\s?(?:[€£$]|(?:{_CURRENCY})\b)",
        re.IGNORECASE,
    ),
    "currency": re.compile(rf"[$€£¥]|\b(?:{_CURRENCY}|yen|rupees?)\b", re.IGNORECASE),
    "day": re.compile(
        rf"\b\d{{1,2}}(?:st|nd|rd|th)?\.? (?:of )?{_MONTH}\b(?:,? \d{{4}})?|\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}})?"
        r"|\b(?:next |this |last |on )?((?:mon|tues|wednes|thurs|fri|satur|sun)day)\b|\b(?:today|tomorrow|tonight|yesterday)\b",
        re.IGNORECASE,
    ),
    "nationality": re.compile(r"\b[A-Z][a-z]+(?:ish|ese|ian|ean|can|man|ch|aqi|eli|ani|tch|gian)\b"),
    "frequency": re.compile(
        r"\b(?:(?:once|twice|(?:\d+|two|three|four) times) (?:an?|per|each|every) \w+|every (?:other |second )?\w+|daily|weekly|monthly|hourly|yearly)",
        re.IGNORECASE,
    ),
    "dose": re.compile(
        rf"{NUMBER}\s?(?:mg|g|ml|mcg|µg|units?|tablets?|drops?|puffs?|capsules?)\b", re.IGNORECASE
    ),
    "purpose": re.compile(
        r"\bfor ((?:the |an? |my |our )?[a-z][\w -]*?)(?=[.,;!?\n]|$| on | at | in | from | by )"
    ),
    "reason": re.compile(
        r"\b(?:because(?: of)?|due to|owing to|caused by|as a result of|since) ([^.;!?\n]{4,100}?)(?=[.;!?\n]|$|, )",
        re.IGNORECASE,
    ),
    "question": re.compile(r"(?:(?<=[.!?\n] )|(?<=\n)|^)[^.!?\n]+\?"),
    "unit": re.compile(
        rf"{NUMBER}\s?((?:{'|'.join(sorted(map(re.escape, UNIT_WORDS), key=len, reverse=True))})s?)(?![\w'])",
        re.IGNORECASE,
    ),
    "language": re.compile(
        r"\b(?:English|French|German|Spanish|Italian|Dutch|Portuguese|Polish|Russian|Chinese|Mandarin|Japanese|Arabic|Turkish|Swedish|Greek"
        r"|Korean|Hindi|Danish|Norwegian|Finnish|Czech|Hungarian|Ukrainian|Romanian|Hebrew|Latin|Urdu|Bengali|Welsh|Irish)\b"
    ),
    "job": re.compile(
        r"\b(?:looking for|seeking|hiring|hire|as|worked as|works as|position of|role of|need|job of) (?:an? |the )?([a-z][\w/-]*(?: [a-z][\w/-]*){0,2}?)"
        r"(?=[.,;:!?\n]| at\b| in\b| for\b| with\b| to\b| who\b| and\b|$)"
    ),
    "percent": re.compile(r"(?:-|(?<!\d))\d+(?:\.\d+)?\s?(?:%|percent\b|per cent\b)"),
    "time": re.compile(
        r"\b\d{1,2}:\d{2}(?::\d{2})?\b(?:\s?[ap]\.?m\b)?|\b\d{1,2}\s?[ap]\.?m\b|\b(?:noon|midnight)\b",
        re.IGNORECASE,
    ),
    "duration": re.compile(
        rf"{NUMBER}[ -]?(?:second|minute|min|hour|day|week|month|year)s?\b", re.IGNORECASE
    ),
    "street": re.compile(
        r"\b\d+[a-z]? [A-Z][\w']+(?: [A-Z][\w']+)*|\b(?:[A-Z][\w'-]+ )+(?:Street|Road|Avenue|Lane|Square|Drive|Way|St|Rd)\b"
        r"(?: \d+[a-z]?)?|\b[A-Z]\w+(?:stra(?:ß|ss)e|weg|gasse|platz|allee) \d+[a-z]?"
    ),
    "house": re.compile(r"\b(\d+[a-z]?) [A-Z]|\b[A-Z][\w-]+ (\d+[a-z]?)(?=,|$|\n)"),
    "size": re.compile(r"\b(?:X{0,3}[SL]|M)\b|\bsize (\w+)|\b(small|medium|large|extra large)\b"),
    "number": re.compile(r"(?<![\w.-])-?\d[\d,]*(?:\.\d+)?(?![\w-])|(?<![\w.-])-?\d+(?:\.\d+)?(?=[a-z%°])"),
    "quoted": re.compile(r"[\"“«]([^\"”»\n]{1,80})[\"”»]|(?<!\w)'([^'\n]{2,60})'(?!\w)"),
    "colour": re.compile(
        r"\b(?:(?:dark|light|navy|sky|royal|bright|pale|deep)[ -])?(?:red|blue|green|yellow|orange|purple|violet|pink|brown"
        r"|black|white|gr[ae]y|beige|turquoise|silver|gold|navy|cream)\b",
        re.IGNORECASE,
    ),
}
_DATE = re.compile(
    rf"\b(\d{{4}})-(\d{{2}})-(\d{{2}})(?:[T ](\d{{2}}:\d{{2}}(?::\d{{2}})?))?"
    rf"|\b(\d{{1,2}})(?:st|nd|rd|th)?\.?\s+(?:of\s+)?({_MONTH})\b\s*,?\s*(\d{{4}})?"
    rf"|\b({_MONTH})\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:\s*,?\s*(\d{{4}}))?\b"
    rf"|\b(\d{{1,2}})[./](\d{{1,2}})[./](\d{{4}})\b",
    re.IGNORECASE,
)
_CAPITAL = r"[A-Z\u00c0-\u00de][\w'\u00c0-\u024f-]*"
_NAME = re.compile(
    rf"(?<![\w'-]){_CAPITAL}(?: (?:{_CAPITAL}|(?:de|van|von|der|la|of|&)(?= [A-Z\u00c0-\u00de])))*"
)
_SELF = re.compile(
    r"(?:my name is|name's|i am|i'm|this is|(?:regards|wishes|sincerely|cheers|thanks|thank you|yours|best|love),?"
    r"|\bmr\.?|\bmrs\.?|\bms\.?|\bdr\.?|\b(?:is|was|am) called|\bnamed)"
    r"[\s,\u2013-]+((?-i:[A-Z])[\w'-]+(?:[ ](?-i:[A-Z])[\w'-]+)*)",
    re.IGNORECASE,
)
_TITLES = frozenset(("Mr", "Mrs", "Ms", "Miss", "Dr", "Prof", "Sir", "Madam"))
_ACTS = re.compile(
    r"'s\b|,| \(| and [A-Z]| (?:is|was|has|had|will|can|says?|said|are|were|does|did|and|or|got|bought|wrote|went|came|made|met|won"
    r"|sold|paid|took|gave|leads|runs|owns|[a-z]{3,}(?:ed|es|ts|ks|ns|ls|ves))\b"
)
"""What follows a name at the beginning of a sentence."""
_NOT_NAMES = frozenset(words.ENGLISH["not_names"].split())
_COMMON = frozenset(words.ENGLISH["common"].split()) | words.STOP
TABLES = words.data("pieces.json")
_PAST = frozenset(TABLES["past"].split())
_GIVEN = frozenset(TABLES["given_names"].split())
_CITIES = frozenset(name.replace("_", " ") for name in TABLES["cities"].split())
_PLACE_ENDS = frozenset(TABLES["suffix_place"].split())
_COMPANY_ENDS = frozenset(TABLES["suffix_company"].split())
_SPECIAL = ("email", "url", "date", "time", "phone", "id", "money", "percent")
"""Kinds whose figures are no plain numbers."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text, as a value, and where it stands."""

    text: str
    start: int
    end: int


class Candidates:
    """The pieces of one text, by kind."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.pieces = cache(self._pieces)
        self.of = cache(lambda kind: tuple(dict.fromkeys(piece.text for piece in self._pieces(kind))))

    def _pieces(self, kind: str) -> tuple[Piece, ...]:
        """Return the pieces of `kind` in order of appearance."""
        if kind in ("person", "city", "country", "place", "company", "entity"):
            quoted = [(one.start, one.end) for one in self.pieces("quoted")] if kind == "person" else []
            named = self._own_first() if kind == "person" else self.named
            named = tuple(one for one in named if not any(a <= one.start < b for a, b in quoted))
            found = tuple(name for name in named if kind in ("entity", *_class_of(name, self.text)))
            return self._with_company(found, named)
        special = {"date": self._dated, "name": self._own_first, "thing": self._things, "title": self._titles}
        if kind in special:
            return special[kind]()
        found = tuple(_piece(match) for match in _PATTERNS[kind].finditer(self.text))
        if kind == "number":
            return tuple(one for one in found if not any(a < one.end and one.start < b for a, b in self.busy))
        return found

    def _with_company(self, found: tuple[Piece, ...], named: tuple[Piece, ...]) -> tuple[Piece, ...]:
        """Add the names that stand in one enumeration with names of a kind: they are of it too."""
        spans = [(run[0].start, run[-1].end) for run in self.lists]
        runs = [(a, b) for a, b in spans if any(a <= one.start < b for one in found)]
        unsure = [one for one in named if _class_of(one, self.text) == {"person", "company"}]
        return tuple(
            one
            for one in named
            if one in found or (one in unsure and any(a <= one.start < b for a, b in runs))
        )

    @cached_property
    def busy(self) -> list[tuple[int, int]]:
        """Where figures stand that are part of a date, an amount, an id or the like."""
        return [(one.start, one.end) for kind in _SPECIAL for one in self.pieces(kind)]

    def _dated(self) -> tuple[Piece, ...]:
        found = ((_iso(match), match) for match in _DATE.finditer(self.text))
        return tuple(Piece(iso, match.start(), match.end()) for iso, match in found if iso)

    @cached_property
    def dates(self) -> tuple[str, ...]:
        """Return the dates as ISO texts, with the time where one is written."""
        return self.of("date")

    @cached_property
    def named(self) -> tuple[Piece, ...]:
        """Return the proper names: capitalised words that are not there for beginning a sentence."""
        found = (piece for match in _NAME.finditer(self.text) if (piece := _proper(match, self.text)))
        return tuple(one for one in found if not any(a <= one.start < b for a, b in self.busy))

    def _own_first(self) -> tuple[Piece, ...]:
        own = [Piece(match.group(1), match.start(1), match.end(1)) for match in _SELF.finditer(self.text)]
        taken = {piece.text for piece in own}
        return (*own, *(piece for piece in self.named if piece.text not in taken))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return proper names: first how the writer calls himself, then the others."""
        own = [piece.text for piece in self._own_first()]
        return tuple(dict.fromkeys(name for name in own if name not in _NOT_NAMES))

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """Return the plain numbers: those in figures, then those in words."""
        figures = [float(piece.replace(",", "")) for piece in self.of("number")]
        spelled = re.findall(r"[a-z]+", self.text.lower())
        return (*figures, *(number(word) for word in spelled if word in words.NUMBERS))

    def _titles(self) -> tuple[Piece, ...]:
        quoted = self.pieces("quoted")
        return quoted or tuple(piece for piece in self.phrases if piece.text[0].isupper())

    def _things(self) -> tuple[Piece, ...]:
        """Return noun phrases, those first that are counted, wanted or spoken of with an article."""
        ends = {end for _, end in self.busy}
        worth = {
            piece: _thingness(piece, self.text, is_dated=piece.start - 1 in ends) for piece in self.phrases
        }
        return tuple(
            sorted(
                (piece for piece in worth if worth[piece] >= 0),
                key=lambda piece: (-worth[piece], piece.start),
            )
        )

    @cached_property
    def phrases(self) -> tuple[Piece, ...]:
        """Return what may be noun phrases: words in a row that are neither small words nor verbs."""
        return tuple(
            one for one in _chunks(self.text) if not any(a < one.end and one.start < b for a, b in self.busy)
        )

    @cached_property
    def lists(self) -> tuple[tuple[Piece, ...], ...]:
        """Return the runs of phrases that commas and `and` join, two or more in each."""
        runs: list[list[Piece]] = []
        for piece in self.phrases:
            gap = self.text[runs[-1][-1].end : piece.start] if runs else "."
            if _JOINED.fullmatch(gap):
                runs[-1].append(piece)
            else:
                runs.append([piece])
        return tuple(tuple(run) for run in runs if len(run) > 1)


candidates = lru_cache(maxsize=256)(Candidates)
"""The pieces of a text, found once."""


def _piece(match: re.Match[str]) -> Piece:
    at = match.lastindex or 0
    return Piece(match.group(at).strip(), match.start(at), match.end(at))


def _iso(match: re.Match[str]) -> str | None:
    year, month, day, clock, d2, m2, y2, m3, d3, y3, d4, m4, y4 = match.groups()
    if m2 or m3:
        named = (m2 or m3)[:3].lower()
        year, month, day = y2 or y3, str(_MONTHS.index(named) + 1), d2 or d3
        if year is None:
            return None
    elif y4:
        year, month, day = y4, m4, d4
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= monthrange(2001, int(month))[1]):
        return None
    return f"{int(year):04}-{int(month):02}-{int(day):02}" + (f"T{clock}" if clock else "")


# -- names -------------------------------------------------------------------------------------------------


def _proper(match: re.Match[str], text: str) -> Piece | None:
    """Return the name in a run of capitalised words, or None if the run only begins a sentence."""
    spoken, start = match.group().split(" "), match.start()
    while spoken and (spoken[0] in _NOT_NAMES or spoken[0] in _TITLES or not spoken[0][:1].isupper()):
        start += len(spoken.pop(0)) + 1
    if not spoken or re.fullmatch(r"[A-Z\d-]*\d[A-Z\d-]*|I(?:'\w+)?", spoken[0]):
        return None
    begins = start == 0 or re.search(r"(?:[.!?:\n\"“(]|^[-*])\s*$", text[:start]) is not None
    first = spoken[0].lower()
    is_ordinary = first in _COMMON or (words.stem(first) in _COMMON and first not in _GIVEN)
    if begins and is_ordinary and first not in _GIVEN:
        start += len(spoken.pop(0)) + 1
    elif (
        begins
        and len(spoken) == 1
        and text[start + len(spoken[0]) :].lstrip(" ").strip(".!")
        and text[start + len(spoken[0])] != "\n"
        and not _is_known(first)
        and not _is_subject(text[start + len(spoken[0]) :])
    ):
        return None
    while spoken and re.search(r"\d", spoken[-1]):
        spoken.pop()
    if spoken and spoken[-1].endswith("'s"):
        spoken[-1] = spoken[-1][:-2]
    name = " ".join(spoken)
    return Piece(name, start, start + len(name)) if name else None


def _is_subject(after: str) -> bool:
    """Say whether what follows a word shows that it is the subject of a sentence: a verb, or what only names have."""
    verb = re.match(r" ([a-z]+)\b", after)
    return bool(_ACTS.match(after)) or bool(verb and verb.group(1) in _PAST)


def _is_known(name: str) -> bool:
    return name in _GIVEN or name in _CITIES or name in places("city") or name in places("country")


def _class_of(piece: Piece, text: str) -> frozenset[str]:
    """Return what a name may be the name of, from its words and those beside it."""
    return _classes(
        piece.text, text[max(piece.start - 24, 0) : piece.start], text[piece.end : piece.end + 24]
    )


@lru_cache(maxsize=2048)
def _classes(name: str, before: str, after: str) -> frozenset[str]:
    lower, parts = name.lower(), name.lower().split()
    if lower in _CITIES or lower in places("city"):
        return frozenset({"city", "place"})
    if lower in places("country"):
        return frozenset({"country", "place"})
    if parts[-1].strip(".") in _COMPANY_ENDS or re.match(r",? (?:Ltd|Inc|GmbH|Corp|AG|LLC|plc)\b", after):
        return frozenset({"company"})
    if parts[-1] in _PLACE_ENDS:
        return frozenset({"place"})
    if parts[0] in _GIVEN or re.search(r"\b(?:Mr|Mrs|Ms|Miss|Dr|Prof)\.? $", before):
        return frozenset({"person"})
    is_place = re.search(
        r"\b(?:in|from|near|to|towards|via|through|around|visit\w*|reach\w*|born in) $", before
    )
    if re.search(r"\b(?:works? (?:at|for)|bought|joined|by) $", before) and len(parts) > 1:
        return frozenset({"person", "company"})
    if re.search(
        r"\b(?:Street|Road|Avenue|Lane|Square|Drive|St|Rd)\b[ \d]*, $|\d[a-z]?, $|\d{4,5} $", before
    ):
        return frozenset({"city", "place"})
    if is_place:
        return frozenset({"city", "place", "company"})
    if re.search(r"\bat (?:the )?$", before):
        return frozenset({"company", "place"})
    if re.match(r",? ?(?:\(\d+\)|\d+,|is \d|said|says|wrote|asked|lives|told|writes)", after):
        return frozenset({"person"})
    return frozenset({"person", "company"})


# -- noun phrases ------------------------------------------------------------------------------------------

_JOINED = re.compile(
    r"\s*(?:,|;|/|&|,?\s*(?:and|or|plus)\b)\s*(?:(?:an?|the|some|my|his|her|their|our|one|\d+|two|three|four|five|six)\s+)*",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[^\W\d_][\w'\u2019-]*|\S")
_COMMON_NOUNS = frozenset(
    [
        "day",
        "friend",
        "home",
        "hour",
        "line",
        "month",
        "name",
        "night",
        "part",
        "person",
        "place",
        "point",
        "room",
        "set",
        "side",
        "thing",
        "time",
        "week",
        "work",
        "world",
        "year",
    ]
)
_WANTS = re.compile(
    r"\b(?:need|needs|want|wants|like|order|ordered|buy|bought|get|got|have|has|received|sell|send|return|returned|like)\s+"
    r"(?:an?\s+|the\s+|some\s+|my\s+|this\s+)?$",
    re.IGNORECASE,
)
_COUNTED = re.compile(rf"(?:{NUMBER})\s*(?:x|\u00d7|pcs\.?)?\s*(?:of\s+)?$", re.IGNORECASE)
_ARTICLE = re.compile(r"\b(?:an?|the|my|your|this|that|these|our|his|her|some|their)\s+$", re.IGNORECASE)


def _chunks(text: str) -> list[Piece]:
    """Cut a text into runs of words that may be noun phrases; `of` holds two of them together."""
    pieces: list[Piece] = []
    start = end = -1
    for match in _WORDS.finditer(text):
        follows = end >= 0 and text[end : match.start()] == " "
        if _is_nominal(match.group(), text, match.start()) or (
            follows and match.group().lower() in _COMMON_NOUNS
        ):
            is_apart = start < 0 or text[end : match.start()].strip() or "\n" in text[end : match.start()]
            if is_apart and start >= 0 and text[end : match.start()].strip().lower() != "of":
                pieces.append(Piece(text[start:end], start, end))
            start = (
                match.start()
                if (is_apart and text[end : match.start()].strip().lower() != "of") or start < 0
                else start
            )
            end = match.end()
    return [*pieces, Piece(text[start:end], start, end)] if start >= 0 else pieces


def _is_nominal(word: str, text: str, at: int) -> bool:
    lower = word.lower().replace("\u2019", "'")
    if (
        not lower[0].isalpha()
        or "n't" in lower
        or lower in words.STOP
        or lower in words.NUMBERS
        or lower in _PAST
        or (lower in _COMMON and word[0].islower())
    ):
        return False
    before = text[max(at - 12, 0) : at]
    if lower in UNIT_WORDS and re.search(r"\d\s?$", before):
        return False
    if (
        lower.endswith("s")
        and word.islower()
        and re.search(r"\b(?:he|she|it|who|that|which|[A-Z][a-z]+) $", before)
    ):
        return False  # a verb
    if lower.endswith("ly") or (
        len(lower) > 4 and lower.endswith("ed") and not _ARTICLE.search(text[max(at - 8, 0) : at])
    ):
        return False
    return not (words.stem(lower) in _COMMON and (at == 0 or word.islower()))


def _thingness(piece: Piece, text: str, *, is_dated: bool) -> int:
    before = text[max(piece.start - 30, 0) : piece.start]
    if (
        piece.text[0].isupper()
        and piece.start
        and len(piece.text.split()) < 3
        and not (_COUNTED.search(before) or _ARTICLE.search(before))
    ):
        return -1  # a name
    if re.match(
        r"(?:mon|tues|wednes|thurs|fri|satur|sun)day|please|today|tomorrow|yesterday|euros?$|dollars?$|stars?$|points?$|people$|persons?$",
        piece.text,
        re.IGNORECASE,
    ):
        return -1
    return (
        2 * bool(_COUNTED.search(before) and not is_dated)
        + 2 * bool(_WANTS.search(before))
        + bool(_ARTICLE.search(before))
    )
