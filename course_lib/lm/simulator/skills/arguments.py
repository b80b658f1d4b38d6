"""Arguments for a tool, out of what a request mentions and of what tools gave back.

Main path: fill(params, mentions) -> Filled: each mention is used once, by its kind, its role ("from", "to"),
its label ("ticket 12") or its unit ("4 people"); from_observations(param, ...) -> values, best first.
An argument whose description shows an example ("such as O-10001") takes only what has that shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

from course_lib.lm.encoder import encode
from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.schema import Schema
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.arithmetic import work_out
from course_lib.lm.simulator.skills.mentions import (
    COMMON,
    CODES,
    ROLES,
    TABLES,
    VERBS,
    Mention,
    mentions,
)
from course_lib.lm.simulator.skills.observed import Leaf, Seen, is_command
from course_lib.lm.simulator.skills.shape import resolve

LITTLE, ENOUGH, SURE = (
    0.0,
    1.0,
    3.0,
)  # what a mention must score for an argument that is required, or may be left out
ROLE, LABEL, UNIT = 2.0, 2.5, 3.0  # what the small word, the label and the unit of a mention weigh
MEANS, CLEARLY = 0.5, 0.1  # how near a phrase must be to one of the values allowed, and nearer than to others
_KINDS = {kind: frozenset(names.split()) for kind, names in TABLES["kinds"].items()}
_UNITS = {
    words.stem(name): (dimension, float(factor) if factor else None)
    for dimension, units in TABLES["units"].items()
    for factor, names in units.items()
    for name in names.split()
}
"""What each word measures, and in how many of the plain unit: ("mass", 0.001) for grams."""


# -- what an argument wants -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """An argument that takes one value or one list: nested objects are taken apart into their parts."""

    path: tuple[str, ...]
    schema: Schema
    desc: str
    required: bool
    is_part: bool
    """Its object needs it, where there is one."""
    kind: str
    shapes: tuple[tuple[str, str, str], ...]
    """Pattern, prefix, and pattern without the prefix, of the pieces that will do; any piece if none."""
    stems: frozenset[str]
    """Of its name."""
    about: frozenset[str]
    """Stems of its description."""
    roles: frozenset[str]
    """The small words that introduce it."""
    unit: tuple[str, float | None]
    """What it measures and in which unit; an empty text if that is open."""

    @property
    def name(self) -> str:
        """Its name in words."""
        return " ".join(self.path[-2:]).replace("_", " ")


def _words_of(name: str) -> list[str]:
    spread = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("_", " ").replace("-", " ")
    return words.words(spread)


def plain(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Return the schema without references, and without null where it is one of two."""
    schema = resolve(schema, definitions)
    options = [resolve(one, definitions) for one in schema.get("anyOf") or schema.get("oneOf") or ()]
    real = [one for one in options if one.get("type") != "null"]
    if real:
        schema = {**{k: v for k, v in schema.items() if k not in ("anyOf", "oneOf")}, **real[0]}
    kinds = schema.get("type")
    if isinstance(kinds, list):
        schema = {**schema, "type": next((one for one in kinds if one != "null"), "string")}
    return schema


@lru_cache(maxsize=1024)
def wanted(params: tuple[Field, ...]) -> tuple[Wanted, ...]:
    """Return the arguments that take a value each."""
    return tuple(one for param in params for one in _leaves(param, (), param.required))


def _leaves(param: Field, above: tuple[str, ...], required: bool) -> Iterator[Wanted]:
    definitions = {**param.schema.get("definitions", {}), **param.schema.get("$defs", {})}
    schema = plain(param.schema, definitions)
    properties = schema.get("properties")
    path = (*above, param.name)
    if not properties or len(path) > 4:
        yield _wanted(path, {**schema, "$defs": definitions}, param.desc, required, is_part=param.required)
        return
    wants = schema.get("required", ())
    for name, child in properties.items():
        about = str(child.get("description", ""))
        part = Field(name, {**child, "$defs": definitions}, about, required=name in wants)
        yield from _leaves(part, path, required and name in wants)


def _wanted(
    path: tuple[str, ...], schema: Schema, desc: str, required: bool, *, is_part: bool = False
) -> Wanted:
    name, about = _words_of(path[-1]), words.words(desc)
    stems = frozenset(map(words.stem, name))
    told = frozenset(words.stem(word) for word in about if word not in words.STOP)
    roles = {small for small, of in ROLES.items() if of & stems} | (ROLES.keys() & {*name, *about[-1:]})
    roles = next((set(pair) for pair in _PAIRS if pair[0] in name), roles)
    units = [_UNITS[one] for one in map(words.stem, reversed(name)) if one in _UNITS]
    units = units or [_UNITS[one] for one in map(words.stem, about) if one in _UNITS][:1]
    unit = (sorted(units, key=lambda one: one[1] is None) or [("", None)])[0]
    above = {word for part in path[:-1] for word in _words_of(part)}
    if stems & {"nam", "id", "email", "phon"}:
        roles |= {small for small, of in ROLES.items() if of & set(map(words.stem, above))}
    kind = _kind(schema, name, about)
    roles |= {"in", "at", "on"} if about[:1] == ["where"] else set()
    shapes = _shapes(schema, desc) if kind not in ("date", "time", "text", "query") else ()
    return Wanted(path, schema, desc, required, is_part, kind, shapes, stems, told, frozenset(roles), unit)


_PAIRS = (("from", "since", "between"), ("to", "into", "in", "until", "as"))
"""The small words for the two ends of a change or a way, where the argument is named after one of them."""
_GENERIC = ("id", "naming", "place", "person")
_TYPED = ("email", "phone", "url", "path")


def _kind(schema: Schema, name: Sequence[str], about: Sequence[str]) -> str:
    """Return what kind of value it takes, by its type, its format, its name and then its description."""
    if "enum" in schema or "const" in schema:
        return "enum"
    kind, form = str(schema.get("type") or "string"), str(schema.get("format") or "")
    if kind != "string" or form in ("date", "date-time", "time", "email"):
        return kind if kind != "string" else form
    by_name = [kind for word in reversed(name) for kind in kinds_named(word)]
    by_name = kinds_named("_".join(name)) + by_name
    by_desc = [kind for word in about for kind in kinds_named(word)]
    if about[:1] == ["where"] and not by_name:
        return "place"
    special = [one for one in by_name if one not in _GENERIC]
    if not special and by_desc and by_desc[0] in _TYPED:
        return by_desc[0]
    return next((one for one in special + by_name + by_desc if by_name or one != "naming"), "thing")


def kinds_named(word: str) -> list[str]:
    return [kind for kind, names in _KINDS.items() if names & {word, word.removesuffix("s")}]


_EXAMPLE = re.compile(
    r"(?:such as|e\.g\.,?|for example|for instance|for one|like|example:?|as in|format:?)\s+[`\"'(]*"
    r"([A-Z]{1,4}(?:-[A-Z]{1,3})?\s\d+|[^\s,;()\"'`]*\d[^\s,;()\"'`]*|\S+@\S+|#[\w-]+|[A-Z]{2,6}\b)",
    re.IGNORECASE,
)


@lru_cache(maxsize=512)
def _shapes_of(desc: str, pattern: str) -> tuple[tuple[str, str, str], ...]:
    values = []
    if pattern:
        values.append((rf"(?<![\w-]){pattern.strip('^$')}(?![\w-])", "", ""))
    if re.search(r"\bowner/\w+", desc):
        values.append((r"(?<![\w/.])[\w.-]+/[\w.-]*\w", "", ""))
    for example in _EXAMPLE.findall(desc):
        example = example.strip(".:`'\"")
        if re.search(r"@|/|\.[a-z]{1,5}$", example) or re.fullmatch(r"[a-z]*|\d|\d\d?:\d\d", example):
            continue  # an address, or a path, which has no fixed form
        values.append(_shape(example))
    return tuple(values)


def _shape(example: str) -> tuple[str, str, str]:
    """Return the pattern of pieces like the example: other digits, and other letters but for a short prefix."""
    if " " in example:
        return r"(?<![\w-])(?-i:[A-Z]{1,4}(?:-[A-Z]{1,3})?)\s\d{1,6}(?![\w-])", "", ""
    head = re.fullmatch(r"([A-Za-z]{1,3}-?)(\d+)", example)
    prefix = head.group(1) if head else re.match(r"[A-Za-z]{0,3}(?![A-Za-z])|", example).group()  # type: ignore[union-attr]
    rest = re.escape(example[len(prefix) :])
    if example.startswith("#"):
        return r"#[\w-]+", "", ""
    rest = re.sub(r"\d+", lambda run: rf"\d{{{len(run.group())}}}", rest)
    if example.isalpha():
        return r"(?<![\w-])(?-i:[A-Z]{2,5})(?![\w-])", "", ""
    rest = re.sub(r"(?<!\\)[A-Z]+", lambda run: rf"[A-Z]{{{len(run.group())}}}", rest)
    bare = rf"(?<![\w.,-])\d{{{len(head.group(2))}}}(?![\w.,-])" if head else ""
    if (
        head and "-" not in prefix and len(example) <= 4
    ):  # a seat or a gate, whose letter tells nothing of its kind
        return rf"(?<![\w-])[A-Z]{{{len(prefix)}}}\d{{1,{len(head.group(2)) + 1}}}(?![\w-])", prefix, ""
    return rf"(?<![\w-]){re.escape(prefix)}{rest}(?![\w-])", prefix, bare


def _shapes(schema: Schema, desc: str) -> tuple[tuple[str, str, str], ...]:
    if schema.get("type", "string") != "string" or "enum" in schema:
        return ()
    examples = [str(one) for one in schema.get("examples") or ()]
    told = desc + "".join(f" such as {one}" for one in examples)
    return _shapes_of(told, str(schema.get("pattern") or ""))


def is_shaped(param: Field) -> bool:
    """Say whether only pieces of a certain form will do."""
    return any(one.shapes or one.kind == "email" for one in wanted((param,)))


# -- how well a mention fits ------------------------------------------------------------------------------


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


_BASE: Mapping[str, Mapping[str, float]] = {
    "email": {"email": 4},
    "url": {"url": 4},
    "phone": {"phone": 4},
    "date": {"date": 3},
    "time": {"time": 3, "date": 2},
    "street": {"street": 4, "name": 1, "phrase": 0.5},
    "path": {"path": 3, "quoted": 2, "name": 0.5, "phrase": 0.5},
    "id": {"id": 3, "number": 1.5, "tag": 2, "quoted": 1, "name": 0.5},
    "unit": {"counted": 1, "name": 1.5, "phrase": 1},
    "place": {"name": 2, "street": 2, "quoted": 1, "tag": 1, "phrase": 1},
    "person": {"name": 2, "email": 1, "tag": 1, "quoted": 1, "phrase": 0.5},
    "language": {"name": 2, "phrase": 0.5},
    "text": {"text": 4, "quoted": 3, "phrase": 0.6},
    "query": {"text": 3.3, "quoted": 3, "phrase": 1, "name": 1.5},
    "naming": {"quoted": 3, "path": 1.5, "name": 1.5, "text": 0.5, "phrase": 0.9, "counted": 0.9},
    "thing": {
        "quoted": 2,
        "name": 2,
        "path": 2,
        "tag": 2,
        "id": 1.5,
        "street": 1,
        "phrase": 1,
        "counted": 1.2,
    },
}
"""What each kind of mention is worth for each kind of argument."""


@lru_cache(maxsize=2048)
def _fits(want: Wanted, text: str, known: frozenset[str]) -> tuple[Fit, ...]:
    """Return what the text offers for an argument; `known` are stems of the tool's own words, which are no values."""
    if want.kind == "enum":
        return tuple(_labels(want, text, known))
    if want.kind == "boolean":
        return tuple(_truths(want, text, known))
    if want.kind in ("integer", "number"):
        fits = [_number(want, one) for one in mentions(text)]
    elif want.shapes:
        return tuple(_shaped(want, text))
    else:
        fits = [*(_string(want, one, known) for one in mentions(text)), *_wholes(want, text)]
    return tuple(fit for fit in fits if fit and fit.score >= LITTLE)


_LOOSE = frozenset(("at", "in", "on", "for", "with"))


def _bearing(want: Wanted, mention: Mention) -> tuple[float, tuple[int, int]]:
    """Return what role and label of a mention are worth for the argument, and what they take of the text."""
    score, span = 0.0, (mention.start, mention.end)
    if mention.marker in want.roles:
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
    return next((_UNITS[stem] for stem in mention.noun[:2] if stem in _UNITS), ("", None))


_OWN_FORM = ("query", "date", "time", "email", "phone", "url")
"""Kinds of argument whose pieces are known by their form, whatever stands before them."""


def _string(want: Wanted, mention: Mention, known: frozenset[str]) -> Fit | None:
    base = _BASE.get(want.kind, {}).get(mention.kind, 0.0)
    if not base:
        return None
    score, span = _bearing(want, mention)
    score = max(score, 0.0) if want.kind in _OWN_FORM else score
    value = str(int(mention.value)) if isinstance(mention.value, float) else str(mention.value)
    if mention.kind == "name" and words.stem(value.split()[0].lower()) in known and " " in value:
        value = value.partition(" ")[2] if mention.start == 0 else value
    if mention.kind in ("phrase", "counted"):
        value, span = _bare_phrase(want, mention, known)
        is_labelled = (
            words.stem(str(mention.value).split()[0].lower()) in want.stems and value != mention.value
        )
        score = max(score, LABEL) if is_labelled else score
        if (
            mention.kind == "counted"
            and want.kind != "unit"
            and _unit_of(replace(mention, noun=tuple(words.stems(value))))[0]
        ):
            return None
        score += ROLE * (mention.marker == "named" and want.kind == "naming")
        if not value or (value[:1].isdigit() and want.kind != "street"):
            return None
    if (
        mention.marker == "is"
        and mention.kind in ("phrase", "counted")
        and score <= 0
        and not mention.is_joined
    ):
        score -= 0.5  # what follows "is" tells of something, and is not what is asked for
    if mention.marker == "" and (
        want.kind in ("thing", "naming", "text") or (want.kind, mention.kind) == ("person", "name")
    ):
        score += 1.0 if mention.kind in ("name", "quoted") else 0.5
    if words.stem(value.rpartition(" ")[2].lower()) in want.stems and " " in value:
        score = max(score, 0.0) + LABEL  # "River Stage" for a stage
    if want.kind == "unit":
        value = re.sub(r"^(?:many|much)\s+", "", value)
        score += ROLE * (("from" in want.roles) == (mention.kind == "counted"))
    if want.kind in ("date", "time"):
        value = _moment(want, value)
    if not value:
        return None
    if want.kind == "naming" and want.stems & {"first", "last", "surnam"}:
        return _part_of_name(want, base + score, value, mention)
    return Fit(base + score, value, *span)


_PRONOUNS = frozenset(
    "i you he she it we they me him them us my your his her our their that this who which".split()
)


def _bare_phrase(want: Wanted, mention: Mention, known: frozenset[str]) -> tuple[str, tuple[int, int]]:
    """Return a phrase without the tool's words around it ("restart nginx"); nothing if it has no others."""
    parts = str(mention.value).split()
    stems = [words.stem(part.lower()) for part in parts]
    while len(parts) > 1 and (stems[0] in want.stems | known or parts[0] in words.STOP):
        parts, stems = parts[1:], stems[1:]
    while len(parts) > 1 and stems[-1] in known - want.stems:
        parts, stems = parts[:-1], stems[:-1]
    value = " ".join(parts)
    if _PRONOUNS & {part.lower() for part in parts}:
        return "", (mention.start, mention.end)
    has_more = any(
        stem not in known and word.lower() not in COMMON for word, stem in zip(parts, stems, strict=True)
    )
    return (value if has_more else ""), (mention.start, mention.end)


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


def _labels(want: Wanted, text: str, known: frozenset[str]) -> Iterator[Fit]:
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
        yield Fit(SURE + max(role, 0.0) + 0.01 * len(str(label)), label, *hit.span())
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
    same_case = "" if len(label) <= 2 else "i"  # "a" is no grade A
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


# -- lists ------------------------------------------------------------------------------------------------


def _list(want: Wanted, text: str, known: frozenset[str], taken: Sequence[tuple[int, int]]) -> Fit | None:
    """Return the list that the text gives: what stands joined by commas and "and"."""
    definitions = want.schema.get("$defs", {})
    item = plain(want.schema.get("items") or {}, definitions)
    if item.get("properties"):
        return _records(want, item, text, known, taken)
    name = want.path[-1].removesuffix("s") if want.path[-1].endswith("s") else want.path[-1]
    single = replace(_wanted((*want.path[:-1], name), item, want.desc, want.required), required=want.required)
    single = replace(single, roles=want.roles | single.roles)
    if single.kind == "enum":
        fits = [fit for fit in _every_label(single, text, known) if not fit.touches(taken)]
        return _joined(fits) if fits else None
    runs = _runs([fit for fit in _fits(single, text, known) if not fit.touches(taken)], text)
    runs = [run for run in runs if run[0].score >= ENOUGH]
    return _joined(max(runs, key=lambda run: run[0].score + 0.5 * (len(run) > 1))) if runs else None


def _lists(want: Wanted, text: str, known: frozenset[str]) -> list[Fit]:
    """Return a list of several plain values, to be weighed against what single values could take of it."""
    fit = _list(want, text, known, ())
    is_plain = fit and len(fit.value) > 1 and not isinstance(fit.value[0], dict)
    return [replace(fit, score=fit.score + 0.5)] if fit and is_plain else []


_WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _every_label(single: Wanted, text: str, known: frozenset[str]) -> list[Fit]:
    labels = [str(label) for label in single.schema.get("enum", ())]
    for spoken, days in (
        (r"\b(?:weekdays|working days)\b", _WEEK[:5]),
        (r"\bweekends?\b", _WEEK[5:]),
        (r"\b(?:every day|daily)\b", _WEEK),
    ):
        if hit := re.search(spoken, text, re.IGNORECASE):
            chosen = [label for label in labels if any(day.startswith(label.lower()) for day in days)]
            return [Fit(SURE, label, *hit.span()) for label in chosen]
    return sorted(_labels(single, text, known), key=lambda fit: fit.start)


def _runs(fits: Sequence[Fit], text: str) -> list[list[Fit]]:
    """Return the fits that stand joined to each other, of those at the same place the best."""
    best: list[Fit] = []
    for fit in sorted(fits, key=lambda one: (-one.score, one.start)):
        if not fit.touches([(one.start, one.end) for one in best]):
            best.append(fit)
    runs: list[list[Fit]] = []
    for fit in sorted(best, key=lambda one: one.start):
        between = text[runs[-1][-1].end : fit.start] if runs else ""
        if (
            runs
            and between.strip()
            and re.fullmatch(r"\W*(?:(?:and|or|plus)\W*)?(?:an?|the|some|my)?\W*", between)
        ):
            runs[-1].append(fit)
        else:
            runs.append([fit])
    return runs


def _joined(run: Sequence[Fit]) -> Fit:
    values = list(dict.fromkeys(fit.value for fit in run))
    return Fit(
        max(fit.score for fit in run), values, min(fit.start for fit in run), max(fit.end for fit in run)
    )


def _records(
    want: Wanted, item: Schema, text: str, known: frozenset[str], taken: Sequence[tuple[int, int]]
) -> Fit | None:
    """Return a list of objects: one for each joined part of the text that has all that an object needs."""
    properties, definitions = item["properties"], want.schema.get("$defs", {})
    needs = item.get("required") or list(properties)
    fields = tuple(
        Field(
            name, {**child, "$defs": definitions}, str(child.get("description", "")), required=name in needs
        )
        for name, child in properties.items()
    )
    records, spans = [], []
    for start, end in taken:
        text = text[:start] + " " * (end - start) + text[end:]
    for start, end in parts(text):
        filled = fill(fields, text[start:end], known)
        if not filled.missing:
            records.append(filled.args)
            spans += [(start + one, start + other) for one, other in filled.spans]
    if not records:
        return None
    return Fit(SURE, records, min(start for start, _ in spans), max(end for _, end in spans))


_JOINT = re.compile(r"\s*(?:;|,\s*and\b|,\s*or\b|\band\b|\bor\b|,|&)\s*(?:one\s|another\s)?", re.IGNORECASE)


@lru_cache(maxsize=512)
def parts(text: str) -> tuple[tuple[int, int], ...]:
    """Return from where to where the joined parts of a text reach; commas count before an "and", not alone."""
    whole = [(one.start, one.end) for one in mentions(text) if one.kind not in ("phrase", "text")]
    joints = [
        hit
        for hit in _JOINT.finditer(text)
        if not any(start < hit.end() and hit.start() < end for start, end in whole)
    ]
    if not any(re.search(r"and|or|;|&", hit.group()) for hit in joints):
        joints = []
    edges = [0, *(place for hit in joints for place in hit.span()), len(text)]
    return tuple((start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end)


_OPEN = ("thing", "person", "place", "id", "naming")


# -- all arguments of a tool ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filled:
    """The arguments that a text gives for a tool."""

    args: dict[str, Any]
    missing: tuple[str, ...]
    """Names of required arguments that it does not give."""
    spans: tuple[tuple[int, int], ...] = ()
    """What was used of the text."""
    is_free: bool = False
    """Some value is a text that was handed on as it stands."""


def fill(
    params: Sequence[Field],
    text: str,
    known: frozenset[str] = frozenset(),
    *,
    within: tuple[int, int] | None = None,
    taken: Sequence[tuple[int, int]] = (),
) -> Filled:
    """Return arguments for a tool out of a text, each mention used once, the best fits first."""
    wants = wanted(tuple(params))
    chosen: dict[tuple[str, ...], Fit] = {}
    spans = list(taken)
    for least in (SURE, ENOUGH):
        for want, fit in _in_order(wants, text, known, least):
            inside = within is None or within[0] <= fit.start <= fit.end <= within[1] or fit.start == fit.end
            if want.path not in chosen and inside and not fit.touches(spans):
                chosen[want.path] = fit
                spans.append((fit.start, fit.end))
        for want in wants if least == SURE else ():
            if (
                want.kind == "array"
                and want.path not in chosen
                and (fit := _list(want, text, known, spans))
                and (want.required or fit.score >= SURE - 0.5)
            ):
                chosen[want.path] = fit
                spans.append((fit.start, fit.end))
    lacking = [want for want in wants if want.required and want.path not in chosen and want.kind in _OPEN]
    if len(lacking) == 1 and within is None:  # one argument is left, and one phrase
        left = [fit for fit in _fits(lacking[0], text, known) if not fit.touches(spans)]
        if left and all(fit.touches([(left[0].start, left[0].end)]) for fit in left):
            best = max(left, key=lambda fit: fit.score)
            chosen[lacking[0].path] = best
            spans.append((best.start, best.end))
    missing = tuple(want.name for want in wants if want.required and want.path not in chosen)
    free = any(want.kind in ("text", "query", "sum", "sql") for want in wants if want.path in chosen)
    return Filled(_nested(wants, chosen), missing, tuple(spans[len(taken) :]), free)


def _in_order(
    wants: Sequence[Wanted], text: str, known: frozenset[str], least: float
) -> list[tuple[Wanted, Fit]]:
    pairs = []
    for want in wants:
        fits = _fits(want, text, known) if want.kind != "array" else _lists(want, text, known)
        pairs += [(want, fit) for fit in fits if fit.score >= (least if want.required else SURE)]
    order = {want.path: at for at, want in enumerate(wants)}

    def place(pair: tuple[Wanted, Fit]) -> tuple[float, int, int, int]:
        want, fit = pair
        is_last = "until" in want.roles and want.kind == "unit"  # "15:00 in London, what is it in Tokyo"
        return (
            -fit.score - want.required / 2,
            order[want.path],
            -fit.start if is_last else fit.start,
            -fit.end,
        )

    return sorted(pairs, key=place)


def _nested(wants: Sequence[Wanted], chosen: Mapping[tuple[str, ...], Fit]) -> dict[str, Any]:
    """Put the values where their paths say; an optional object with a part missing stays away."""
    broken = {one.path[:-1] for one in wants if one.is_part and not one.required and one.path not in chosen}
    args: dict[str, Any] = {}
    for want in wants:
        if want.path in chosen and not (len(want.path) > 1 and want.path[:-1] in broken):
            inner = args
            for name in want.path[:-1]:
                inner = inner.setdefault(name, {})
            inner[want.path[-1]] = chosen[want.path].value
    return args


# -- out of observations ----------------------------------------------------------------------------------

_ALL = re.compile(r"\b(?:whole|full|fully|entire|all of|complete|everything|the lot)\b", re.IGNORECASE)


def from_observations(want: Wanted, request: str, seen: Sequence[Seen], tool: str, about: str) -> list[Any]:
    """Return the values that observations offer for an argument, best first; those as good stay in order.

    `about` is the part of the request that says which of several records is meant.
    """
    leaves = [leaf for one in reversed(seen) if not one.error for leaf in one.leaves]
    scored = [(_leaf_fits(want, leaf, about, tool), leaf) for leaf in leaves]
    fitting = [(score + _hinted(leaf, request), leaf.value) for score, leaf in scored if score > 0]
    values = [value for _, value in sorted(fitting, key=lambda one: -one[0])]
    return [value for at, value in enumerate(values) if value not in values[:at]]


def _leaf_fits(want: Wanted, leaf: Leaf, request: str, tool: str) -> float:
    if want.kind in ("integer", "number"):
        is_number = isinstance(leaf.value, int | float) and not isinstance(leaf.value, bool)
        if not is_number or (not leaf.value and want.unit[0] == "money"):
            return 0.0
        return _key_fits(want, leaf, request, tool)
    if (
        want.schema.get("type", "string") != "string"
        or not isinstance(leaf.value, str)
        or is_command(leaf.value)
    ):
        return 0.0
    if want.shapes:
        return 3.0 if any(re.fullmatch(shape, leaf.value) for shape, _, _ in want.shapes) else 0.0
    return _key_fits(want, leaf, request, tool) if len(leaf.value) <= 80 else 0.0


def _key_fits(want: Wanted, leaf: Leaf, request: str, tool: str) -> float:
    key, name = leaf.key.lower(), want.path[-1].lower()
    if key == name:
        return 4.0
    if "_" in key and re.search(rf"\b{re.escape(key)}\b", want.desc.lower()):
        asked = set(words.stems(request)) if not _ALL.search(request) else set()
        return 3.0 + 0.3 * (leaf.record == 0) + 1.5 * bool(asked & set(words.stems(leaf.named)))
    mine, its = name.split("_"), key.split("_")
    if len(mine) > 1 and len(its) > 1 and mine[-1] == its[-1] in _UNITS:
        shared = set(words.stems(request)) & set(words.stems(" ".join(its[:-1])))
        shared -= set(words.stems(tool.replace("_", " ")))  # "refund" asks for one, it does not say how much
        return 4.5 if shared else 0.0
    return 2.0 if want.stems == set(map(words.stem, _words_of(key))) else 0.0


def _hinted(leaf: Leaf, request: str) -> float:
    """Weigh a record up that the request describes by a date, an amount or a word such as its status."""
    given = {one.value for one in mentions(request) if one.kind in ("date", "money")}
    asked = set(words.stems(request))
    bonus = 0.0
    for value in leaf.siblings:
        is_number = re.fullmatch(r"\d+(?:\.\d+)?", value)
        bonus += 3.0 * (value[:10] in given or bool(is_number and float(value) in given))
        is_state = len(value) <= 24 and re.fullmatch(r"[a-z_ ]+", value)
        bonus += bool(is_state and asked & set(words.stems(value.replace("_", " "))))
    return bonus
