"""The field list and the field structure of a system message.

Main path: read_fields(system text) -> (inputs, outputs), with every type the message shows.
Source: format_field_description and format_field_structure of DSPy's adapters, DSPy 3.4.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from course_lib.lm.simulator.prompts import schema as types
from course_lib.lm.simulator.prompts.schema import Schema
from course_lib.lm.simulator.prompts.task import Field
from course_lib.lm.simulator.reading import first_object, sections

_ITEM = re.compile(r"^[ \t]*(\d+)\. `([^`\n]+)` \(", re.MULTILINE)
_ENDS = re.compile(
    r"^(?:Your (?:input|output) fields are:|Your outputs must contain:|All interactions will be structured"
    r"|You should lay out your outputs|In adhering to this structure|Specific instructions:)",
    re.MULTILINE,
)
_QUOTED_OR_BRACKET = re.compile(rf"{types.QUOTED}|[()]", re.DOTALL)
STRUCTURE = "All interactions will be structured in the following way"
_MARKER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*$", re.MULTILINE)
_SCHEMA_LINE = re.compile(r"^[ \t]*`(\w+)`[^{\n]*\bJSON schema: ?(?=\{)", re.MULTILINE)


def read_fields(text: str) -> tuple[list[Field], list[Field]]:
    """Return the input and the output fields of a DSPy field list, with the types that `text` shows."""
    inputs: list[Field] = []
    outputs: list[Field] = []
    into, heading_from = inputs, 0
    items = list(_ITEM.finditer(text))
    for at, item in enumerate(items):
        if item.group(1) == "1":
            into = outputs if _heads_outputs(text[heading_from : item.start()], inputs) else inputs
        end = items[at + 1].start() if at + 1 < len(items) else len(text)
        field, heading_from = _read_item(text, item, end)
        into.append(field)
    printed = _printed_types(text[heading_from:], [field.name for field in outputs])
    return inputs, [_complete(field, printed.get(field.name)) for field in outputs]


def _heads_outputs(heading: str, inputs: list[Field]) -> bool:
    last = heading.strip().lower().rsplit("\n", 1)[-1]
    if re.search(r"\b(output|produce|respon|answer with|return)", last):
        return True
    return bool(inputs) and "input" not in last


def _read_item(text: str, item: re.Match[str], end: int) -> tuple[Field, int]:
    """Read one numbered line; also say where it ends."""
    type_end = _close(text, item.end())
    type_name = text[item.end() : type_end]
    boundary = _ENDS.search(text, type_end, end)
    stop = boundary.start() if boundary else (end if end < len(text) else _own_lines(text, type_end))
    desc = text[type_end:stop].removeprefix(")").removeprefix(":").strip()
    desc, _, constraints = f"\n{desc}".partition("\nConstraints: ")
    schema = types.from_annotation(type_name) | types.limits(constraints)
    return Field(name=item.group(2), schema=schema, desc=desc.strip(), type_name=type_name), stop


def _close(text: str, start: int) -> int:
    """Return where the bracket opened before `start` closes; the line's end if it does not."""
    depth = 1
    for mark in _QUOTED_OR_BRACKET.finditer(text, start):
        depth += {"(": 1, ")": -1}.get(mark.group(), 0)
        if depth == 0:
            return mark.start()
    line_end = text.find("\n", start)
    return len(text) if line_end < 0 else line_end


def _own_lines(text: str, start: int) -> int:
    """Return where the last item ends when nothing known follows: its line, and indented lines below it."""
    more = re.compile(r"[^\n]*(?:\n(?:[ \t]+\S|Constraints: )[^\n]*)*").match(text, start)
    return more.end() if more else len(text)


def _complete(field: Field, printed: Schema | None) -> Field:
    if not printed:
        return field
    listed = field.schema
    if listed.get("type") == "array" and "x-baml" in printed and "anyOf" in printed:
        *others, last = printed["anyOf"]  # a list of alternatives is written "A or B[]"
        printed = {"type": "array", "items": types.any_of([*others, last.get("items", last)]), "x-baml": True}
    if "enum" in listed or listed.get("type") in ("string", "integer", "number", "boolean"):
        merged = {**printed, **listed} if "x-printed" not in printed else listed
    elif "x-baml" in printed and "x-class" not in json.dumps(listed):
        merged = listed  # BAML's spelling leaves out more than the list's
    elif "x-template" in printed:
        merged = types.fill_classes(listed, printed["x-template"])
    else:
        limits = {key: value for key, value in listed.items() if key.startswith(("min", "max", "ex", "prop"))}
        merged = printed | limits
    return Field(name=field.name, schema=merged, desc=field.desc, type_name=field.type_name)


def _printed_types(text: str, names: list[str]) -> dict[str, Schema]:
    """Return what the field structure says of each output's type, beyond the name in the list."""
    start = text.find(STRUCTURE)
    block = text[max(start, 0) :]
    if "Outputs will be a JSON object with the following fields." in block:
        shown = first_object(block[block.index("Outputs will be a JSON object") :]) or {}
        notes = {name: types.from_note(str(value)) for name, value in shown.items()}
        return {name: note for name, note in notes.items() if note}
    types_by_name: dict[str, Schema] = {}
    markers = list(_MARKER.finditer(block))
    for marker, section in sections(markers, block):
        baml = re.search(r"Output field `\w+` should be of type: (.*)", section, re.DOTALL)
        if printed := types.from_baml(baml.group(1).strip()) if baml else types.from_note(section):
            types_by_name[marker.group(1)] = printed
    for line in _SCHEMA_LINE.finditer(block):
        if printed := types.clean(first_object(block[line.end() :])):
            types_by_name[line.group(1)] = printed
    for name in names if not markers else ():
        if printed := _from_tag(block, name):
            types_by_name[name] = printed
    return types_by_name


def _from_tag(block: str, name: str) -> Schema | None:
    # A nested template is one line; at a line's start stands a field, not a part of another one.
    element = re.search(rf"^<{re.escape(name)}>(?:.*|\n(?s:.*?)\n)</{re.escape(name)}>$", block, re.MULTILINE)
    if not element:
        return None
    inside = element.group()
    if f"{{{name}}}" in inside:
        return types.from_note(inside[: -len(name) - 3].strip())
    return {"x-template": types.from_xml(inside)}


def from_response_format(wanted: Any) -> tuple[Field, ...]:
    """Return the output fields that an OpenAI `response_format` with a JSON schema lays down."""
    holder = wanted.get("json_schema") if isinstance(wanted, Mapping) else None
    return tuple(types_of(holder.get("schema") if isinstance(holder, Mapping) else None))


def types_of(schema: Any) -> list[Field]:
    """Return the properties of a JSON schema as fields."""
    schema = types.clean(schema)
    shared: Schema = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return [
        Field(name=name, schema={**shared, **part}, desc=part.get("description", ""), type_name="")
        for name, part in schema.get("properties", {}).items()
    ]
