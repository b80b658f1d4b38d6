"""Arguments for a tool, out of what a request mentions: each mention is used once, the best fits first.

Main path: fill(params, text) -> Filled. A fit weighs the kind of a mention, its preposition, its label and
its unit: "from Berlin" fits an origin, "ticket 12" a ticket number, "4 people" the size of a party.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.agents.lexing import (
    CODES,
    COMMON,
    GRAMMAR,
    SPELLINGS,
    UNITS,
    VERBS,
    Mention,
    Placed,
    Span,
    lex,
)
from course_lib.lm.simulator.agents.slots import (
    Slot,
    allowed,
    fields_of,
    kinds_named,
    plain,
    singular,
    slot_of,
    slots,
)
from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.arithmetic import work_out

ENOUGH, SURE = 1.0, 2.5
"""How well a mention must fit an argument that is required, and one that may be left out."""
MOST_JOINED = 40  # values or parts of a list that are read
ROLE, LABEL, UNIT = 2.0, 2.5, 2.5
"""What the preposition, the label and the unit of a mention weigh."""
MEANS, CLEARLY = 0.5, 0.1
"""How near a phrase must be to a value allowed, and how much nearer than to the others."""


@dataclass(frozen=True, slots=True)
class Fit(Placed):
    """A value for an argument, how well it fits, and the part of the text that it takes."""

    score: float
    value: Any
    start: int
    end: int
    kind: str = ""
    """Of the mention."""


@dataclass(frozen=True, slots=True)
class Filled:
    """The arguments that a text gives for a tool."""

    args: dict[str, Any]
    missing: tuple[str, ...]
    """Names of required arguments that it does not give."""
    chosen: Mapping[tuple[str, ...], Fit] = field(default_factory=dict)
    """What was used of the text, by the path of the argument."""

    @property
    def spans(self) -> tuple[Span, ...]:
        """The places of the text that were used."""
        return _spans(self.chosen)

    def leaves(self, others: Sequence[Filled]) -> bool:
        """Say whether others use a place of the text that is not used here."""
        return any(not fit.touches(self.spans) for other in others for fit in other.chosen.values())


# -- one mention and one argument -------------------------------------------------------------------------

_WORTH: dict[str, dict[str, float]] = {
    "email": {"email": 4}, "url": {"url": 4}, "phone": {"phone": 4}, "sum": {}, "zip": {},
    "date": {"date": 2.5}, "time": {"time": 2.5}, "date-time": {"date": 1},
    "street": {"street": 4, "name": 1, "named": 1, "phrase": 0.5},
    "path": {"path": 3, "quoted": 2, "name": 0.5, "named": 0.5, "phrase": 0.5},
    "id": {"code": 2.5, "number": 1.5, "tag": 2, "quoted": 1, "name": 0.5, "phrase": 0.2},
    "unit": {"unit": 3, "phrase": 1, "name": 1.5, "named": 1},
    "place": {"name": 2, "named": 2, "street": 2, "quoted": 1, "tag": 1, "phrase": 0.6, "code": 0.5},
    "person": {"name": 2, "email": 1, "tag": 1, "quoted": 1, "phrase": 0.2},
    "company": {"name": 2, "named": 2, "quoted": 1, "code": 0.5, "phrase": 0.6},
    "language": {"name": 2, "phrase": 0.2},
    "text": {"text": 4, "short text": 4.1, "quoted": 3, "phrase": 1, "named": 1},
    "query": {"text": 3, "quoted": 3, "phrase": 1, "name": 1.5, "named": 1.5},
    "title": {"quoted": 3, "name": 2, "named": 2, "path": 1.5, "text": 0.6, "short text": 0.7,
              "phrase": 1.0, "code": 0.5},
    "thing": {"quoted": 2, "name": 2, "named": 2, "path": 2, "tag": 2, "code": 1.5, "street": 1,
              "phrase": 1, "number": 0.1},
}  # fmt: skip
"""What each kind of mention is worth for each kind of argument."""


@lru_cache(maxsize=4096)
def fits(
    slot: Slot,
    text: str,
    known: frozenset[str],
    has_moments: bool = False,
) -> tuple[Fit, ...]:
    """Return what the text offers for an argument; `known` are stems of the tool's own words: no values.

    Where the tool has arguments for days or times, a text to hand on ends before those at its end.
    """
    if slot.kind == "enum":
        return tuple(_labels(slot, text, known))
    if slot.kind == "boolean":
        return tuple(_truths(slot, text, known))
    if slot.shape:
        return tuple(_shaped(slot, text))
    found = lex(text)
    short = {one.start for one in found if one.kind == "short text"} if has_moments else set[int]()
    unwanted = ("text",) if short else ("short text",)
    found = tuple(one for one in found if one.kind not in unwanted or (short and one.start not in short))
    if slot.kind in ("number", "integer"):
        offered = [_number(slot, one) for one in found]
    else:
        offered = [_string(slot, one, known) for one in found]
        offered += _wholes(slot, text, found)
    return tuple(fit for fit in offered if fit and fit.score > 0)


def _bearing(slot: Slot, one: Mention) -> float:
    """Return what the preposition and the label of a mention are worth for the argument."""
    return ROLE * (one.lead in slot.roles and one.lead != "of") + LABEL * bool({*one.label} & slot.stems)


def _number(slot: Slot, one: Mention) -> Fit | None:
    kind, tagged = one.kind, str(one.value).rpartition(" ")[2].removeprefix("#")
    if kind not in ("number", "money", "percent") and not (kind == "code" and tagged.isdigit()):
        return None
    value, own = float(tagged), _measure(one)
    score, dimension = _bearing(slot, one), slot.unit[0]
    if (dimension and own[0] == dimension) or (dimension == "count" and not own[0] and one.noun):
        score += UNIT
        value = converted(value, own, slot.unit)
    elif own[0] and (dimension or "id" in slot.stems):
        return None
    if {*one.noun} & slot.stems or (one.label[:1] == ("peopl",) and dimension == "people"):
        score += UNIT
    value = round(value, 6)
    figure = int(value) if value == int(value) else value
    return Fit(1.0 + score, figure, one.start, one.end, "number") if _within(slot, value) else None


def _within(slot: Slot, value: float) -> bool:
    low, high = slot.schema.get("minimum", value), slot.schema.get("maximum", value)
    return bool(low <= value <= high) and (slot.schema.get("type") != "integer" or value == int(value))


def _measure(one: Mention) -> tuple[str, float, str]:
    if one.kind in ("money", "percent"):
        return one.kind, 1.0, ""
    return next((UNITS[stem] for stem in one.noun if stem in UNITS), ("", 1.0, ""))


def converted(value: float, own: tuple[str, float, str], wanted: tuple[str, float, str]) -> float:
    """Return a value in another unit of the same dimension; unchanged if that unit is open."""
    if own[0] == "temperature" and own[2] != wanted[2] and wanted[2]:
        return round((value - 32) / 1.8, 1) if own[2] == "fahrenheit" else round(value * 1.8 + 32, 1)
    return (
        value * own[1] / wanted[1] if wanted[1] and own[1] and own[0] == wanted[0] != "temperature" else value
    )


_WORDY = ("name", "named", "quoted", "phrase")
"""Kinds of mentions that are words, and say less of what they are than a date or an address."""


def _worth(slot: Slot, one: Mention) -> float:
    """Return what the kind of a mention is worth for the argument."""
    if one.kind in ("date", "time") and slot.kind in ("thing", "place"):
        return 1.5 if slot.stems & {"start", "begin", "end"} else 0.0
    last = str(one.value).rpartition(" ")[2].lower()
    if one.kind == "named" and not (last[-1:].isdigit() or slot.kind in kinds_named(last)):
        return 0.0  # "Munich airport" is a place, "Munich tickets" is none
    if slot.kind == "id" and str(one.value).isupper():
        return 2.0  # "AAPL"
    return float(_WORTH.get(slot.kind, _WORTH["thing"]).get(one.kind, 0.0))


def _string(slot: Slot, one: Mention, known: frozenset[str]) -> Fit | None:
    worth, score = _worth(slot, one), _bearing(slot, one)
    if not worth:
        return None
    value = str(one.value).removesuffix(".0")
    if slot.is_moment:
        value, score = in_form(slot, value), score
    elif one.kind in ("phrase", "named"):
        value = _bare(slot, one, known)
    elif slot.kind == "unit":
        value = _unit(slot, one, value)
    if not value:
        return None
    score = _named_so(slot, one, value, score) + _placed(slot, one, known)
    if slot.stems & {"first", "last", "surnam"} and slot.stems & {"nam", "surnam"}:
        return _part_of_name(slot, worth + score, value, one)
    return Fit(worth + score, value, one.start, one.end, one.kind)


def _placed(slot: Slot, one: Mention, known: frozenset[str]) -> float:
    """Return what it is worth that words stand without a preposition, behind a label, or joined to others."""
    score = 0.0
    if one.lead == ":" and {*one.label} & known and slot.required and slot.kind in ("title", "thing", "text"):
        score += ROLE  # "New calendar entry: Budget meeting"
    if one.lead or one.kind not in _WORDY:
        return score
    if slot.kind in ("title", "thing", "person", "text"):
        is_open = slot.required or not one.is_joined
        score += 0.3 if one.kind == "phrase" else float(is_open)
    return score - (one.is_joined and not slot.required)  # it belongs to what it is joined to


def _named_so(slot: Slot, one: Mention, value: str, score: float) -> float:
    """Return the score with what it is worth that words beside or in a mention name the argument."""
    stems = [words.stem(part.lower()) for part in str(one.value).split()]
    if one.lead == "called" and slot.stems & {"nam", "titl", "label"}:
        score += ROLE
    if one.kind == "phrase" and len(stems) > 1 and {stems[0], stems[-1]} & slot.stems:
        score += LABEL  # "extra olives"
    last = words.stem(value.split()[-1].lower()) if one.kind in ("name", "named") else ""
    is_of = {*one.noun[:1], last} & slot.stems
    return score + LABEL if is_of else score  # "the Turing room" for a room


def _unit(slot: Slot, one: Mention, value: str) -> str:
    """Return a unit as written, a currency as its code; nothing if a currency is meant and it is none."""
    if not {"currenc", "iso"} & (slot.stems | slot.about):
        return value
    code = CODES.get(value.lower(), value)
    return code if code in CODES.values() or one.kind not in ("unit", "name") else ""


def _bare(slot: Slot, one: Mention, known: frozenset[str]) -> str:
    """Return a phrase without the tool's own words around it; nothing if it has no others."""
    parts = str(one.value).split()
    stems = [words.stem(part.lower()) for part in parts]
    named = kinds_named(re.split(r"\sof\s", str(one.value))[0].split()[-1].lower())
    if named and slot.kind not in (*named, "text", "query", "title", "thing"):
        return ""  # "the departure time" is no place
    mine = slot.stems | known | UNITS.keys()
    while len(parts) > 1 and (stems[0] in mine or parts[0].lower() in words.STOP or parts[0][0].isdigit()):
        parts, stems = parts[1:], stems[1:]
    while len(parts) > 1 and (stems[-1] in known - slot.stems or parts[-1].lower() in words.STOP):
        parts, stems = parts[:-1], stems[:-1]
    is_any = slot.kind in ("text", "query", "title") or len(parts) < len(str(one.value).split())
    pieces = [piece for part in parts for piece in part.lower().split("-")]
    said = words.STOP if is_any else COMMON
    is_own = any(words.stem(piece) not in known and piece not in said for piece in pieces)
    return " ".join(parts) if is_own and not (stems[0] in UNITS and slot.kind != "unit") else ""


def _part_of_name(slot: Slot, score: float, value: str, one: Mention) -> Fit | None:
    first, _, last = value.partition(" ")
    if not last or one.kind != "name":
        return None
    cut = one.start + len(first)
    return Fit(score, first, one.start, cut) if "first" in slot.stems else Fit(score, last, cut + 1, one.end)


_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def in_form(slot: Slot, value: str) -> str:
    """Return a day or a time in the form that the argument asks for; nothing if it cannot have that form."""
    told = f"{slot.desc} {slot.schema.get('format', '')}"
    if slot.kind == "time":
        return f"{value}:00" if re.search(r"HH:MM:SS", told) else value
    is_strict = re.search(r"YYYY|ISO|\bdate$|\d{4}-\d\d", told)
    if not is_strict or re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        return value
    is_weekday = value in _WEEKDAYS and re.search(r"weekday|monday", told, re.IGNORECASE)
    return value if is_weekday or re.search(rf"\b{re.escape(value)}\b", told, re.IGNORECASE) else ""


_ZIP = re.compile(
    r"(?<![\w-])(?:[A-Z]{1,2}\d[A-Z\d]? ?(?:\d[A-Z]{2}|[A-Z]{2}\d{2})|\d{4,5}(?:-\d{4})?)(?![\w-])"
)


def _wholes(slot: Slot, text: str, found: Sequence[Mention]) -> Iterator[Fit]:
    """Yield what is cut out of the text as a whole: a sum, a statement, search words, a reason, a moment."""
    if slot.kind == "sum" and (worked := work_out(text)):
        yield Fit(4.0, worked.expression, 0, len(text))
    if slot.kind == "zip":
        for hit in _ZIP.finditer(text):
            yield Fit(4.0, hit.group().strip(), *hit.span())
    if slot.kind == "query":
        yield Fit(1.2, " ".join(text.split()), 0, len(text))
    if slot.kind == "text" and slot.stems & _REASONS:
        yield Fit(SURE if re.search(r"\bbecause\b", text) else 1.1, reason(text), 0, 0)
    elif slot.kind == "text" and slot.stems & _TOLD:
        long = [one.rstrip(" .,") for one in words.sentences(text) if len(one.split()) >= 4]
        yield from [Fit(1.05, one, 0, 0) for one in long if words.words(one)[0] not in VERBS][:1]
    if slot.kind == "date-time" or {"when"} & (slot.stems | slot.about):
        yield from _moments(slot, text, found)


def _moments(slot: Slot, text: str, found: Sequence[Mention]) -> Iterator[Fit]:
    """Yield a day and the time beside it as one."""
    moments = [one for one in found if one.kind in ("date", "time")]
    for one, other in itertools.pairwise(moments):
        if {one.kind, other.kind} != {"date", "time"} or other.start - one.end > 8:
            continue
        day, clock = (one, other) if one.kind == "date" else (other, one)
        is_iso = slot.kind == "date-time"
        if not is_iso or re.match(r"\d{4}-", day.value):
            value = f"{day.value}T{clock.value}:00" if is_iso else text[one.start : other.end]
            yield Fit(4.5, value, one.start, other.end)


_REASONS = frozenset(("reason", "caus", "justification"))
_TOLD = frozenset(map(words.stem, "description summary details notes issue problem complaint".split()))  # noqa: SIM905


def reason(text: str) -> str:
    """Return why, in the words of the request."""
    if because := re.search(r"\b(?:because(?: of)?|since|as)\b\s+([^.!?\n]{4,100})", text):
        return because.group(1).strip()
    long_sentences = [one for one in words.sentences(text) if len(one) > 12]
    return (long_sentences[0] if long_sentences else text.strip() or "asked for")[:120].rstrip(" .,")


def _shaped(slot: Slot, text: str) -> Iterator[Fit]:
    """Yield what has the form of the examples; else a number or a code with another prefix, meant as one."""
    hits = list(re.finditer(slot.shape, text, re.IGNORECASE if "d" in slot.shape else 0))
    prefix = re.search(r"\(\?<!\[\\w-\]\)([A-Za-z]{1,4}-)\\d", slot.shape)
    for hit in hits:
        yield Fit(4.0, hit.group().upper() if prefix and prefix[1].isupper() else hit.group(), *hit.span())
    for one in lex(text) if prefix and not hits else ():
        written = text[one.start : one.end]
        is_said = not one.label or {*one.label[:1]} & (slot.stems | slot.about)
        if one.kind == "code" and re.fullmatch(r"[A-Z]{1,4}-\d+", written) and is_said:
            yield Fit(3.0, written, one.start, one.end)
        elif one.kind == "number" and one.value > 9 and not one.noun and is_said:  # "order 10154"
            yield Fit(4.0, prefix[1] + written, one.start, one.end)  # type: ignore[index]


# -- one of several values --------------------------------------------------------------------------------


def _labels(slot: Slot, text: str, known: frozenset[str]) -> Iterator[Fit]:
    """Yield the allowed values that the text names, or those that its phrases mean."""
    found, labels = lex(text), allowed(slot)
    named = [(label, hit) for label in labels for hit in _spelled(str(label), text, slot.desc)]
    for label, hit in named:
        beside = [m for m in found if m.start <= hit.start() < m.end and m.kind in ("phrase", "unit", "name")]
        one = min(beside, key=lambda m: m.kind != "unit", default=None)
        role = _bearing(slot, one) if one else 0.0
        yield Fit(SURE + 0.8 + role + 0.01 * len(str(label)), label, *hit.span())
    phrases = [
        one for one in found if one.kind in ("phrase", "name") and not {*words.stems(one.value)} <= known
    ]
    if named or not phrases:
        return
    vectors = encode([*(one.value for one in phrases), *(str(label).replace("_", " ") for label in labels)])
    for one, near in zip(phrases, vectors[: len(phrases)] @ vectors[len(phrases) :].T, strict=True):
        best, second = sorted((*near, 0.0), reverse=True)[:2]
        if best >= MEANS and best - second >= CLEARLY:
            yield Fit(SURE, labels[int(near.argmax())], one.start, one.end)


def _spelled(label: str, text: str, desc: str) -> Iterator[re.Match[str]]:
    """Return where the text has the words of a label, or other names of its unit, code or weekday."""
    plain_form = r"[\s_-]+".join(re.escape(piece) for piece in re.split(r"[\s_-]+", label))
    unit = UNITS.get(words.stem(label.lower())) or next((u for u in UNITS.values() if u[2] == label), None)
    names = SPELLINGS[unit[2]] if unit else ()
    others = [name for name in names if len(name) > 1 and name not in ("degree", "degrees", "head")]
    others += [name for name, code in CODES.items() if code == label]
    others += [told for name, told in re.findall(r"(\w+) = (?:\w+ )?(\w+)", desc) if name == label]
    same_case = len(label) == 1 or label.lower() in words.STOP
    if same_case and unit:
        return re.finditer(rf"(?<=\d\s)(?:{plain_form}|{'|'.join(others)})\b", text)
    parts = [re.escape(one) for one in others] + [GRAMMAR["often"].get(label.lower(), r"(?!)")]
    if re.fullmatch(r"(?i:mon|tue|wed|thu|fri|sat|sun)", label):
        parts.append(f"{label}[a-z]*day")
    own = plain_form if same_case else f"(?i:{plain_form.replace('email', 'e-?mail')})"
    before = r"(?<![a-zA-Z])" if unit or label in CODES.values() else r"(?<!\w)"
    return re.finditer(rf"{before}(?:{own}|(?i:{'|'.join(parts)}))(?:s|es)?(?![a-zA-Z])", text)


_NO = re.compile(
    r"\b(?:no|not|without|don't|never|off|false|disabled?|isn't)\b(?:\s+\w+){0,2}\s*$", re.IGNORECASE
)
_SWITCHES = frozenset(("on", "enabl", "enabled", "state", "activ", "power"))
_EMPTY = frozenset("whether true false want only includ if flag can see other is everyon ma".split())  # noqa: SIM905


def _truths(slot: Slot, text: str, known: frozenset[str]) -> Iterator[Fit]:
    """Yield true or false: by on and off, or by whether the text speaks of it, and says no to it."""
    about = {one for one in slot.about - known if len(one) > 2}
    is_switch = bool(slot.stems & _SWITCHES)
    own = {"on", "off"} if is_switch else (slot.stems | about) - _EMPTY - words.STOP
    for hit in re.finditer(r"\w+", text):
        if words.stem(hit.group().lower()) in own:
            before = text[: hit.end() if is_switch else hit.start()]
            yield Fit(SURE, not _NO.search(before), *hit.span())
            return


# -- lists ------------------------------------------------------------------------------------------------


def _list(slot: Slot, text: str, known: frozenset[str], taken: Sequence[Span]) -> Fit | None:
    """Return the list that the text gives: what stands joined by commas and "and"."""
    definitions = slot.schema.get("$defs", {})
    item = plain(slot.schema.get("items") or {}, definitions)
    if item.get("properties"):
        return _records(slot, item, text, taken)
    single = slot_of((*slot.path[:-1], singular(slot.path[-1])), item, slot.desc, slot.required)
    single = replace(single, roles=slot.roles | single.roles)
    run = _best_run([fit for fit in fits(single, text, known) if not fit.touches(taken)], text, ENOUGH)
    values = list(dict.fromkeys(fit.value for fit in run))
    return Fit(run[0].score, values, run[0].start, run[-1].end) if run else None


def _best_run(offered: Sequence[Fit], text: str, least: float) -> list[Fit]:
    """Return the joined fits of which the first is the best, if that is good enough."""
    runs = joined_runs([fit for fit in offered if fit.score >= ENOUGH], text)
    runs = [run for run in runs if run[0].score >= least]
    return max(runs, key=lambda run: run[0].score + 0.5 * (len(run) > 1), default=[])


def joined_runs(offered: Sequence[Fit], text: str) -> list[list[Fit]]:
    """Return the fits that stand joined to each other, of those at the same place the best."""
    best: list[Fit] = []
    for fit in sorted(offered, key=lambda one: (-one.score, one.start))[:MOST_JOINED]:
        if not fit.touches([(one.start, one.end) for one in best]):
            best.append(fit)
    runs: list[list[Fit]] = []
    for fit in sorted(best, key=lambda one: one.start):
        between = text[runs[-1][-1].end : fit.start] if runs else ""
        is_joined = re.fullmatch(
            r"\W*(?:(?:and|or|plus)\W*)?(?:an?|the|some|my|to|for|\d+|one|two|three|four|five|six)?\W*",
            between,
        )
        if runs and re.search(r"[,&]|and|or|plus", between) and is_joined:
            runs[-1].append(fit)
        else:
            runs.append([fit])
    return runs


_JOINT = re.compile(
    r"\s*(?:;|,\s*and\b|,\s*or\b|\band\b|\bor\b|,|&)\s*(?:(?:one(?=\s(?:for|to|at|on|in|from)\b)|another|also|then)\s)?",
    re.IGNORECASE,
)


@lru_cache(maxsize=1024)
def joined_parts(text: str) -> tuple[Span, ...]:
    """Return from where to where the joined parts of a text reach."""
    whole = [(one.start, one.end) for one in lex(text) if one.kind not in ("phrase", "text", "name")]
    joints = [
        hit for hit in _JOINT.finditer(text) if not any(a < hit.end() and hit.start() < b for a, b in whole)
    ]
    edges = [0, *(place for hit in joints[:MOST_JOINED] for place in hit.span()), len(text)]
    return tuple((start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end)


_LEAD_IN = re.compile(r":\s|\s{3,}|\b(?:with|including|containing)\s")


def _records(slot: Slot, item: Any, text: str, taken: Sequence[Span]) -> Fit | None:
    """Return a list of objects: one for each joined part of the text that has all that an object needs."""
    fields = fields_of(item, slot.schema.get("$defs", {}))
    for start, end in taken:
        text = text[:start] + ";".ljust(end - start) + text[end:]
    rows, spans = [], []
    for start, end in joined_parts(text):
        cut = max([start, *(hit.end() for hit in _LEAD_IN.finditer(text, start, end))])
        filled = fill(fields, text[cut:end])
        if not filled.missing:
            rows.append(filled.args)
            spans.append((cut, end))
    return Fit(SURE, rows, spans[0][0], spans[-1][1]) if rows else None


# -- all arguments of a tool ------------------------------------------------------------------------------


def fill(
    params: Sequence[Field],
    text: str,
    known: frozenset[str] = frozenset(),
    *,
    within: Span | None = None,
) -> Filled:
    """Return arguments for a tool out of a text, or out of the part of it `within` two places.

    `known` are the stems of the tool's own words, which are no values.
    """
    wanted = slots(tuple(params))
    chosen: dict[tuple[str, ...], Fit] = {}
    arrays = [slot for slot in wanted if slot.kind == "array"]
    lists = ((slot, _list(slot, text, known, ())) for slot in arrays)
    names = ((slot, fit) for slot, fit in lists if fit and not isinstance(fit.value[0], dict))
    # "Carlos, Dewi and Ingrid" is a list before any of them is something else
    _take(chosen, ((slot, fit) for slot, fit in names if len(fit.value) > 1), within)
    _take(chosen, _in_order(wanted, text, known, SURE), within)
    lists = (
        (slot, _list(slot, text, known, _spans(chosen))) for slot in arrays
    )  # after what is taken so far
    _take(
        chosen, ((slot, fit) for slot, fit in lists if fit and (slot.required or fit.score >= SURE)), within
    )
    _take(chosen, _in_order(wanted, text, known, ENOUGH), within)
    missing = tuple(slot.name for slot in wanted if slot.required and slot.path not in chosen)
    return Filled(_nested(wanted, chosen), missing, chosen)


def _take(chosen: dict[tuple[str, ...], Fit], pairs: Iterable[tuple[Slot, Fit]], within: Span | None) -> None:
    """Take fits for arguments that have none, if nothing else has taken their place in the text."""
    for slot, fit in pairs:
        start, end = within or (fit.start, fit.end)
        is_inside = start <= fit.start <= fit.end <= end or fit.start == fit.end
        if slot.path not in chosen and is_inside and not fit.touches(_spans(chosen)):
            chosen[slot.path] = fit


def _spans(chosen: Mapping[tuple[str, ...], Fit]) -> tuple[Span, ...]:
    return tuple((fit.start, fit.end) for fit in chosen.values())


def _in_order(
    wanted: Sequence[Slot], text: str, known: frozenset[str], least: float
) -> list[tuple[Slot, Fit]]:
    """Return arguments and fits that are good enough, the best first; equal ones in the order of both."""
    has_moments = any(slot.is_moment for slot in wanted)
    pairs = [
        (slot, fit)
        for slot in wanted
        if slot.kind != "array"
        for fit in fits(slot, text, known, has_moments)
        if fit.score >= (least if slot.required else SURE)
    ]
    order = {slot: at for at, slot in enumerate(wanted)}
    return sorted(
        pairs, key=lambda pair: (-pair[1].score - pair[0].required / 2, order[pair[0]], *_place(pair[1]))
    )


def _place(fit: Fit) -> Span:
    return fit.start, -fit.end


def _nested(wanted: Sequence[Slot], chosen: dict[tuple[str, ...], Fit]) -> dict[str, Any]:
    """Put the values where their paths say."""
    args: dict[str, Any] = {}
    for slot in wanted:
        if slot.path in chosen:
            inner = args
            for name in slot.path[:-1]:
                inner = inner.setdefault(name, {})
            inner[slot.path[-1]] = chosen[slot.path].value
    return args
