"""A well-shaped value for any JSON schema, filled from the input where the input has what is asked.

Main path: extract(field, work) -> Result; fill(schema, name, desc, source) -> a JSON value that validates.
Records and lists are filled field by field; a leaf takes the piece of the text that its name, description
and type ask for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.schema import Schema, is_only_named
from course_lib.lm.simulator.prompts.values import labelled
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.candidates import candidates, kinds_of, number_leaf, text_leaf
from course_lib.lm.simulator.skills.choice import choose
from course_lib.lm.simulator.skills.work import Result, Work

DEEPEST = 4  # nested deeper than this, optional parts stay empty

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Source:
    """The text to fill from, the request that it belongs to, and the shared definitions."""

    text: str
    work: Work
    definitions: Mapping[str, Schema]
    depth: int = 0

    def on(self, text: str) -> Source:
        """Return the same source one level deeper, reading `text`."""
        return replace(self, text=text, depth=self.depth + 1)

    def choose(self, name: str, desc: str, labels: Sequence[Any]) -> Any:
        """Return the label that the text speaks for."""
        return choose(name, desc, labels, self.text, self.work).value


def extract(field: Field, work: Work) -> Result:
    """Fill the field's type from the input; the last skill of all, since it fills any type."""
    definitions = {**field.schema.get("definitions", {}), **field.schema.get("$defs", {})}
    text = labelled(work.task.text, (field.name,)).get(field.name) or work.task.text
    if beside := re.search(rf"[;.]\s*{re.escape(field.name)}\s*:\s*([^;\n]+)", text, re.IGNORECASE):
        text = beside.group(1)
    value = fill(field.schema, field.name, field.desc, Source(text, work, definitions))
    is_plain = isinstance(value, str | int | float)
    return Result(value, f"the input gives {value!r} for {field.name.replace('_', ' ')}" if is_plain else "")


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
    if kind in ("integer", "number"):
        number = number_leaf(schema, name, desc, source.text)
        return _MISSING if number is None else number
    if kind == "null":
        return None
    text = text_leaf(schema, name, desc, source.text)
    return _MISSING if text is None else text


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


def _record(schema: Schema, source: Source) -> Any:
    properties = schema.get("properties")
    if not properties:
        return _mapping(schema, source)
    own = labelled(source.text, tuple(properties))
    return {
        part: fill(child, part, "", source.on(own.get(part, source.text)))
        for part, child in properties.items()
    }


_PAIR = re.compile(r"^[ \t*-]*([A-Za-z][\w ]{0,30}?)[ \t]*[:=][ \t]*(\S[^\n;]*)", re.MULTILINE)


def _mapping(schema: Schema, source: Source) -> dict[str, Any]:
    """Fill an open mapping from `key: value` lines, or from the kinds of piece that the text holds.

    It stays empty where the prompt does not show what its keys or values may be.
    """
    wanted = schema.get("additionalProperties", {})
    names = resolve(schema.get("propertyNames") or {}, source.definitions)
    are_texts = names.get("type", "string") == "string" and "format" not in names
    if wanted is False or is_only_named(wanted) or is_only_named(names) or not are_texts:
        return {}
    pairs = {key.strip().lower().replace(" ", "_"): value for key, value in _PAIR.findall(source.text)}
    if labels := names.get("enum"):
        named = _named(labels, source.text)
        values = {label: pairs.get(str(label).lower().replace(" ", "_"), source.text) for label in labels}
        pairs = {label: values[label] for label in labels if label in named and isinstance(label, str)}
    elif not pairs:
        found = {kind: candidates(source.text).of(kind) for kind in ("email", "id", "date", "money", "name")}
        pairs = {kind: pieces[0] for kind, pieces in found.items() if pieces}
    most = 8 if source.depth < DEEPEST else 0
    filled = {key: fill(wanted, key, "", source.on(value)) for key, value in list(pairs.items())[:most]}
    is_enough = labels or len(filled) >= schema.get("minProperties", 0)
    return filled if is_enough else {"value": fill(wanted, "value", "", source)}


def _list(schema: Schema, name: str, desc: str, source: Source) -> Any:
    if places := schema.get("prefixItems"):
        return [fill(place, name, desc, source.on(source.text)) for place in places]
    item = resolve(schema.get("items") or {}, source.definitions)
    item = guess(name) if "x-opaque" in item else item
    least, most = schema.get("minItems", 0), schema.get("maxItems", 12)
    if source.depth >= DEEPEST and not least:
        return []
    values = _items(item, name, desc, source)
    unique = [value for at, value in enumerate(values) if value not in values[:at]][:most]
    while len(unique) < least:
        unique.append(_another(item, name, unique, source.definitions))
    return unique


def _another(item: Schema, name: str, have: Sequence[Any], definitions: Mapping[str, Schema]) -> Any:
    """Return one more item, other than those in `have` where the type has others."""
    if "enum" in item:
        return next((label for label in item["enum"] if label not in have), item["enum"][0])
    value = fallback(item, name, definitions)
    if value in have and isinstance(value, str) and not {"format", "pattern", "maxLength"} & item.keys():
        return f"{value} {len(have) + 1}"
    if value in have and type(value) in (int, float):
        return number_leaf(item, name, "", str(value + len(have)))
    return value


def _items(item: Schema, name: str, desc: str, source: Source) -> list[Any]:
    if is_only_named(item) and item.get("x-class", "Annotated") == "Annotated":
        return []  # of alternatives, of which the prompt shows nothing
    if "enum" in item:
        return _named(item["enum"], source.text) or [source.choose(name, desc, item["enum"])]
    kind = item.get("type")
    if kind == "object" or "properties" in item:
        # Deeper down one part is enough: a model that holds itself would multiply.
        parts = _parts(item, source.text) if source.depth < 2 else [source.text]
        return [fill(item, name, desc, source.on(part)) for part in parts]
    if kind in ("integer", "number"):
        numbers = (number_leaf(item, name, desc, piece) for piece in candidates(source.text).of("number"))
        return [number for number in numbers if number is not None]
    if kind in ("array", "boolean") or {"anyOf", "oneOf"} & item.keys():
        return [fill(item, name, desc, source.on(source.text))]
    singular = name.removesuffix("s")
    for wanted in kinds_of(singular, desc) or kinds_of(name, desc):
        if pieces := candidates(source.text).of(wanted):
            texts = (text_leaf(item, singular, desc, piece) for piece in pieces)
            return [text for text in texts if text is not None]
    if item.get("format"):
        texts = (text_leaf(item, name, desc, piece) for piece in candidates(source.text).dates)
        return [text for text in texts if text is not None]
    return [text for text in _phrases(name, source.text) if text_leaf(item, "", "", text) is not None]


def _named(labels: Sequence[Any], text: str) -> list[Any]:
    """Return those of the labels that a text holds as words."""
    return [one for one in labels if re.search(rf"\b{re.escape(str(one))}\b", text, re.IGNORECASE)]


def _parts(item: Schema, text: str) -> list[str]:
    """Cut a text into one part per record: by lines, else by clauses; parts without a wanted piece go."""
    wanted = [kind for name in item.get("properties", {}) for kind in kinds_of(name)]
    for cut in (r"\n+", r";|\s\band\b\s|,(?=\s*(?:\d|one|two|three|four|five|a |an )\b)"):
        parts = [part.strip(" .-*") for part in re.split(cut, text) if part.strip(" .-*")]
        rich = [part for part in parts if any(candidates(part).of(kind) for kind in wanted)]
        if len(rich) > 1:
            return rich[:12]
    return [text]


def _phrases(name: str, text: str) -> list[str]:
    """Return the items of a list of texts: sentences for steps and points, else the words that stand out."""
    if re.search(r"step|point|sentence|claim|fact|question|task|action|reason|bullet", name):
        return [sentence.rstrip(".") for sentence in words.sentences(text)][:8]
    spoken = map(str.lower, re.findall(r"[A-Za-z][A-Za-z-]{3,}", text))
    counts = Counter(word for word in spoken if word not in words.STOP)
    return [word for word, _ in counts.most_common(5)]


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
        return number_leaf(schema, name, "", "0")
    if kind in ("boolean", "null"):
        return False if kind == "boolean" else None
    return text_leaf(schema, name, "", "", must=True)
