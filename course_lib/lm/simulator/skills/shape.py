"""A well-shaped value for any JSON schema, filled from the input where the input has what is asked.

Main path: extract(field, work) -> Result; fill(schema, name, desc, source) -> a JSON value that validates.
Records and lists are filled field by field; a leaf takes the piece of the text that its name, description
and type ask for (roles.py). What the text does not hold is null, empty or the plainest value, and said to be.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.schema import Schema, is_only_named
from course_lib.lm.simulator.prompts.values import labelled
from course_lib.lm.simulator.skills.candidates import candidates
from course_lib.lm.simulator.skills.choice import choose
from course_lib.lm.simulator.skills.keywords import phrases_of
from course_lib.lm.simulator.skills.limits import limited, within
from course_lib.lm.simulator.skills.quantities import NUMBER, quantities
from course_lib.lm.simulator.skills.roles import (
    kinds_of,
    label_value,
    number_leaf,
    split_list,
    spread,
    text_leaf,
    texts_of,
)
from course_lib.lm.simulator.skills.work import Result, Work

DEEPEST = 4  # nested deeper than this, optional parts stay empty
MOST_PARTS = 12

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Source:
    """The text to fill from, the request that it belongs to, and the shared definitions."""

    text: str
    work: Work
    definitions: Mapping[str, Schema]
    depth: int = 0
    whole: bool = False
    """The text is what stands for this one value, not a text that holds it somewhere."""
    taken: tuple[object, ...] = ()
    """What the neighbouring fields have already."""

    def on(self, text: str, *, whole: bool = False) -> Source:
        """Return the same source one level deeper, reading `text`."""
        return replace(self, text=text, depth=self.depth + 1, whole=whole)

    def choose(self, name: str, desc: str, labels: Sequence[Any]) -> Any:
        """Return the label that the text names alone, or else speaks for."""
        named = _named(labels, self.text) if labels != (False, True) else []
        return named[0] if len(named) == 1 else choose(name, desc, labels, self.text, self.work).value


def extract(field: Field, work: Work) -> Result:
    """Fill the field's type from the input, or with the plainest value."""
    return stated(field, work) or Result(fallback(field.schema, field.name, field.schema.get("$defs", {})))


def stated(field: Field, work: Work) -> Result | None:
    """Fill the field's type from the input; a text that the input does not hold is left to the last skill."""
    definitions = {**field.schema.get("definitions", {}), **field.schema.get("$defs", {})}
    taken = tuple(
        result.value for result in work.results.values() if isinstance(result.value, str | int | float)
    )
    source = Source(work.task.text, work, definitions, taken=taken)
    is_record = field.schema.get("type") == "object" or "properties" in str(
        field.schema.get("items", field.schema)
    )
    if is_record or "$ref" in str(field.schema):
        others = {one.name: one.schema for one in work.task.spec.outputs}
        own, source = None, replace(source, text=_without(others, field.name, source.text) or source.text)
    else:
        own = label_value(field.name, source.text) or labelled(source.text, (field.name,)).get(field.name)
    if own:
        source = replace(source, text=re.split(r"\.\s+(?=[A-Z])", own)[0], whole=True)
    if _is_open(field.schema) and all(
        re.fullmatch(r"(\w+_)?(question|query)", name) for name in work.task.inputs
    ):
        return None  # a question holds no answer
    value = _fill(field.schema, field.name, field.desc, source)
    named = spread(field.name)
    if value is _MISSING:
        if field.schema.get("type") == "string" and not {"format", "pattern"} & field.schema.keys():
            return None
        value = fallback(field.schema, field.name, definitions)
        return Result(
            value, f"the input does not say the {named}, so {value!r} is only there to fill the field"
        )
    return Result(
        value, f"the input gives {value!r} as the {named}" if isinstance(value, str | int | float) else ""
    )


def resolve(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Follow `$ref` to the definition it names."""
    for _ in range(8):
        if "$ref" in schema:
            keyword, target = "$ref", definitions.get(schema["$ref"].rsplit("/", 1)[-1], {})
        elif len(schema.get("allOf", ())) == 1:
            keyword, target = "allOf", schema["allOf"][0]
        else:
            return schema
        schema = {**target, **{key: value for key, value in schema.items() if key != keyword}}
    return schema


def fill(schema: Schema, name: str, desc: str, source: Source) -> Any:
    """Return a value for `schema`; what the text does not hold is null where null is allowed."""
    value = _fill(schema, name, desc, source)
    return fallback(schema, name, source.definitions) if value is _MISSING else value


def _fill(schema: Schema, name: str, desc: str, source: Source) -> Any:
    schema = resolve(schema, source.definitions)
    if "x-opaque" in schema:
        schema = guess(name)
    desc = desc or str(schema.get("description", ""))
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return source.choose(name, desc, schema["enum"])
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return _alternative(options, name, desc, source)
    kind = schema.get("type")
    if isinstance(kind, list):
        return _alternative([{**schema, "type": one} for one in kind], name, desc, source)
    if kind == "object" or "properties" in schema:
        return _record(schema, source)
    if kind == "array" or "prefixItems" in schema:
        return _list(schema, name, desc, source)
    if kind == "boolean":
        return source.choose(name, desc, (False, True))
    return None if kind == "null" else _leaf(schema, name, desc, source)


def _leaf(schema: Schema, name: str, desc: str, source: Source) -> Any:
    leaf = number_leaf if schema.get("type") in ("integer", "number") else text_leaf
    value = leaf(schema, name, desc, source.text, taken=source.taken, whole=source.whole)
    return _MISSING if value is None else value


def guess(name: str) -> Schema:
    """Return the type that a name suggests, where the prompt shows nothing else (a leaf of nested XML)."""
    if re.match(r"(is|has|can|should|was|needs)_", name):
        return {"type": "boolean"}
    kinds = kinds_of(name)
    if "date" in kinds:
        return {"type": "string", "format": "date"}
    if kinds and kinds[0] in ("number", "money", "percent"):
        is_measure = kinds[0] != "number" or re.search(r"weight|length|height|width|score|rating", name)
        return {"type": "number", "x-whole": True} if is_measure else {"type": "integer"}
    return {"type": "string"}


def _alternative(options: Sequence[Schema], name: str, desc: str, source: Source) -> Any:
    real = [option for option in options if resolve(option, source.definitions).get("type") != "null"]
    nullable = len(real) < len(options)
    if nullable and source.depth >= DEEPEST:
        return None
    for option in real:
        value = _fill(option, name, desc, source)
        if value is not _MISSING and not (nullable and value in ([], {}, "")):
            return value
    return None if nullable else _MISSING


# -- records -----------------------------------------------------------------------------------------------


def _record(schema: Schema, source: Source, *, is_part: bool = False) -> Any:
    properties = {
        name: resolve(child, source.definitions) for name, child in schema.get("properties", {}).items()
    }
    if not properties:
        return _mapping(schema, source)
    own = labelled(source.text, tuple(properties))
    is_goods = any(
        re.search(r"(?:^|_)(?:quantity|qty|count|price|cost|amount|stock|units)(?:_|$)", name)
        for name in properties
    )
    values: dict[str, Any] = {}
    for name in sorted(
        properties, key=lambda name: _is_open(properties[name])
    ):  # open texts take what is left
        is_list = properties[name].get("type") in ("array", "object")
        text = own.get(name) or (
            _without(properties, name, source.text) if is_list else label_value(name, source.text)
        )
        part = replace(
            source.on(text or source.text, whole=bool(text) and not is_list),
            taken=(*source.taken, *filter(_is_plain, values.values())),
        )
        if is_part and properties[name].get("type") in ("integer", "number"):
            part = replace(part, whole=True)  # the only number of a part is meant
        known_as = "item" if is_goods and name in ("name", "title", "label", "description") else name
        value = _fill(properties[name], known_as, "", part)
        if value is _MISSING and is_part and _is_open(properties[name]) and not text:
            value = _left_over(properties[name], part)
        values[name] = fallback(properties[name], name, source.definitions) if value is _MISSING else value
    return {name: values[name] for name in properties}


def _without(properties: Mapping[str, Schema], name: str, text: str) -> str:
    """Return a text without the lines that are labelled with another property."""
    others = [
        other
        for other in properties
        if other != name and properties[other].get("type") not in ("array", "object")
    ]
    parts = re.split(r"(\n|(?<=[a-z\d])\.\s)", text)
    return "".join(part for part in parts if not any(label_value(other, part) for other in others))


def _is_open(schema: Schema) -> bool:
    return schema.get("type") == "string" and not {"enum", "format", "pattern"} & schema.keys()


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _left_over(schema: Schema, source: Source) -> Any:
    """Return the first phrase of a record's part that no other field has."""
    left = (piece.text for piece in candidates(source.text).phrases)
    free = next(
        (
            text
            for text in left
            if not any(text in str(one) or (len(str(one)) > 2 and str(one) in text) for one in source.taken)
        ),
        None,
    )
    return _MISSING if free is None else within(schema, free)


_PAIR = re.compile(r"(?:^|(?<=[;|]))[ \t*-]*([A-Za-z][\w ]{0,30}?)[ \t]*[:=][ \t]*(\S[^\n;|]*)", re.MULTILINE)


def _mapping(schema: Schema, source: Source) -> dict[str, Any]:
    """Fill an open mapping from `key: value` lines, from counted things, or from the kinds of piece.

    It stays empty where the prompt does not show what its keys or values may be.
    """
    wanted = resolve(schema.get("additionalProperties") or {}, source.definitions)
    names = resolve(schema.get("propertyNames") or {}, source.definitions)
    are_texts = names.get("type", "string") == "string" and "format" not in names
    if (
        schema.get("additionalProperties") is False
        or is_only_named(wanted)
        or is_only_named(names)
        or not are_texts
    ):
        return {}
    pairs = _pairs(source.text, is_number=wanted.get("type") in ("integer", "number"))
    if labels := names.get("enum"):
        parts = {label: pairs.get(str(label)) or _clause_with(str(label), source.text) for label in labels}
        pairs = {label: parts[label] for label in _named(labels, source.text) if isinstance(label, str)}
    elif not pairs and wanted.get("type") == "string":
        found = {kind: candidates(source.text).of(kind) for kind in ("email", "id", "date", "money", "name")}
        pairs = {kind: pieces[0] for kind, pieces in found.items() if pieces}
    most = MOST_PARTS if source.depth < DEEPEST else 0
    filled = {
        key: fill(wanted, key, "", source.on(value, whole=True)) for key, value in list(pairs.items())[:most]
    }
    is_enough = labels or len(filled) >= schema.get("minProperties", 0)
    return filled if is_enough else {"value": fill(wanted, "value", "", source)}


def _pairs(text: str, *, is_number: bool) -> dict[str, str]:
    """Return the keys and values that a text pairs: by a colon, or a number and what it counts."""
    listed = text.split(":", 1)[1] if text.count(":") == 1 and "," in text.split(":", 1)[1] else text
    pairs = dict(_PAIR.findall(re.sub(r",\s*(?=[A-Za-z]\w*\s*[:=])", "\n", text)))
    pairs = {key: value for key, value in pairs.items() if not is_number or re.search(r"\d", value)}
    if pairs and (listed is text or not is_number):
        return pairs
    counted = (
        {" ".join(_noun(listed, one.end).split()[:3]): f"{one.value:g}" for one in quantities(listed)}
        if is_number
        else {}
    )
    counted = {noun: value for noun, value in counted.items() if noun}
    if counted and len(counted) >= len([one for one in quantities(listed) if _noun(listed, one.end)]):
        return counted or pairs
    before_each = ([p for p in candidates(listed).named if p.end <= one.start] for one in quantities(listed))
    named = [
        (before[-1].text, one) for one, before in zip(quantities(listed), before_each, strict=True) if before
    ]
    if is_number and named:
        return {name: f"{one.value:g}" for name, one in named}
    before = re.findall(
        r"([A-Za-z][\w ]*?)\s+(?:(?:is|are|was|has|got|had|turned"
        r"|scored|costs?)\s+)?(?:an?\s+)?(-?\d+(?:\.\d+)?)(?:\s?(?:euros?|dollars?|EUR|USD|€|\$))?(?=\s*(?:,|;|and\b|\n|\.?$))",
        listed,
    )
    return {re.sub(r"^(?:and |an? |the )+", "", key, flags=re.IGNORECASE): value for key, value in before}


def _noun(text: str, end: int) -> str:
    """Return the phrase that ends where a quantity does: what it counts."""
    return next((piece.text for piece in candidates(text).phrases if piece.start < end <= piece.end), "")


def _clause_with(label: str, text: str) -> str:
    """Return the clause of a text that speaks of a label."""
    clauses = re.split(r"[.;\n]|,(?!\d)|\band\b", text)
    return next((clause for clause in clauses if _named([label], clause)), text)


# -- lists -------------------------------------------------------------------------------------------------


def _list(schema: Schema, name: str, desc: str, source: Source) -> Any:
    if places := schema.get("prefixItems"):
        return _places(places, name, desc, source)
    item = resolve(schema.get("items") or {}, source.definitions)
    item = guess(name) if "x-opaque" in item else item
    least, most = schema.get("minItems", 0), schema.get("maxItems", MOST_PARTS)
    if source.depth >= DEEPEST and not least:
        return []
    values = _items(item, name, desc, source)
    unique = [value for at, value in enumerate(values) if value not in values[:at]][:most]
    while len(unique) < least:
        unique.append(_another(item, name, unique, source.definitions))
    return unique


def _places(places: Sequence[Schema], name: str, desc: str, source: Source) -> list[Any]:
    """Fill the places of a tuple one after the other: numbers first, texts with what is left."""
    values: dict[int, Any] = {}
    for at in sorted(range(len(places)), key=lambda at: _is_open(places[at])):
        part = replace(source.on(source.text, whole=True), taken=tuple(filter(_is_plain, values.values())))
        value = _left_over(places[at], part) if _is_open(places[at]) else _MISSING
        values[at] = fill(places[at], name, desc, part) if value is _MISSING else value
    return [values[at] for at in range(len(places))]


def _another(item: Schema, name: str, have: Sequence[Any], definitions: Mapping[str, Schema]) -> Any:
    """Return one more item, other than those in `have` where the type has others."""
    if "enum" in item:
        return next((label for label in item["enum"] if label not in have), item["enum"][0])
    value = fallback(item, name, definitions)
    if value in have and isinstance(value, str) and not {"format", "pattern", "maxLength"} & item.keys():
        return f"{value} {len(have) + 1}"
    if value in have and type(value) in (int, float):
        return number_leaf(item, name, "", str(value + len(have)), whole=True)
    return value


def _items(item: Schema, name: str, desc: str, source: Source) -> list[Any]:
    if is_only_named(item) and item.get("x-class", "Annotated") == "Annotated":
        return []  # of alternatives, of which the prompt shows nothing
    if "enum" in item:
        return _named(item["enum"], source.text) or [source.choose(name, desc, item["enum"])]
    kind = item.get("type")
    if kind == "object" or "properties" in item:
        # Deeper down one part is enough: a model that holds itself would multiply.
        parts = _parts(item, source) if source.depth < 3 else [source.text]
        return [_record(item, source.on(part), is_part=len(parts) > 1) for part in parts]
    if kind in ("integer", "number"):
        numbers = (
            number_leaf(item, name, desc, piece, whole=True)
            for piece in _number_texts(name, desc, source.text)
        )
        return [number for number in numbers if number is not None]
    if "prefixItems" in item or kind == "array":
        lines = [line for line in source.text.splitlines() if line.strip()]
        parts = lines if len(lines) > 1 else split_list(source.text) if "prefixItems" in item else []
        return [fill(item, name, desc, source.on(part)) for part in parts or [source.text]]
    if kind == "boolean" or {"anyOf", "oneOf"} & item.keys():
        return [fill(item, name, desc, source.on(source.text))]
    if item.get("format"):
        texts = (text_leaf(item, name, desc, piece) for piece in candidates(source.text).dates)
        return [text for text in texts if text is not None]
    found = (
        split_list(source.text)
        if source.whole
        else phrases_of(name, source.text) or texts_of(name, desc, source.text)
    )
    return [text for text in found if text_leaf(item, "", "", text, whole=True) is not None]


def _number_texts(name: str, desc: str, text: str) -> tuple[str, ...]:
    kinds = [kind for kind in kinds_of(name.removesuffix("s"), desc) if kind in ("money", "percent")]
    return next(
        (pieces for kind in kinds if (pieces := candidates(text).of(kind))), candidates(text).of("number")
    )


def _named(labels: Sequence[Any], text: str) -> list[Any]:
    """Return those of the labels that a text holds as words."""
    return [one for one in labels if re.search(rf"\b{re.escape(str(one))}\b", text, re.IGNORECASE)]


_CUT = re.compile(r"\.\s|;|\n|,(?!\d{3})|\b(?:and|then|plus)\b", re.IGNORECASE)


def _parts(item: Schema, source: Source) -> list[str]:
    """Cut a text into one part per record: by blocks or lines, else so that each part has one anchor."""
    text = source.text
    blocks = [block for block in re.split(r"\n\s*\n", text) if len(_PAIR.findall(block)) > 1]
    lines = [line.strip(" .-*\u2022") for line in text.splitlines() if line.strip(" .-*\u2022")]
    children = item.get("properties", {})
    resolved = {name: resolve(child, source.definitions) for name, child in children.items()}
    properties = {name: guess(name) if "x-opaque" in kind else kind for name, kind in resolved.items()}
    anchored = [
        line
        for line in lines
        if not properties or any(_anchors(name, kind, line) for name, kind in properties.items())
    ]
    if len(blocks) > 1 or len(anchored) > 1:
        return (blocks if len(blocks) > 1 else anchored)[:MOST_PARTS]
    ranked = sorted(properties, key=lambda name: _is_open(properties[name]))
    spots = max((_anchors(name, properties[name], text) for name in ranked), key=len, default=[])
    return _between(spots, text) if len(spots) > 1 else [text]


def _between(spots: Sequence[int], text: str) -> list[str]:
    """Cut a text at a comma, an `and` or the like between each two anchors, the last one before the next."""
    busy = candidates(text).busy
    cuts = [match for match in _CUT.finditer(text) if not any(a < match.start() < b for a, b in busy)]
    edges = [0]
    for before, after in itertools.pairwise(spots):
        fits = [cut.end() for cut in cuts if before < cut.start() < after]
        edges += fits[-1:]
    parts = [
        text[start:end].strip(" ,;.\n") for start, end in zip(edges, [*edges[1:], len(text)], strict=True)
    ]
    return [re.sub(r"[\s,;]+(?:and|then|plus)$", "", part) for part in parts if part][:MOST_PARTS]


def _anchors(name: str, schema: Schema, text: str) -> list[int]:
    """Return where a text holds what one property wants."""
    found = candidates(text)
    kinds = kinds_of(name)
    if "enum" in schema:
        names = "|".join(re.escape(str(label)) for label in schema["enum"])
        return [match.start() for match in re.finditer(rf"\b(?:{names})\b", text, re.IGNORECASE)]
    if schema.get("type") in ("integer", "number"):
        if pieces := [
            piece for kind in kinds if kind in ("money", "percent") for piece in found.pieces(kind)
        ]:
            return [piece.start for piece in pieces]
        numbers = re.finditer(NUMBER, text, re.IGNORECASE)
        return [m.start() for m in numbers if not any(a < m.end() and m.start() < b for a, b in found.busy)]
    if "date" in str(schema.get("format")):
        return [piece.start for piece in found.pieces("date")]
    return [
        piece.start
        for kind in kinds[:1]
        if kind not in ("thing", "number", "title")
        for piece in found.pieces(kind)
    ]


def fallback(schema: Schema, name: str, definitions: Mapping[str, Schema], depth: int = 0) -> Any:
    """Return the plainest value that validates, for what the text does not say."""
    schema = resolve(schema, definitions)
    if depth > 2 * DEEPEST:
        return None
    if "x-opaque" in schema:
        schema = guess(name)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        kinds = [resolve(option, definitions) for option in options]
        is_nullable = any(kind.get("type") == "null" for kind in kinds)
        return None if is_nullable else fallback(kinds[0], name, definitions, depth + 1)
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        parts = schema.get("properties", {})
        return {part: fallback(child, part, definitions, depth + 1) for part, child in parts.items()}
    if kind == "array":
        if places := schema.get("prefixItems"):
            return [fallback(place, name, definitions, depth + 1) for place in places]
        least, item = schema.get("minItems", 0), schema.get("items") or {}
        return [_another(item, name, [], definitions) for _ in range(least)]
    if kind in ("integer", "number"):
        return limited(schema, 0.0)
    if kind in ("boolean", "null"):
        return False if kind == "boolean" else None
    return text_leaf(schema, name, "", "", must=True)
