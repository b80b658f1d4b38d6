"""How well what a request mentions fits an argument: by its kind, its role, its label or its unit.

Main path: fits(want, text, known) -> tuple of Fit. "from Berlin" fits an origin by its role, "ticket 12" a
ticket by its label, "4 people" a party size by its unit, "by bike" the mode `cycling` by its meaning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.arithmetic import work_out
from course_lib.lm.simulator.skills.mentions import CODES, COMMON, ROLES, TABLES, VERBS, Mention, mentions
from course_lib.lm.simulator.skills.wanted import UNITS, Wanted

LITTLE, ENOUGH, SURE = 0.0, 1.0, 3.0  # what may be taken for want of better, if required, if not
ROLE, LABEL, UNIT = 2.0, 2.5, 3.0  # what the small word, the label and the unit of a mention weigh
MEANS, CLEARLY = 0.5, 0.1  # how near a phrase must be to one of the values allowed, and nearer than to others


@dataclass(frozen=True, slots=True)
class Fit:
    """A value for an argument, how well it fits, and the part of the text that it takes."""

    score: float
    value: Any
    start: int
    end: int

    def touches(self, spans: Sequence[tuple[int, int]]) -> bool:
        """Say whether it takes what is taken."""
        return any(self.start < end and start < self.end for start, end in spans)


_WORTH: Mapping[str, Mapping[str, float]] = TABLES["worth"]
"""What each kind of mention is worth for each kind of argument."""


@lru_cache(maxsize=2048)
def fits(want: Wanted, text: str, known: frozenset[str]) -> tuple[Fit, ...]:
    """Return what the text offers for an argument; `known` are stems of the tool's own words: no values."""
    if want.kind == "enum":
        return tuple(labels(want, text, known))
    if want.kind == "boolean":
        return tuple(_truths(want, text, known))
    if want.kind in ("integer", "number"):
        found = [_number(want, one) for one in mentions(text)]
    elif want.shapes:
        return tuple(_shaped(want, text))
    else:
        found = [*(_string(want, one, known) for one in mentions(text)), *_wholes(want, text)]
    return tuple(fit for fit in found if fit and fit.score >= LITTLE)


_LOOSE = frozenset(("at", "in", "on", "for", "with"))


def _bearing(want: Wanted, mention: Mention) -> tuple[float, tuple[int, int]]:
    """Return what role and label of a mention are worth for the argument, and what they take of the text."""
    score, span = 0.0, (mention.start, mention.end)
    if mention.marker in want.roles and (mention.marker != "of" or mention.kind not in ("phrase", "counted")):
        score = ROLE
    elif mention.marker in ROLES and mention.marker != "of":
        score = -0.5 if mention.marker in _LOOSE else -1.0
    label = frozenset(mention.label)
    if label & want.stems or label & want.about:
        score = max(score, 0.0) + (LABEL if label & want.stems else LABEL / 2)
        span = (mention.reach[0], mention.end)
    return score, span


def _number(want: Wanted, mention: Mention) -> Fit | None:
    letters, _, digits = str(mention.value).rpartition(" ")
    tagged = digits.removeprefix("#")
    if letters and mention.kind == "id":  # "PIN 4821"
        mention = replace(mention, label=(words.stem(letters.lower()),))
    if mention.kind not in ("number", "money", "percent") and not (mention.kind == "id" and tagged.isdigit()):
        return None
    value = float(tagged)
    own = (mention.kind, None) if mention.kind in ("money", "percent") else _unit_of(mention)
    label = mention.label if not mention.noun or mention.marker in (":", "is") else ()
    score, span = _bearing(want, replace(mention, label=label))
    if set(mention.noun) & want.stems or own[0] == want.unit[0] != "":
        score, span = max(score, 0.0) + UNIT, (mention.start, mention.reach[1])
        value *= own[1] / want.unit[1] if own[1] and want.unit[1] else 1.0
    elif own[0] and (want.unit[0] or "id" in want.stems):
        return None
    value = round(value, 6)
    low, high = want.schema.get("minimum", value), want.schema.get("maximum", value)
    is_whole = want.schema.get("type") == "integer"
    if not low <= value <= high or (is_whole and value != int(value)):
        return None
    return Fit(1.0 + max(score, 0.0), int(value) if value == int(value) else value, *span)


def _unit_of(mention: Mention) -> tuple[str, float | None]:
    return next((UNITS[stem] for stem in mention.noun[:2] if stem in UNITS), ("", None))


_ENDS = frozenset(("start", "begin", "end"))
_OWN_FORM = ("query", "date", "time", "email", "phone", "url")
"""Kinds of argument whose pieces are known by their form, whatever stands before them."""


def _string(want: Wanted, mention: Mention, known: frozenset[str]) -> Fit | None:
    base = _worth(want, mention)
    value = str(int(mention.value)) if isinstance(mention.value, float) else str(mention.value)
    if base and mention.kind in _PHRASES:
        value = _bare_phrase(want, mention, known)
    elif mention.kind == "name" and " " in value and words.stem(value.split()[0].lower()) in known:
        value = value.partition(" ")[2] if mention.start == 0 else value
    value = _in_form(want, value)
    if not base or not value:
        return None
    score, span = _bearing(want, mention)
    score = max(score, 0.0) if want.kind in _OWN_FORM else score
    score, span = (
        (_of_phrase(want, mention, value, score), mention.span) if mention.kind in _PHRASES else (score, span)
    )
    if mention.marker == "" and (want.kind in _OBJECTS or (want.kind, mention.kind) == ("person", "name")):
        score += 1.0 if mention.kind in ("name", "quoted") else 0.5
    if words.stem(value.rpartition(" ")[2].lower()) in want.stems and " " in value:
        score = max(score, 0.0) + LABEL  # "River Stage" for a stage
    if want.kind == "unit":
        score += ROLE * (("from" in want.roles) == (mention.kind == "counted"))
    if want.kind == "naming" and want.stems & {"first", "last", "surnam"}:
        return _part_of_name(want, base + score, value, mention)
    return Fit(base + score, value, *span)


_PHRASES, _OBJECTS = ("phrase", "counted"), ("thing", "naming", "text")


def _worth(want: Wanted, mention: Mention) -> float:
    """Return what a mention of this kind is worth for an argument of that kind."""
    is_hour = mention.kind == "number" and mention.marker == "at" and not mention.noun  # "at 7"
    is_code = mention.kind == "name" and str(mention.value).isupper()
    is_end = mention.kind in ("date", "time") and bool(
        want.stems & _ENDS
    )  # the start of what lasts, or of a way
    if (want.kind == "time" and is_hour) or (want.kind == "id" and is_code) or is_end:
        return 2.0
    return float(_WORTH.get(want.kind, {}).get(mention.kind, 0.0))


def _of_phrase(want: Wanted, mention: Mention, value: str, score: float) -> float:
    """Return the score of a phrase: its own label counts, and what follows "is" is not what is asked for."""
    first = words.stem(str(mention.value).split()[0].lower())
    if first in want.stems and value != mention.value:
        score = max(score, LABEL)
    score += ROLE * (mention.marker == "named" and want.kind == "naming")
    return score - 0.5 * (mention.marker == "is" and score <= 0 and not mention.is_joined)


def _in_form(want: Wanted, value: str) -> str:
    """Return a value in the form that the argument takes; nothing if it cannot have that form."""
    if want.kind == "unit":
        value = re.sub(r"^(?:many|much)\s+", "", value)
        is_money = "currenc" in want.stems or words.stem(value) == "currenc"
        return CODES.get(value.split()[-1].lower(), value) if is_money and value else value
    return _moment(want, value) if want.kind in ("date", "time") else value


_PRONOUNS = frozenset(TABLES["pronouns"].split())


def _bare_phrase(want: Wanted, mention: Mention, known: frozenset[str]) -> str:
    """Return a phrase without the tool's words around it ("restart nginx"); nothing if it has no others."""
    parts = str(mention.value).split()
    stems = [words.stem(part.lower()) for part in parts]
    while len(parts) > 1 and (stems[0] in want.stems | known or parts[0] in words.STOP):
        parts, stems = parts[1:], stems[1:]
    while len(parts) > 1 and stems[-1] in known - want.stems:
        parts, stems = parts[:-1], stems[:-1]
    value = " ".join(parts)
    if _PRONOUNS & {part.lower() for part in parts}:
        return ""
    commons = COMMON if want.kind not in ("text", "query", "naming") else frozenset[str]()
    has_more = any(
        stem not in known and word.lower() not in commons for word, stem in zip(parts, stems, strict=True)
    )
    is_unit = (
        mention.kind == "counted"
        and want.kind != "unit"
        and _unit_of(replace(mention, noun=words.stems(value)))[0]
    )
    is_figure = value[:1].isdigit() and want.kind != "street"
    return value if has_more and not is_unit and not is_figure else ""


def _part_of_name(want: Wanted, score: float, value: str, mention: Mention) -> Fit | None:
    first, _, last = value.partition(" ")
    if not last or mention.kind != "name":
        return None
    cut = mention.start + len(first)
    if "first" in want.stems:
        return Fit(score, first, mention.start, cut)
    return Fit(score, last, cut + 1, mention.end)


def _moment(want: Wanted, value: str) -> str:
    """Return a date or a time in the form that the argument asks for; nothing if it cannot be told."""
    told = f"{want.desc} {want.schema.get('format', '')}"
    if want.kind == "date":
        is_strict = re.search(r"YYYY|ISO|\bdate$|\d{4}-\d\d", told)
        return value if not is_strict or re.fullmatch(r"\d{4}-\d\d-\d\d", value) else ""
    clock = re.fullmatch(
        r"(\d{1,2})(?::(\d\d))?(?::\d\d)?\s?(?:([ap])\.?m\.?|o'clock)?", value, re.IGNORECASE
    )
    if not clock or not re.search(r"HH|24|\btime$|\d\d:\d\d", told):
        return value
    hour = (
        int(clock.group(1)) % 12 + 12 * (clock.group(3) in ("p", "P"))
        if clock.group(3)
        else int(clock.group(1))
    )
    return f"{hour:02}:{clock.group(2) or '00'}"


_SELECT = re.compile(r"\bselect\b.+?(?=;|$)", re.IGNORECASE | re.DOTALL)
_ZIP = re.compile(
    r"(?<![\w-])(?:[A-Z]{1,2}\d[A-Z\d]? ?(?:\d[A-Z]{2}|[A-Z]{2}\d{2})|\d{4,5}(?:-\d{4})?)(?![\w-])"
)
_SEARCHED = re.compile(
    r"\b(?:search|find|look|google|query|ask|anything|something|everything)\b.*?\b(?:for|about|on|by)\s+(.+)",
    re.IGNORECASE,
)


def _wholes(want: Wanted, text: str) -> Iterator[Fit]:
    """Yield what is cut out of the text as a whole: a sum, a statement, a postal code, search words."""
    if want.kind == "sum" and (worked := work_out(text)):
        yield Fit(4.0, worked.expression, 0, len(text))
    if want.kind == "date-time" or "when" in (*want.stems, *want.about):
        yield from _moments(want, text)
    if want.kind in ("sql", "zip"):
        pattern = _SELECT if want.kind == "sql" else _ZIP
        yield from (Fit(4.0, hit.group().strip(), *hit.span()) for hit in pattern.finditer(text))
    if want.kind == "query":
        if searched := _SEARCHED.search(text):
            start, end = searched.span(1)
            yield Fit(3.2, re.sub(r"^(?:the|a|an)\s+", "", text[start:end].rstrip(" .?!")), start, end)
        yield Fit(1.2, " ".join(text.split()), 0, len(text))
    if want.kind == "text" and re.search("reason|why|cause|justification", want.name):
        yield Fit(SURE if re.search(r"\bbecause\b", text) else 1.1, reason(text), 0, 0)
    if want.kind == "text" and _TOLD.search(want.name) and (told := _statement(text)):
        yield Fit(1.05, told, 0, 0)


def _moments(want: Wanted, text: str) -> Iterator[Fit]:
    """Yield a date and the time beside it as one."""
    found = [one for one in mentions(text) if one.kind in ("date", "time")]
    for one, other in pairwise(found):
        start, end = one.start, other.end
        if {one.kind, other.kind} != {"date", "time"} or len(text[one.end : other.start]) > 8:
            continue
        day, clock = (one, other) if one.kind == "date" else (other, one)
        is_iso = want.kind == "date-time"
        told = replace(want, kind="time", schema={"format": "time"}) if is_iso else want
        value = f"{day.value}T{_moment(told, str(clock.value))}:00" if is_iso else text[start:end]
        if not is_iso or re.match(r"\d{4}-", value):
            yield Fit(4.5, value, start, end)


_TOLD = re.compile("description|summary|detail|note|issue|problem|symptom|complaint")


def _statement(text: str) -> str:
    """Return what the request tells, besides what it orders."""
    told = (re.sub(r",?\s*(?:and\s)?(?:please|pls)\b.*", "", one) for one in words.sentences(text))
    long = (one for one in told if len(one.split()) >= 4)
    return next((one for one in long if words.stem(words.words(one)[0]) not in VERBS), "").rstrip(" .,")


def reason(text: str) -> str:
    """Return why, in the words of the request."""
    because = re.search(r"\b(?:because(?: of)?|since|as)\b\s+([^.!?\n]{4,100})", text)
    if because:
        return because.group(1).strip()
    long_sentences = [one for one in words.sentences(text) if len(one) > 12]
    return (long_sentences[0] if long_sentences else text.strip() or "asked for")[:120].rstrip(" .,")


def _shaped(want: Wanted, text: str) -> Iterator[Fit]:
    for shape, prefix, bare in want.shapes:
        hits = list(re.finditer(shape, text, re.IGNORECASE))
        for hit in hits:
            yield Fit(4.0, hit.group().upper() if prefix.isupper() else hit.group(), *hit.span())
        if not hits and bare:  # "order 10154" for O-10154
            for hit in re.finditer(bare, text):
                label = _label_at(hit.start(), text)
                if not label or label & (want.stems | want.about):
                    yield Fit(4.0, f"{prefix}{hit.group()}", *hit.span())
    if want.kind == "email":
        yield from (Fit(4.0, one.value, one.start, one.end) for one in mentions(text) if one.kind == "email")


def _label_at(start: int, text: str) -> frozenset[str]:
    return frozenset(stem for one in mentions(text) if one.start == start for stem in one.label)


# -- one of several values --------------------------------------------------------------------------------


def labels(want: Wanted, text: str, known: frozenset[str]) -> Iterator[Fit]:
    """Yield the allowed values that the text names, or the one that a phrase of it means."""
    labels = want.schema.get("enum") or [want.schema["const"]]
    named = [
        (label, hit)
        for label in labels
        if isinstance(label, str | int | float)
        for hit in _spelled(str(label), text)
    ]
    for label, hit in named:
        before = re.search(r"(\w+)\s+(?:the\s+)?$", text[: hit.start()])
        marker = before.group(1).lower() if before else ""
        if re.search(r"\d\s*$", text[: hit.start()]):
            marker = "from"  # "40 GBP in CHF" comes from what has a number
        elif marker in ("many", "much"):
            marker = "to"
        role = ROLE if marker in want.roles else -1.0 if marker in ROLES else 0.0
        yield Fit(SURE + 0.8 + max(role, 0.0) + 0.01 * len(str(label)), label, *hit.span())
    if named:
        return
    least = MEANS if want.required else MEANS + CLEARLY
    for mention in mentions(text):
        if mention.kind not in ("phrase", "name") or (not want.required and mention.marker not in want.roles):
            continue
        stems = {words.stem(word) for word in words.words(str(mention.value))}
        if (
            len(stems) <= 4
            and not stems <= known
            and (label := meant(str(mention.value), labels, least)) is not None
        ):
            yield Fit(SURE, label, mention.start, mention.end)


def _spelled(label: str, text: str) -> Iterator[re.Match[str]]:
    """Yield where the text has the words of a label, in another form or as the short name of a day."""
    spelled = re.sub(r"[\s_-]+", r"[\\s_-]+", re.escape(label.replace("_", " ")).replace("\\ ", " "))
    others = [name for name, code in CODES.items() if code == label]
    if re.fullmatch(r"(?i:mon|tue|wed|thu|fri|sat|sun)", label):
        spelled += r"[a-z]*day"
    same_case = "" if len(label) == 1 or label.lower() in words.STOP else "i"  # "a" is no grade A
    spelled = f"(?{same_case}:{spelled})" if same_case else spelled
    spoken = "|".join(rf"(?<!\w)(?i:{name})" if name.isalpha() else re.escape(name) for name in others)
    pattern = rf"(?<!\w){spelled}(?:s|es)?(?!\w)"
    if others:
        pattern += rf"|(?:{spoken})(?:(?!\w)|(?=\d))"
    yield from re.finditer(pattern, text)


@lru_cache(maxsize=1024)
def _meant(phrase: str, labels: tuple[str, ...]) -> tuple[float, float, int]:
    vectors = encode([phrase, *(label.replace("_", " ") for label in labels)])
    near = vectors[1:] @ vectors[0]
    order = near.argsort()[::-1]
    second = float(near[order[1]]) if len(order) > 1 else 0.0
    return float(near[order[0]]), second, int(order[0])


def meant(phrase: str, labels: Sequence[Any], least: float) -> Any:
    """Return the label that a phrase means, or None if it is near to none, or to two."""
    best, second, at = _meant(phrase, tuple(map(str, labels)))
    return labels[at] if best >= least and best - second >= CLEARLY else None


_NO = r"(?:\b(?:no|not|without|don't|never|nor|except|isn't|neither)\b(?:\s+\w+){0,2}\s*)"
_TRUE, _FALSE = (
    r"\b(?:on|enabled?|yes|true|open|activated?|start)\b",
    r"\b(?:off|disabled?|no|false|closed?|stop|deactivated?)\b",
)
_STATES = frozenset(("on", "enabl", "enabled", "state", "activ", "power", "valu", "is_on", "tur"))


def _truths(want: Wanted, text: str, known: frozenset[str]) -> Iterator[Fit]:
    """Yield true or false: by on and off, or by whether the text speaks of it, and says no to it."""
    if want.stems & _STATES:
        for pattern, value in ((_FALSE, False), (_TRUE, True)):
            for hit in re.finditer(pattern, text, re.IGNORECASE):
                yield Fit(SURE, value, *hit.span())
        return
    generic = {"whether", "true", "false", "want", "only", "includ", "if", "flag", "can", "see", "other"}
    concept = {
        one
        for one in want.stems | (want.about - known)
        if one not in generic and one not in words.STOP and len(one) > 2
    }
    for hit in re.finditer(r"[\w-]+", text):
        if (
            words.stem(hit.group().lower()) in concept
            or words.stem(hit.group().lower().replace("-", " ").split(" ")[0]) in want.stems
        ):
            denied = re.search(_NO + "$", text[: hit.start()], re.IGNORECASE)
            yield Fit(SURE, not denied, *hit.span())
            return
    if want.required:
        yield Fit(ENOUGH, False, 0, 0)
