"""What can be picked out of a text: addresses, dates, amounts, ids, numbers, names; and which a field wants.

Main path: candidates(text).of(kind), in order of appearance; text_leaf(schema, name, desc, text) and
number_leaf(...): the piece that the field wants, within the limits of its schema, or None.
"""

from __future__ import annotations

import math
import re
import uuid
from calendar import monthrange
from functools import cache, cached_property, lru_cache
from hashlib import sha256
from itertools import dropwhile

from course_lib.lm.simulator.prompts.schema import MOST, Schema
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.knowledge import places

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_MONTH = rf"(?:{'|'.join(_MONTHS)})[a-z]*\.?"

_PATTERNS = {
    "email": re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]+(?:\.[\w-]+)+"),
    "url": re.compile(r"https?://[^\s<>\"')\]]+"),
    "phone": re.compile(r"(?<![\w-])\+?\d[\d ()/-]{7,}\d(?![\w-])"),
    "id": re.compile(r"\b[A-Z]{1,6}-?\d{2,}(?:-\w+)*\b|#\d+\b|\b(?=\w*\d)(?=\w*[A-Z])[A-Z0-9]{6,}\b"),
    "money": re.compile(
        r"(?:[$€£¥]|\b(?:EUR|USD|GBP|CHF)\s?)\s?\d[\d,]*(?:\.\d+)?"
        r"|\b\d[\d,]*(?:\.\d+)?\s?(?:[€£$]|(?:EUR|USD|GBP|CHF|euros?|dollars?|pounds?|cents)\b)",
        re.IGNORECASE,
    ),
    "percent": re.compile(r"(?:-|(?<!\d))\d+(?:\.\d+)?\s?(?:%|percent\b)"),
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
        if kind in ("date", "name"):
            return self.dates if kind == "date" else self.names
        if kind in ("city", "country"):
            return tuple(name for name in self.names if name.lower() in places(kind))
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
            parts = list(dropwhile(_NOT_NAMES.__contains__, match.group().split()))
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


candidates = lru_cache(maxsize=256)(Candidates)
"""The pieces of a text, found once."""

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


_UNSTATED = "not stated"
_FORMATS = {
    "date": "1970-01-01",
    "date-time": "1970-01-01T00:00:00",
    "time": "00:00:00",
    "duration": "P0D",
    "email": "unknown@example.com",
    "uri": "https://example.com",
    "ipv4": "192.0.2.1",
}


def text_leaf(schema: Schema, name: str, desc: str, text: str, *, must: bool = False) -> str | None:
    """Return the text that the field wants, in the format of the schema; None if it is not there."""
    if wanted := schema.get("format"):
        result = _formatted(wanted, text)
        plainest = str(uuid.UUID(bytes=sha256(name.encode()).digest()[:16], version=4))
        return result or (_FORMATS.get(wanted, plainest if "uuid" in wanted else _UNSTATED) if must else None)
    if pattern := schema.get("pattern"):
        return _matching(pattern, text, must=must)
    result = _wanted(name, desc, text)
    if result is None and not must:
        return None
    return within(schema, _UNSTATED if result is None else result)


def within(schema: Schema, text: str) -> str:
    """Cut or fill a text to the lengths that the schema allows."""
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if len(text) < least:
        text = (text + " " + _UNSTATED * (least // len(_UNSTATED) + 1))[: max(least, 1)].ljust(least, ".")
    return text if most is None else text[:most].rstrip().ljust(least, ".")


def _formatted(wanted: str, text: str) -> str | None:
    pieces = candidates(text)
    if wanted in ("date", "date-time") and not pieces.dates:
        return None
    if wanted == "date":
        return pieces.dates[0][:10]
    if wanted == "date-time":
        first = pieces.dates[0]
        clock = next(iter(pieces.of("time")), "") if "T" not in first else ""
        clock = clock if re.fullmatch(r"[012]?\d:\d{2}(:\d{2})?", clock) else "00:00:00"
        return first if "T" in first else f"{first}T{clock.zfill(5) if len(clock) < 6 else clock.zfill(8)}"
    if wanted == "time":
        plain = (piece for piece in pieces.of("time") if re.fullmatch(r"[01]?\d:\d{2}(:\d{2})?", piece))
        time: str | None = next(plain, None)
        return time.zfill(5) if time and len(time) < 6 else time
    kind = {"email": "email", "uri": "url"}.get(wanted)
    return next(iter(pieces.of(kind)), None) if kind else None


def _matching(pattern: str, text: str, *, must: bool) -> str | None:
    """Return a piece of `text` that satisfies `pattern`; if one must be, build the plainest."""
    try:
        compiled = re.compile(pattern)
    except re.error:
        return _UNSTATED
    for piece in re.findall(r"\S+", text):
        bare: str = piece.strip(".,;:!?()[]\"'")
        if compiled.search(bare):
            return bare
    return _built(pattern) if must else None


def _built(pattern: str) -> str:
    r"""Build a text for a simple pattern: literals, classes, `\d`, `\w` and counts."""
    out: list[str] = []
    token = re.compile(r"(\\.|\[[^\]]*\]|\([^()]*\)|.)(\{(\d+)(?:,\d*)?\}|[+*?])?")
    for part in token.finditer(pattern.strip("^$")):
        unit, counted, least = part.groups()
        times = min(int(least[:9]), MOST) if least else 0 if counted in ("*", "?") else 1
        out.append(_unit(unit) * times)
    return "".join(out)


def _unit(unit: str) -> str:
    if unit.startswith("("):
        return _built(unit[1:-1].removeprefix("?:").split("|")[0])
    if unit.startswith("["):
        inside = unit[1:-1].replace("\\d", "0").replace("\\w", "a")
        return inside[:1] if not inside.startswith("^") else "a"
    return {"\\d": "0", "\\w": "a", "\\s": " ", ".": "a"}.get(unit, unit.removeprefix("\\"))


def _wanted(name: str, desc: str, text: str) -> str | None:
    """Return the piece of `text` that a field of this name is about."""
    if not text.strip():
        return None
    pieces = candidates(text)
    kinds = kinds_of(name, desc)
    for kind in kinds:
        matches = pieces.of(kind)
        if kind == "id":
            matches = tuple(sorted(matches, key=lambda piece: piece[:1].lower() != name[:1].lower()))
        if matches:
            return matches[0]
    if kinds and kinds[0] in ("email", "url", "phone", "id", "date", "percent", "time"):
        return None
    if len(text) <= 60 and "\n" not in text:
        return text.strip().rstrip(".")
    return _bearing(f"{name.replace('_', ' ')} {desc}", text)


def _bearing(about: str, text: str) -> str:
    """Return the sentence of `text` that shares most with what the field is about; the first if none does."""
    wanted = words.features(about)

    def shared(sentence: str) -> float:
        return sum(own * wanted.get(feature, 0.0) for feature, own in words.features(sentence).items())

    return max(words.sentences(text), key=shared, default="")


def number_leaf(schema: Schema, name: str, desc: str, text: str) -> int | float | None:
    """Return the number that the field wants, moved into the schema's limits; None if the text has none."""
    pieces = candidates(text)
    wanted = [kind for kind in kinds_of(name, desc) if kind in ("money", "percent", "number")]
    for kind in wanted:
        numbers = (
            pieces.numbers if kind == "number" else [first_number(piece) or 0.0 for piece in pieces.of(kind)]
        )
        if numbers:
            return limited(schema, numbers[0])
    return limited(schema, pieces.numbers[0]) if pieces.numbers else None


def first_number(text: str) -> float | None:
    """Return the first number that is written in figures, with commas between thousands or without."""
    digits = re.search(r"-?\d[\d,]*(?:\.\d+)?", text)
    return float(digits.group().replace(",", "")) if digits else None


def limited(schema: Schema, value: float) -> int | float:
    """Move a number into the limits of a schema, whole where the schema wants it whole."""
    whole = schema.get("type") == "integer"
    step = schema.get("multipleOf") or (1 if whole else 0)
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    nudge = step or 1e-3
    if (bound := schema.get("exclusiveMinimum")) is not None:
        low = max(low, bound + nudge)
    if (bound := schema.get("exclusiveMaximum")) is not None:
        high = min(high, bound - nudge)
    value = min(max(value, low), high)
    if step:
        value = round(value / step) * step
        if value < low:
            value = math.ceil(low / step) * step
        elif value > high:
            value = math.floor(high / step) * step
    return int(value) if whole or ("x-whole" in schema and value == int(value)) else float(value)
