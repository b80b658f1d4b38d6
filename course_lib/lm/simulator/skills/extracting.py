"""What a text says for the fields of a program: all of them are filled together, each mention used once.

Main path: stated(field, work) -> Result or None; extract(field, work) -> Result, the plainest if it must.
Single values, also those of nested models, take what fits them best in the text (offers.py, assigning.py).
Lists, records and mappings read what is left. What the text does not state stays unknown: null, empty, or the
plainest value with a reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from course_lib.lm.simulator.agents.filling import Fit, fits, joined_parts, joined_runs
from course_lib.lm.simulator.agents.lexing import PREPOSITIONS, Span
from course_lib.lm.simulator.agents.slots import Slot, fields_of, plain, singular, slot_of, slots
from course_lib.lm.simulator.prompts import Field
from course_lib.lm.simulator.prompts.loose import guessed
from course_lib.lm.simulator.prompts.schema import Schema, is_only_named
from course_lib.lm.simulator.skills import words
from course_lib.lm.simulator.skills.assigning import Path, assigned, labelled
from course_lib.lm.simulator.skills.choice import by_degree, choose, judges
from course_lib.lm.simulator.skills.keywords import phrases_of
from course_lib.lm.simulator.skills.limits import fallback, filled_up, resolve, validates
from course_lib.lm.simulator.skills.offers import (
    ENOUGH,
    STRICT,
    Passage,
    bare,
    offered,
    typed,
    whole_value,
)
from course_lib.lm.simulator.skills.work import Result, Work, is_free_text, is_reasoning

DEEPEST, MOST_PARTS, MOST_SLOTS = 4, 12, 40
_VAGUE = re.compile(
    r"code|(?:\w+_)?(?:text|output|content|result|answer|value|data|response|reply|info|information|message)"
)
"""Names that ask for nothing in particular."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """The text that is read, and for what."""

    passage: Passage
    work: Work
    depth: int = 0
    taken: tuple[Span, ...] = ()

    def on(self, text: str, *, whole: bool = True) -> _Scope:
        """Return the scope one level deeper, reading a part of the text."""
        passage = replace(self.passage, text=text, whole=whole)
        return replace(self, passage=passage, depth=self.depth + 1, taken=())

    @property
    def text(self) -> str:
        """What is read."""
        return self.passage.text

    @property
    def left(self) -> str:
        """The text, with spaces where something is taken."""
        text = self.text
        for start, end in self.taken:
            text = text[:start] + " " * (end - start) + text[end:]
        return text


_MISSING = object()
"""What the text does not state."""


def extract(field: Field, work: Work) -> Result:
    """Fill the field's type from the input, or with the plainest value."""
    return stated(field, work) or Result(_plainest(field))


def stated(field: Field, work: Work) -> Result | None:
    """Fill the field's type from the input; a text that it does not state is left to the last skill."""
    if is_free_text(field) and (is_vague(field) or not is_text(work)):
        return None
    if work.read is None:
        fields = tuple(one for one in work.task.spec.outputs if not is_reasoning(one))
        work.read = (
            _read(fields, _Scope(Passage(work.task.text, _known(fields)), work)) if is_text(work) else {}
        )
    value, named = work.read.get(field.name, _MISSING), field.name.replace("_", " ")
    if value is not _MISSING:
        return Result(
            value, f"the input gives {value!r} as the {named}" if isinstance(value, str | int | float) else ""
        )
    if is_text(work) and (told := by_degree(field, work)):
        return told
    if is_free_text(field):
        return None
    value = _plainest(field)
    return Result(value, f"the input does not say the {named}, so {value!r} is only there to fill the field")


def value_in(field: Field, text: str) -> Any:
    """Return what a text that stands for a field gives for it; None if it gives nothing."""
    (slot,) = slots((field,))[:1]
    value = whole_value(typed(slot), text)
    return value if value is not None and validates(plain(field.schema, {}), value) else None


def is_text(work: Work) -> bool:
    """Say whether the inputs are a text to read; a question, a name, numbers or an image hold no answers."""
    text, inputs = work.task.text, work.task.inputs
    is_short = len(text.split()) < 3 and not re.search(r"[\d:@]", text)
    if is_short and not all(_TEXTS.fullmatch(name) for name in inputs):
        return False
    is_asked = all(re.fullmatch(r"(\w+_)?(question|query)", name) for name in inputs)
    are_numbers = len(inputs) > 1 and not re.search(r"[^\W\d_]", text)
    return not is_asked and not are_numbers and '"type": "image_url"' not in text


_TEXTS = re.compile(r"(?:\w+_)?(?:text|input|message|sentence|note|document)")


def is_vague(field: Field) -> bool:
    """Say whether the name of a field asks for nothing in particular."""
    return _VAGUE.fullmatch(field.name) is not None


def is_piece(field: Field) -> bool:
    """Say whether a field of this name asks for a piece of a text: a name, an amount, a date."""
    kind = slot_of((field.name,), field.schema, field.desc, True).kind
    return kind not in ("thing", "text", "query") and not is_vague(field)


def _known(fields: Sequence[Field]) -> frozenset[str]:
    """Return the stems of the fields' own words."""
    return frozenset(words.stem(word) for one in fields for word in words.words(one.name.replace("_", " ")))


# -- all fields together ------------------------------------------------------------------------------------


def _read(fields: tuple[Field, ...], scope: _Scope) -> dict[str, Any]:
    """Return the values that the text states, by field; nested models are filled up."""
    fields = tuple(replace(one, schema=_guessed(one.name, one.schema)) for one in fields)
    optional = {one.name for one in fields if _is_nullable(one.schema)}
    wanted = [typed(slot, required=slot.path[0] not in optional) for slot in slots(fields)[:MOST_SLOTS]]
    told = labelled(wanted, scope.text)
    judged = {slot.path for slot in wanted if scope.depth == 0 and judges(slot.path)}
    rest = [
        replace(slot, required=slot.required and slot.path not in judged)
        for slot in wanted
        if slot.path not in told and not (slot.path in judged and slot.kind in ("integer", "number"))
    ]
    values: dict[Path, Any] = {
        slot.path: whole_value(slot, told[slot.path][0]) for slot in wanted if slot.path in told
    }
    spans = [span for _, span in told.values()]
    chosen = assigned(rest, scope.passage, spans)
    values |= {path: fit.value for path, fit in chosen.items()}
    texts = {path: text for path, (text, _) in told.items()}
    found = _Found(values, texts, replace(scope, taken=tuple(spans)))
    built = {one.name: found.value(one, (one.name,)) for one in fields}
    return {name: value for name, value in built.items() if value is not _MISSING}


@dataclass(frozen=True, slots=True)
class _Found:
    """What was found in a text, by path, to be put into the form of the fields."""

    values: Mapping[Path, Any]
    labelled: Mapping[Path, str]
    scope: _Scope

    def value(self, field: Field, path: Path) -> Any:
        """Return the value of a field, null where that is allowed; _MISSING if the text does not state it."""
        definitions = {**field.schema.get("definitions", {}), **field.schema.get("$defs", {})}
        schema = guess(field.name, plain(field.schema, definitions))
        value = self._of(replace(field, schema={**schema, "$defs": definitions}), path)
        return None if _is_nullable(field.schema) and (value is _MISSING or value in ([], {})) else value

    def _of(self, field: Field, path: Path) -> Any:
        schema, text, definitions = field.schema, self.labelled.get(path), field.schema["$defs"]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema or schema.get("type") == "boolean":
            return _closed(field, text or self.scope.text, self.scope.work)
        if schema.get("type") == "array" or "prefixItems" in schema:
            scope = self.scope.on(text or self.scope.left, whole=text is not None)
            return self.values.get(path) or _list(field, scope, definitions)
        if schema.get("properties"):
            return self._object(field, path, definitions)
        if schema.get("type") == "object":
            return _mapping(field, self.scope.on(text or self.scope.left), definitions)
        value = self.values.get(path)
        return value if value is not None and validates(schema, value) else _MISSING

    def _object(self, field: Field, path: Path, definitions: Mapping[str, Schema]) -> Any:
        if len(path) >= DEEPEST:
            return _plainest(field)
        parts = fields_of(field.schema, definitions)
        found = {part.name: self.value(part, (*path, part.name)) for part in parts}
        return {one.name: _plainest(one) if found[one.name] is _MISSING else found[one.name] for one in parts}


def _closed(field: Field, text: str, work: Work) -> Any:
    """Return the label that the text names alone, or else speaks for."""
    labels = field.schema.get("enum", (False, True))
    told = _named([label for label in labels if isinstance(label, str)], text)
    return told[0] if len(told) == 1 else choose(field.name, field.desc, labels, text, work).value


def _named(labels: Sequence[Any], text: str) -> list[Any]:
    """Return those of the labels that a text holds as words."""
    return [one for one in labels if re.search(rf"\b{re.escape(str(one))}\b", text, re.IGNORECASE)]


def _is_nullable(schema: Schema) -> bool:
    return "null" in str(schema.get("anyOf", schema.get("type")))


def _plainest(field: Field) -> Any:
    return fallback(_guessed(field.name, field.schema), field.name, field.schema.get("$defs", {}))


def _guessed(name: str, schema: Schema) -> Schema:
    """Return the schema with a guessed type for each part of which the prompt shows none."""
    if properties := schema.get("properties"):
        return {**schema, "properties": {one: _guessed(one, child) for one, child in properties.items()}}
    return {**schema, "items": _guessed(name, schema["items"])} if "items" in schema else guess(name, schema)


def guess(name: str, schema: Schema) -> Schema:
    """Return the type that a name suggests, where the prompt shows nothing else (a leaf of nested XML)."""
    return guessed(name) if "x-opaque" in schema else schema


# -- lists -------------------------------------------------------------------------------------------------


def _list(field: Field, scope: _Scope, definitions: Mapping[str, Schema]) -> Any:
    """Return the list that the text gives, with as many items as the schema allows."""
    schema = field.schema
    if schema.get("prefixItems"):
        record = _tuple(schema, definitions)
        found = _read(record, scope.on(scope.text))
        return [found.get(one.name, _plainest(one)) for one in record]
    named = resolve(schema.get("items") or {}, definitions)
    if is_only_named(named) and named.get("x-class", "Annotated") == "Annotated":
        return []  # of alternatives, of which the prompt shows nothing
    item = guess(field.name, plain(named, definitions))
    least, most = schema.get("minItems", 0), schema.get("maxItems", MOST_PARTS)
    if scope.depth > DEEPEST:
        return filled_up([], item, field.name, least, definitions)
    values = _items(field, {**item, "$defs": definitions}, scope)
    unique = [value for at, value in enumerate(values) if value not in values[:at]][:most]
    return filled_up(unique, item, field.name, least, definitions)


def _tuple(schema: Schema, definitions: Mapping[str, Schema]) -> tuple[Field, ...]:
    """Return the places of a tuple as fields."""
    return tuple(
        Field(f"{at}", {**one, "$defs": definitions}) for at, one in enumerate(schema["prefixItems"])
    )


def _items(field: Field, item: Schema, scope: _Scope) -> list[Any]:
    definitions, kind = item["$defs"], item.get("type")
    if "enum" in item:
        return _named(item["enum"], scope.text) or [
            _closed(Field(field.name, item, field.desc), scope.text, scope.work)
        ]
    if item.get("properties") or item.get("prefixItems"):
        return _records(item, scope)
    if kind in ("array", "object"):
        inner, read = Field(field.name, item, field.desc), _list if kind == "array" else _mapping
        lines = (line for line in scope.text.splitlines() if line.strip())
        return [value for line in lines if (value := read(inner, scope.on(line), definitions))]
    if kind in ("boolean", "null"):
        return []
    slot = typed(slot_of((singular(field.name),), item, field.desc, True))
    return [value for value in _values(field.name, slot, scope) if validates(item, value)]


def _values(name: str, slot: Slot, scope: _Scope) -> list[Any]:
    """Return the single values of a list: all of a kind known by its form, or what an enumeration holds."""
    passage = scope.passage
    if slot.kind in (*STRICT, "id") or "pattern" in slot.schema:
        found = [fit for fit in fits(slot, passage.text, passage.known) if fit.score >= ENOUGH]
        return [fit.value for fit in _alike(found)]
    if known := [bare(part) for part in _listed(scope)] or phrases_of(name, passage.text):
        return known
    anywhere = replace(slot, roles=frozenset(PREPOSITIONS))
    found = [fit for fit in offered(anywhere, passage) if fit.score >= ENOUGH]
    return [fit.value for run in _joined(slot, joined_runs(found, passage.text), passage.text) for fit in run]


def _joined(slot: Slot, found: Sequence[list[Fit]], text: str) -> Sequence[list[Fit]]:
    """Return the best run of joined mentions; where it is of names, all names that stand alike."""
    best = max(
        found, key=lambda run: sum(fit.score for fit in run) / len(run) + 1.5 * (len(run) > 1), default=[]
    )
    if not all(map(_is_name, best)):
        return [best]
    names = [run for run in found if all(map(_is_name, run))]
    sited = [run for run in names if _AT.search(text[: run[0].start])]
    if slot.kind in ("place", "person"):
        return (sited if slot.kind == "place" else [run for run in names if run not in sited]) or names
    return names


_AT = re.compile(r"\b(?:in|at|from|to|near|via|through|for) (?:the )?$")


def _is_name(fit: Fit) -> bool:
    return not str(fit.value)[:1].islower()


def _alike(offered: Sequence[Fit]) -> list[Fit]:
    """Return the fits of those kinds that fit best, in order, one for each place."""
    best: list[Fit] = []
    most = min(max((fit.score for fit in offered), default=0.0), 3.5)
    for fit in sorted(offered, key=lambda one: (-one.score, one.start)):
        if fit.score >= most - 1.0 and not fit.touches([(one.start, one.end) for one in best]):
            best.append(fit)
    return sorted(best, key=lambda fit: fit.start)


def _listed(scope: _Scope) -> list[str]:
    """Return the parts of an enumeration that stands alone, after a colon or in lines."""
    text = scope.text.strip()
    after = re.search(r":\s*([^:.\n]+,[^:.\n]+)", text) if text.count(":") == 1 else None
    if not scope.passage.whole and not after:
        return []
    joints = r"\n\s*[-*\u2022]?\s*|\s*[,;]\s*(?:and\s+|or\s+)?|\s+(?:and|or|&)\s+"
    return [part for part in re.split(joints, after.group(1) if after else text.strip("[]")) if bare(part)]


# -- records -----------------------------------------------------------------------------------------------


def _records(item: Schema, scope: _Scope) -> list[Any]:
    """Return the records that a text gives, one for each block, line or joined part."""
    is_tuple = "prefixItems" in item
    fields = _tuple(item, item["$defs"]) if is_tuple else fields_of(item, item["$defs"])
    scope = replace(scope, passage=replace(scope.passage, known=_known(fields)))
    rows = [_read(fields, scope.on(part)) for part in _parts(fields, scope)]
    filled = [
        {one.name: row[one.name] if one.name in row else _plainest(one) for one in fields} for row in rows
    ]
    return [list(row.values()) for row in filled] if is_tuple else filled


def _parts(fields: tuple[Field, ...], scope: _Scope) -> list[str]:
    """Cut a text into records: by blocks, lines or sentences, or where a joined part begins another one."""
    text, needed = scope.text, _needed(fields)
    if text.count(":") == 1 and (after := re.search(r":\s*([^:\n]+,[^:\n]+)$", text.strip())):
        text = after.group(1)
    blocks = [block for block in re.split(r"\n\s*\n", text) if block.strip()]
    lines = [re.sub(r"^\d+[.)]\s", "", line.strip(" .-*\u2022")) for line in text.splitlines()]
    for cut in (blocks, lines, words.sentences(text)):
        complete = [part for part in cut if part and _filled(fields, part, scope) >= needed]
        if len(complete) > 1:
            return complete[:MOST_PARTS]
    joined = [_joined_records(fields, sentence, scope) for sentence in words.sentences(text) or [text]]
    return max(joined, key=len)[:MOST_PARTS] or [text]


_LEAD_IN = re.compile(r"\b(?:for|of|with|me|us|is|are)\s")


def _joined_records(fields: tuple[Field, ...], text: str, scope: _Scope) -> list[str]:
    """Return the joined parts of a text that hold a record each, the first without what leads to it."""
    parts, needed = list[str](), _needed(fields)
    for start, end in joined_parts(text):
        longer = f"{parts[-1]}, {text[start:end]}" if parts else ""
        so_far = _filled(fields, parts[-1], scope) if parts else needed
        if so_far < needed and so_far < _filled(fields, longer, scope):
            parts[-1] = longer
        else:
            parts.append(text[start:end])
    tails = [parts[0][hit.end() :] for hit in _LEAD_IN.finditer(parts[0])] if len(parts) > 1 else []
    parts[:1] = [one for one in tails[::-1] if _filled(fields, one, scope) >= needed][:1] or parts[:1]
    return [part for part in parts if _filled(fields, part, scope) >= needed]


def _needed(fields: Sequence[Field]) -> int:
    """Return how many single values a record must have."""
    wanted = slots(tuple(one for one in fields if not _is_nullable(one.schema)))
    return max(1, sum(slot.kind not in ("array", "object", "enum", "boolean", "null") for slot in wanted))


def _filled(fields: tuple[Field, ...], text: str, scope: _Scope) -> int:
    """Return how many single values of a record a part of a text has."""
    wanted = [typed(slot) for slot in slots(fields)]
    told = labelled(wanted, text)
    rest = [slot for slot in wanted if slot.path not in told]
    return len(told) + len(assigned(rest, scope.on(text).passage, [span for _, span in told.values()]))


# -- mappings ----------------------------------------------------------------------------------------------


def _mapping(field: Field, scope: _Scope, definitions: Mapping[str, Schema]) -> dict[str, Any]:
    """Fill an open mapping from "key: value" lines, or from what is counted or measured.

    It stays empty where the prompt does not show what its keys or values may be.
    """
    wanted = plain(field.schema.get("additionalProperties") or {}, definitions)
    names = plain(field.schema.get("propertyNames") or {"type": "string"}, definitions)
    are_texts = names.get("type", "string") == "string" and "format" not in names
    if (
        field.schema.get("additionalProperties") is False
        or is_only_named(wanted)
        or is_only_named(names)
        or not are_texts
    ):
        return {}
    inner = Field("value", {**wanted, "$defs": definitions})
    is_number = wanted.get("type") in ("integer", "number")
    most = MOST_PARTS if scope.depth <= DEEPEST else 0
    pairs = list(_pairs(scope.text, names, is_number=is_number).items())[:most]
    filled = {key: _read((inner,), scope.on(f"value: {text}")).get("value", _MISSING) for key, text in pairs}
    if not pairs and is_number:
        record = {"name": {**names, "$defs": definitions}, "value": inner.schema}
        rows = _records({"properties": record, "required": [*record], "$defs": definitions}, scope)
        filled = {str(row["name"]): row["value"] for row in rows}
    if not filled and field.schema.get("minProperties"):
        filled = {"value": _MISSING}
    return {key: _plainest(inner) if value is _MISSING else value for key, value in filled.items()}


_PAIR = re.compile(r"(?:^|(?<=[;|]))[ \t*-]*([A-Za-z][\w ]{0,30}?)[ \t]*[:=][ \t]*(\S[^\n;|]*)", re.MULTILINE)


def _pairs(text: str, names: Schema, *, is_number: bool) -> dict[str, str]:
    """Return the keys and values that a text pairs by a colon."""
    pairs = dict(_PAIR.findall(re.sub(r",\s*(?=[A-Za-z]\w*\s*[:=])", "\n", text)))
    labels = {str(label).lower(): label for label in names.get("enum", ())}
    if labels:
        pairs = {labels[key.lower()]: value for key, value in pairs.items() if key.lower() in labels}
    is_list = len(pairs) == 1 and "," in "".join(pairs.values())
    return (
        {}
        if is_number and is_list
        else {k: v for k, v in pairs.items() if not is_number or re.search(r"\d", v)}
    )
