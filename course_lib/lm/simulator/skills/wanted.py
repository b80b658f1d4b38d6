"""What an argument of a tool wants: its kind, the shape of its pieces, the small words before it, its unit.

Main path: wanted(params) -> tuple of Wanted. Nested objects are taken apart into their parts; an argument
whose description shows an example ("such as O-10001") takes only what has that shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.schema import Schema
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.mentions import ROLES, TABLES
from course_lib.lm.simulator.skills.shape import resolve

_KINDS = {kind: frozenset(names.split()) for kind, names in TABLES["kinds"].items()}
UNITS = {
    words.stem(name): (dimension, float(factor) if factor else None)
    for dimension, units in TABLES["units"].items()
    for factor, names in units.items()
    for name in names.split()
}
"""What each word measures, and in how many of the plain unit: ("mass", 0.001) for grams."""


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


def words_of(name: str) -> list[str]:
    """Return the words of a name in snake or camel case."""
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
        yield wanted_of(path, {**schema, "$defs": definitions}, param.desc, required, is_part=param.required)
        return
    wants = schema.get("required", ())
    for name, child in properties.items():
        about = str(child.get("description", ""))
        part = Field(name, {**child, "$defs": definitions}, about, required=name in wants)
        yield from _leaves(part, path, required and name in wants)


def wanted_of(
    path: tuple[str, ...], schema: Schema, desc: str, required: bool, *, is_part: bool = False
) -> Wanted:
    """Return what an argument with this path, type and description wants."""
    name, about = words_of(path[-1]), words.words(desc)
    stems = frozenset(map(words.stem, name))
    told = frozenset(words.stem(word) for word in about if word not in words.STOP)
    roles = {small for small, of in ROLES.items() if of & stems} | (ROLES.keys() & {*name, *about[-1:]})
    roles = next((set(pair) for pair in _PAIRS if pair[0] in name), roles)
    units = [UNITS[one] for one in map(words.stem, reversed(name)) if one in UNITS]
    units = units or [UNITS[one] for one in map(words.stem, about) if one in UNITS][:1]
    unit = (sorted(units, key=lambda one: one[1] is None) or [("", None)])[0]
    above = {word for part in path[:-1] for word in words_of(part)}
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
    """Return the kinds of value that a word names, as "city" names a place."""
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
    """Return the pattern of pieces like the example: other digits, other letters but for a short prefix."""
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
    if head and "-" not in prefix and len(example) <= 4:  # a seat or a gate, of any letter
        return rf"(?<![\w-])[A-Z]{{{len(prefix)}}}\d{{1,{len(head.group(2)) + 1}}}(?![\w-])", prefix, ""
    return rf"(?<![\w-]){re.escape(prefix)}{rest}(?![\w-])", prefix, bare


def _shapes(schema: Schema, desc: str) -> tuple[tuple[str, str, str], ...]:
    if schema.get("type", "string") != "string" or "enum" in schema:
        return ()
    examples = [str(one) for one in schema.get("examples") or ()]
    told = desc + "".join(f" such as {one}" for one in examples)
    return _shapes_of(told, str(schema.get("pattern") or ""))
