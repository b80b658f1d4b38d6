"""What an argument takes: its kind, its unit, the prepositions that introduce it, the form of its codes.

Main path: slots(params) -> tuple of Slot. Nested objects are taken apart into their parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from course_lib.lm.simulator.agents.lexing import GRAMMAR, PREPOSITIONS, UNITS
from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.schema import Schema
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.limits import resolve

_KINDS = {kind: frozenset(names.split()) for kind, names in GRAMMAR["kinds"].items()}


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """An argument that takes one value or one list."""

    path: tuple[str, ...]
    schema: Schema
    desc: str
    required: bool
    kind: str
    """`number`, `integer`, `boolean`, `enum`, `array`, or for texts a kind of the grammar, or `thing`."""
    stems: frozenset[str]
    """Of its name."""
    about: frozenset[str]
    """Of its description."""
    roles: frozenset[str]
    """The prepositions that introduce it."""
    unit: tuple[str, float, str]
    """What it measures, in which unit; empty texts if that is open."""
    shape: str
    """A pattern that its codes have; empty if any will do."""

    @property
    def name(self) -> str:
        """Its name in words."""
        return " ".join(self.path[-2:]).replace("_", " ")

    @property
    def is_moment(self) -> bool:
        """Whether it takes a day or a time."""
        return self.kind in ("date", "time", "date-time")


def words_of(name: str) -> list[str]:
    """Return the words of a name in snake or camel case."""
    return words.words(re.sub(r"([a-z])([A-Z])", r"\1 \2", name).replace("_", " ").replace("-", " "))


def plain(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Return the schema without references, and without null where it is one of two."""
    schema = resolve(schema, definitions)
    options = [resolve(one, definitions) for one in schema.get("anyOf") or schema.get("oneOf") or ()]
    if real := [one for one in options if one.get("type") != "null"]:
        schema = {**{k: v for k, v in schema.items() if k not in ("anyOf", "oneOf")}, **real[0]}
    if isinstance(kinds := schema.get("type"), list):
        schema = {**schema, "type": next((one for one in kinds if one != "null"), "string")}
    return schema


@lru_cache(maxsize=1024)
def slots(params: tuple[Field, ...]) -> tuple[Slot, ...]:
    """Return the slots of a tool's arguments."""
    return tuple(slot for param in params for slot in _parts(param, (), param.required))


def _parts(param: Field, above: tuple[str, ...], required: bool) -> Iterator[Slot]:
    definitions = {**param.schema.get("definitions", {}), **param.schema.get("$defs", {})}
    schema, path = plain(param.schema, definitions), (*above, param.name)
    properties = schema.get("properties")
    if not properties or len(path) > 4:
        yield slot_of(path, {**schema, "$defs": definitions}, param.desc, required)
        return
    for part in fields_of(schema, definitions):
        yield from _parts(part, path, required and part.required)


def fields_of(schema: Schema, definitions: Mapping[str, Schema]) -> tuple[Field, ...]:
    """Return the properties of an object as fields."""
    wants = schema.get("required", ())
    return tuple(
        Field(
            name, {**child, "$defs": definitions}, str(child.get("description", "")), required=name in wants
        )
        for name, child in schema["properties"].items()
    )


def slot_of(path: tuple[str, ...], schema: Schema, desc: str, required: bool) -> Slot:
    """Return the slot with this path, type and description."""
    name, told = words_of(path[-1]), words.words(desc)
    stems = frozenset(map(words.stem, name))
    about = frozenset(words.stem(word) for word in told if word not in words.STOP)
    kind = _kind(schema, name, told)
    above = {words.stem(word) for part in path[:-1] for word in words_of(part)}
    own = stems | (above if stems & {"nam", "id", "email", "phon"} else frozenset())
    roles = {lead for lead, of in PREPOSITIONS.items() if of & own or lead in name or told[-1:] == [lead]}
    roles = next((set(pair) for pair in _ENDS if pair[0] in name), roles)
    if not stems & {words.stem(word) for word in ("origin", "destination", "start", "end")} and kind in (
        "date",
        "time",
    ):
        roles |= {"on", "at", "for"}
    roles |= {"from", "at"} if stems & {"origin", "start", "begin", "source", "departur"} else set()
    roles |= (
        {"to", "until", "till"} if stems & {"destination", "end", "target", "arriv", "arrival"} else set()
    )
    if kind not in (
        "date",
        "time",
        "date-time",
    ):  # one stays from an arrival to a departure, but travels the other way
        roles -= {"to"} if "departur" in stems else {"from"} if stems & {"arriv", "arrival"} else set()
    if stems & {"destination", "end", "target"} or (stems & {"origin", "start", "source"}):
        roles -= {"in", "on"}
    if stems & {"sourc", "from", "origin", "old"} and kind not in ("date", "time"):
        roles &= {"from", "at", "of", "since", "between"}
    shape = _shape_of(schema, desc) if kind in ("id", "thing", "unit", "place", "title", "person") else ""
    return Slot(
        path, schema, desc, required, kind, stems, about, frozenset(roles), _unit(name, told, kind), shape
    )


_ENDS = (("from", "since", "between"), ("to", "into", "in", "until", "as"))
"""The prepositions of the two ends of a change or a way, where the argument is named after one of them."""


def _unit(name: Sequence[str], told: Sequence[str], kind: str) -> tuple[str, float, str]:
    none = ("", 1.0, "")
    if kind not in ("number", "integer"):
        return none
    name = name[: name.index("per")] if "per" in name[1:] else name
    people = [one for one in map(UNITS.get, map(words.stem, name)) if one and one[0] == "people"]
    if people and "count" in name:
        return people[0]
    for word in (name[-1], *re.findall(r"\bin (\w+)", " ".join(told))):
        known = UNITS.get(words.stem(word))
        is_least = word == "min" and len(name) > 1 and name[0] == word
        if (
            known
            and len(word) > 1
            and not is_least
            and not word.endswith("ly")
            and not (known[0] == "time" and word == words.stem(word) and len(word) > 3)
        ):
            return known  # "years" last, a "year" is a point in time
    for word in (*reversed(name), *told[:6]):
        for dimension, names in GRAMMAR["measures"].items():
            is_count = dimension == "count" and (
                word not in name or (word == "number" and name[1:2] != ["of"])
            )
            if not is_count and {word, word.removesuffix("s")} & {*names.split()}:
                return (dimension, 0.0, "")
    return none


def _kind(schema: Schema, name: Sequence[str], told: Sequence[str]) -> str:
    if "enum" in schema or "const" in schema:
        return "enum"
    kind, form = str(schema.get("type") or "string"), str(schema.get("format") or "")
    if kind != "string":
        return kind
    if form in ("date", "date-time", "time", "email"):
        return form
    if re.search(r"\bHH\b|\b24[ -]?h|\bhh:mm", " ".join(told), re.IGNORECASE):
        return "time"
    if {"yyyy", "weekday"} & {*told}:
        return "date"
    if "iso" in told and "code" in told and not {"language", "country"} & {*told}:
        return "unit"
    named = [kind for word in ("_".join(name), *reversed(name)) for kind in kinds_named(word)]
    by_desc = [kind for word in told for kind in kinds_named(word)]
    if by_desc and (not named or (name[0] in PREPOSITIONS and len(name) == 1)):
        return by_desc[0]  # "to: e-mail address of the recipient"
    clear = next((one for one in named if one in _CLEAR), "") or next(
        (one for one in by_desc[:1] if one in _CLEAR), ""
    )
    return clear or next((one for one in named if one != "title"), "") or next(iter(named), "thing")


_CLEAR = frozenset(("email", "phone", "url", "zip", "path", "date", "time"))
"""Kinds that a name says wherever it says them: a phone number is a phone's, not any number."""


@lru_cache(maxsize=1024)
def kinds_named(word: str) -> tuple[str, ...]:
    """Return the kinds of value that a word names, as "city" names a place."""
    return tuple(kind for kind, names in _KINDS.items() if names & {word, word.removesuffix("s")})


_EXAMPLE = re.compile(
    r"(?:such as|e\.g\.,?|for example|for instance|like|example:?|as in|format:?)\s+[`\"'(]*"
    r"([A-Z]{1,4}(?:-[A-Z]{1,3})?\s\d+|[^\s,;()\"'`]*\d[^\s,;()\"'`]*|#[\w-]+|[A-Z]{2,6}\b)"
)


def _shape_of(schema: Schema, desc: str) -> str:
    """Return the pattern of pieces like the examples: the same prefix, about the same length."""
    if pattern := schema.get("pattern"):
        return rf"(?<![\w-]){str(pattern).strip('^$')}(?![\w-])"
    if re.search(r"\bowner/\w+", desc):
        return r"(?<![\w/.])[\w.-]+/[\w.-]*\w"
    examples = [str(one) for one in schema.get("examples") or ()] + _EXAMPLE.findall(desc)
    shapes = [_like(one.strip(".:`'\"")) for one in examples]
    return "|".join(dict.fromkeys(shape for shape in shapes if shape))


def _like(example: str) -> str:
    if re.search(r"@|/|\.[a-z]{1,5}$", example) or re.fullmatch(r"[a-z]*|\d|\d\d?:\d\d|\d{4}-.*", example):
        return ""  # an address, a path or a moment
    if example.startswith("#"):
        return r"(?<!\w)#[\w-]+"
    if example.isalpha():
        return r"(?<![\w-])[A-Z]{2,5}(?![\w-])"
    head = re.match(r"[A-Za-z]{1,4}-(?=\d)", example)
    prefix = head.group() if head else ""
    body = re.sub(
        r"[A-Z]+|[a-z](?=\d)",
        lambda run: f"[{'A-Z' if run.group().isupper() else 'a-z'}]{{1,{len(run.group()) + 1}}}",
        example[len(prefix) :],
    )
    body = re.sub(r"(?<![{,\d])\d+(?![\d},])", lambda run: rf"\d{{1,{len(run.group()) + 1}}}", body)
    return rf"(?<![\w-]){prefix}{body}(?![\w-])"


def allowed(slot: Slot) -> list[Any]:
    """Return the values that an enum allows."""
    return list(slot.schema.get("enum") or [slot.schema["const"]])
