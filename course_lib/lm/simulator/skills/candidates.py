"""What can be picked out of a text: addresses, dates, amounts, ids, numbers, names.

Main path: candidates(text).of(kind), in order of appearance; kinds_of(name, desc) says what a field wants.
"""

from __future__ import annotations

import re
from calendar import monthrange
from functools import cache, cached_property, lru_cache

from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.knowledge import places

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = rf"(?:{'|'.join(_MONTHS)})[a-z]*\.?"

_PATTERNS = {
    "email": re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "url": re.compile(r"https?://[^\s<>\"')\]]+"),
    "phone": re.compile(r"(?<![\w-])\+?\d[\d ()/-]{7,}\d(?![\w-])"),
    "id": re.compile(r"\b[A-Z]{1,6}-?\d{2,}(?:-\w+)*\b|#\d+\b|\b(?=\w*\d)(?=\w*[A-Z])[A-Z0-9]{6,}\b"),
    "money": re.compile(
        r"(?:[$€£¥]|\b(?:EUR|USD|GBP|CHF)\s?)\s?\d[\d,]*(?:\.\d+)?"
        r"|\b\d[\d,]*(?:\.\d+)?\s?(?:[€£$]|(?:EUR|USD|GBP|CHF|euros?|dollars?|pounds?|cents)\b)",
        re.IGNORECASE,
    ),
    "percent": re.compile(r"-?\d+(?:\.\d+)?\s?(?:%|percent\b)"),
    "time": re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?\b(?:\s?[ap]m\b)?", re.IGNORECASE),
    "number": re.compile(r"(?<![\w.-])-?\d[\d,]*(?:\.\d+)?(?![\w-])"),
    "quoted": re.compile(r"[\"“]([^\"”\n]{1,80})[\"”]"),
}
_DATE = re.compile(
    rf"\b(\d{{4}})-(\d{{2}})-(\d{{2}})(?:[T ](\d{{2}}:\d{{2}}(?::\d{{2}})?))?"
    rf"|\b(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?({_MONTH})\s*,?\s*(\d{{4}})?"
    rf"|\b({_MONTH})\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:\s*,?\s*(\d{{4}}))?\b"
    rf"|\b(\d{{1,2}})[./](\d{{1,2}})[./](\d{{4}})\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"\b[A-Z][a-zà-ÿ]+(?:[ '-](?:[A-Z][a-zà-ÿ]+|de|van|von|la|of))*(?:[ -][A-Z][a-zà-ÿ]+)?")
_SELF = re.compile(
    r"(?:my name is|name's|i am|i'm|this is|regards,?|sincerely,?|cheers,?|thanks,?|thank you,?|yours,?"
    r"|mr\.?|mrs\.?|ms\.?|dr\.?)"
    r"[\s,\u2013-]+((?-i:[A-Z])[\w'-]+(?:[ ](?-i:[A-Z])[\w'-]+)*)",
    re.IGNORECASE,
)
_NOT_NAMES = frozenset(words.ENGLISH["not_names"].split())


class Candidates:
    """The pieces of one text, by kind."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.of = cache(self._of)

    def _of(self, kind: str) -> tuple[str, ...]:
        """Return the pieces of `kind` in order of appearance, each once."""
        if kind == "date":
            return self.dates
        if kind == "name":
            return self.names
        if kind in ("city", "country"):
            known = places(kind)
            return tuple(name for name in self.names if name.lower() in known)
        matches = (match.group(match.lastindex or 0) for match in _PATTERNS[kind].finditer(self.text))
        return tuple(dict.fromkeys(piece.strip() for piece in matches))

    @cached_property
    def dates(self) -> tuple[str, ...]:
        """Return the dates as ISO texts, with the time where one is written."""
        return tuple(dict.fromkeys(iso for match in _DATE.finditer(self.text) if (iso := _iso(match))))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Return proper names: first how the writer calls himself, then other capitalised words."""
        own = [match.group(1) for match in _SELF.finditer(self.text)]
        others = []
        for match in _NAME.finditer(self.text):
            parts = match.group().split()
            while parts and parts[0] in _NOT_NAMES:
                parts = parts[1:]
            if parts and parts[0][0].isupper():
                others.append(" ".join(parts))
        return tuple(dict.fromkeys(name for name in [*own, *others] if name not in _NOT_NAMES))

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """Return the numbers that are written as such, digits before words."""
        digits = [float(piece.replace(",", "")) for piece in self.of("number")]
        spelled = re.findall(r"[a-z]+", self.text.lower())
        return (*digits, *(float(words.NUMBERS[word]) for word in spelled if word in words.NUMBERS))


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


@lru_cache(maxsize=256)
def candidates(text: str) -> Candidates:
    """Return the pieces of `text`, found once."""
    return Candidates(text)


_KINDS: tuple[tuple[str, str], ...] = (
    ("city", r"cit(?:y|ies)|towns?"),
    ("country", r"countr(?:y|ies)|nations?"),
    ("email", r"e-?mails?|mail"),
    ("url", r"urls?|links?|website|homepage"),
    ("phone", r"phones?|telephone|mobile|fax"),
    ("date", r"dates?|day|when|deadline|due|birthday|born|until|since|expires|datetime|timestamp|on"),
    ("money", r"amounts?|prices?|total|costs?|refund|paid|fee|sum|balance|salary|budget|charge|usd|eur|gbp"),
    ("percent", r"percent|percentage|rate|discount"),
    ("id", r"ids?|number|code|reference|ref|sku|order|ticket|invoice|tracking"),
    (
        "name",
        r"names?|people|persons?|customers?|authors?|who|senders?|compan(?:y|ies)|cit(?:y|ies)|countr(?:y|ies)"
        r"|places?|locations?|brands?|entit(?:y|ies)|organi[sz]ations?|title",
    ),
    ("time", r"time|hour|clock"),
    (
        "number",
        r"counts?|quantity|qty|age|year|years|pages?|size|weight|length|height|width|score|rating|units?|stock",
    ),
)


@lru_cache(maxsize=1024)
def kinds_of(name: str, desc: str = "") -> tuple[str, ...]:
    """Return the kinds of piece that a field wants, best first: by its name, then by its description."""
    spread = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("_", " ").lower()
    kinds = [
        kind
        for text in (spread, desc.lower())
        for kind, pattern in _KINDS
        if re.search(rf"\b(?:{pattern})\b", text)
    ]
    if re.search(r"\b(number|count) of\b", f"{spread} {desc.lower()}"):
        kinds.insert(0, "number")
    return tuple(dict.fromkeys(kinds))
