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

_MEASURES = {word: what for what, names in GRAMMAR["measures"].items() for word in names.split()}
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


def singular(name: str) -> str:
    """Return the name of a list as that of one of its items."""
    if name == "people":
        return "person"
    if name.endswith(("sses", "ches", "shes", "xes")):
        return name[:-2]
    return f"{name[:-3]}y" if name.endswith("ies") else re.sub(r"(?<=[a-z])s$", "", name)


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
    roles = _roles(name, own, kind)
    roles |= {told[-1]} & PREPOSITIONS.keys() if told else frozenset()
    shape = _shape_of(schema, desc) if kind in ("id", "thing", "unit", "place", "title", "person") else ""
    return Slot(path, schema, desc, required, kind, stems, about, roles, _unit(name, told, kind), shape)


def _roles(name: Sequence[str], own: frozenset[str], kind: str) -> frozenset[str]:
    """Return the prepositions that introduce an argument."""
    if pair := next((pair for pair in _ENDS if pair[0] in name), None):
        return frozenset(pair)
    roles = frozenset(lead for lead, of in PREPOSITIONS.items() if of & own or lead in name)
    return roles | {"on", "at", "for"} if kind in ("date", "time") else roles


_ENDS = (("from", "since", "between"), ("to", "into", "in", "until", "as"))
"""The prepositions of the two ends of a change or a way, where the argument is named after one of them."""


def _unit(name: Sequence[str], told: Sequence[str], kind: str) -> tuple[str, float, str]:
    none = ("", 1.0, "")
    if kind not in ("number", "integer"):
        return none
    name = name[: name.index("per")] if "per" in name[1:] else name
    for word in (name[-1], *re.findall(r"\bin (\w+)", " ".join(told))):
        known = UNITS.get(words.stem(word))
        is_point = known and known[0] == "time" and word == words.stem(word) and len(word) > 3
        if known and len(word) > 1 and not is_point and not word.endswith("ly"):
            return known  # "years" last, a "year" is a point in time
    for word in (*reversed(name), *told[:6]):
        dimension = _MEASURES.get(word) or _MEASURES.get(word.removesuffix("s"), "")
        is_index = word not in name or (word == "number" and name[1:2] != ["of"])
        if dimension and not (dimension == "count" and is_index):
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
    named = [kind for word in ("_".join(name), *reversed(name)) for kind in kinds_named(word)]
    by_desc = [kind for word in told for kind in kinds_named(word)]
    clear = next((one for one in (*named, *by_desc[:1]) if one in _CLEAR), "")
    return clear or next((one for one in (*named, *by_desc) if one != "title"), "") or (*named, "thing")[0]


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
