"""Field types as a prompt writes them, turned into JSON schema.

Main path: from_annotation("list[Cite]"), from_note("must be one of: a; b"), from_baml('"yes" or "no"').
Source: dspy/adapters/utils.py (translate_field_type, get_annotation_name) and baml_adapter.py, DSPy 3.4.1.

A class that the prompt only names becomes {"x-class": name}: its shape must come from elsewhere.
"""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import Any

from course_lib.lm.simulator.reading import first_object

Schema = dict[str, Any]

QUOTED = r"""'(?:\\.|[^'\\])*'?|"(?:\\.|[^"\\])*"?"""
"""A text in quotes, to the end if they are never closed."""

_NAMES = {
    "string": "str string text Reasoning",
    "integer": "int integer",
    "number": "float number Decimal",
    "boolean": "bool boolean",
    "null": "NoneType None null",
}
_FORMATS = {"datetime": "date-time", "timedelta": "duration", "UUID": "uuid", "date": "date", "time": "time"}
_PLAIN: dict[str, Schema] = {
    **{name: {"type": kind} for kind, names in _NAMES.items() for name in names.split()},
    **{name: {"type": "string", "format": format_} for name, format_ in _FORMATS.items()},
    "Code": {"type": "string", "x-class": "Code"},
    "Any": {},
    "object": {},
    "list": {"type": "array", "items": {}},
    "tuple": {"type": "array", "items": {}},
    "set": {"type": "array", "items": {}, "uniqueItems": True},
    "dict": {"type": "object", "additionalProperties": {}},
}

MOST = 1_000  # of items, of letters, and of a pattern's repetitions
_COUNTS = {
    **dict.fromkeys(("minItems", "maxItems", "minProperties", "minLength"), MOST),
    "maxLength": 1e15,
}
_BOUNDS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"))
_TEXTS = frozenset(("pattern", "format", "$ref", "description"))


def clean(schema: Any) -> Schema:
    """Return a JSON schema without keywords that say what no schema can say, and with bounded counts."""
    kept = schema.items() if isinstance(schema, dict) else ()
    return {key: value for key, given in kept if (value := _keyword(key, given)) is not None}


def _keyword(key: str, value: Any) -> Any:
    """Return the value of a keyword as it can be used, or None."""
    if key in ("properties", "$defs", "definitions"):
        return {str(name): clean(part) for name, part in value.items()} if isinstance(value, dict) else None
    if key in ("items", "additionalProperties", "propertyNames"):
        return clean(value) if isinstance(value, dict) else False if value is False else None
    if key in ("anyOf", "oneOf", "allOf", "prefixItems", "enum", "examples"):
        parts = value if isinstance(value, list) else []
        is_open = key in ("enum", "examples")
        return [
            part if is_open else clean(part) for part in parts if is_open != isinstance(part, dict | list)
        ] or None
    if key in _COUNTS:
        return min(value, _COUNTS[key]) if type(value) is int and value >= 0 else None
    if key in _BOUNDS:
        is_bound = type(value) in (int, float) and abs(value) < 1e15 and (key != "multipleOf" or value > 0)
        return value if is_bound else None
    if key == "type" and isinstance(value, list):
        return [kind for kind in value if isinstance(kind, str)] or None
    return value if isinstance(value, str) or key not in (*_TEXTS, "type") else None


def any_of(options: list[Schema]) -> Schema:
    """Join alternatives; a single one stands for itself."""
    return options[0] if len(options) == 1 else {"anyOf": options}


def split_top(text: str, separator: str = ",") -> list[str]:
    """Split at `separator` outside brackets and quotes; pieces are stripped.

    >>> split_top("int, list[str, 'a, b'], Literal['x, y']")
    ['int', "list[str, 'a, b']", "Literal['x, y']"]
    """
    pieces, depth, start = [], 0, 0
    for mark in re.finditer(rf"{QUOTED}|[\[({{\])}}]|{re.escape(separator)}", text, re.DOTALL):
        if mark.group() == separator and depth == 0:
            pieces.append(text[start : mark.start()].strip())
            start = mark.end()
        depth += (mark.group() in "[({") - (mark.group() in "])}")
    pieces.append(text[start:].strip())
    return [piece for piece in pieces if piece]


def literal(value: str) -> Any:
    """Return the Python or JSON constant that `value` spells, or the text itself."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError):
        return {"true": True, "false": False, "null": None}.get(value, value)


def from_annotation(name: str) -> Schema:
    """Return the schema of a type as DSPy names it in its field list.

    >>> from_annotation("Union[int, NoneType]")
    {'anyOf': [{'type': 'integer'}, {'type': 'null'}]}
    >>> from_annotation("Literal['yes', 'no']")
    {'enum': ['yes', 'no']}
    """
    name = name.strip()
    if name in _PLAIN:
        return dict(_PLAIN[name])
    if len(alternatives := split_top(name, "|")) > 1:
        return any_of([from_annotation(part) for part in alternatives])
    head, bracket, rest = name.partition("[")
    if not bracket or not rest.endswith("]"):
        return {"x-class": name} if re.fullmatch(r"[\w.]+", name) else {"type": "string"}
    return _generic(head.rsplit(".", 1)[-1], split_top(rest[:-1]))


def _generic(head: str, parts: list[str]) -> Schema:
    if head == "Literal":
        return {"enum": [literal(part) for part in parts]}
    if head == "Optional":
        return any_of([from_annotation(parts[0]), {"type": "null"}])
    if head == "Union":
        return any_of([from_annotation(part) for part in parts])
    if head in ("dict", "Dict", "Mapping", "MutableMapping", "defaultdict"):
        return _mapping(from_annotation(parts[0]), from_annotation(parts[1]) if len(parts) > 1 else {})
    if head in ("tuple", "Tuple") and "..." not in parts:
        items = [from_annotation(part) for part in parts]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if head == "Annotated":
        return from_annotation(parts[0])
    item: Schema = {"type": "array", "items": from_annotation(parts[0]) if parts else {}}
    return {**item, "uniqueItems": True} if head in ("set", "frozenset", "Set", "FrozenSet") else item


def _mapping(names: Schema, values: Schema) -> Schema:
    keys = {} if names == {"type": "string"} else {"propertyNames": names}
    return {"type": "object", "additionalProperties": values, **keys}


_NOTE = re.compile(r"#\s*note: the value you produce (.*)", re.DOTALL)


def from_note(text: str) -> Schema | None:
    """Return the schema in DSPy's note after a placeholder, or None if there is no note."""
    match = _NOTE.search(text)
    if not match:
        return None
    note = match.group(1).strip()
    if "must adhere to the JSON schema:" in note:
        return clean(first_object(note))
    if note.startswith("must be True or False"):
        return {"type": "boolean"}
    if single := re.match(r"must be a single (\w+) value", note):
        return from_annotation(single.group(1))
    exactly = r"must (?:be|exactly match \(no extra characters\)) one of: (.*)"
    if choices := re.match(exactly, note, re.DOTALL):
        return {"enum": _choices(choices.group(1)), "x-printed": True}
    return None


def _choices(printed: str) -> list[Any]:
    texts = [choice.strip() for choice in printed.split("; ")]
    # An enum of numbers is printed without its type; digits throughout mean numbers.
    are_numbers = all(re.fullmatch(r"-?\d+", text) for text in texts)
    return [int(text) for text in texts] if are_numbers else texts


LIMITS = {
    "greater than or equal to": "minimum",
    "less than or equal to": "maximum",
    "greater than": "exclusiveMinimum",
    "less than": "exclusiveMaximum",
    "a multiple of the given number": "multipleOf",
    "minimum length": "minLength",
    "maximum length": "maxLength",
    "at least": "minLength",
    "at most": "maxLength",
}
"""How DSPy and pydantic say what limits a value."""


def limits(line: str) -> Schema:
    """Return the limits in DSPy's `Constraints:` line.

    >>> limits("greater than or equal to: 0, less than or equal to: 5")
    {'minimum': 0, 'maximum': 5}
    """
    limits: Schema = {}
    for part in split_top(line):
        phrase, _, value = part.rpartition(":")
        keyword, number = LIMITS.get(phrase.strip()), literal(value.strip())
        if keyword and isinstance(number, int | float) and abs(number) < 1e15:
            limits[keyword] = number
    return limits


def from_baml(text: str) -> Schema:
    """Return the schema of a type in BAML's spelling (`string[]`, `"yes" or "no"`, `{ name: int, }`)."""
    lines = [line for line in text.splitlines() if not line.strip().startswith("#")]
    return {**_baml(" ".join(lines).strip()), "x-baml": True}


@lru_cache(maxsize=512)
def _baml(text: str) -> Schema:
    options = split_top(text, " or ")
    if text.endswith("[]") and all(re.match(r'"|-?\d|true|false', part) for part in options):
        return {"type": "array", "items": _baml(text[:-2])}  # a list of choices: `"a" or "b"[]`
    if len(options) > 1:
        constants = [part for part in options if part[:1] == '"' or re.fullmatch(r"-?\d+|true|false", part)]
        others = [_baml(part) for part in options if part not in constants]
        chosen: list[Schema] = [{"enum": [literal(part) for part in constants]}] if constants else []
        return any_of(chosen + others)
    if text.endswith("[]"):
        return {"type": "array", "items": _baml(text[:-2])}
    if text.startswith("[") and text.endswith("]"):
        return {"type": "array", "items": _baml(text[1:-1].strip())}
    if text.startswith("{") and text.endswith("}"):
        pairs = [part.partition(":") for part in split_top(text[1:-1])]
        properties = {name.strip(" \"'"): _baml(kind.strip()) for name, _, kind in pairs}
        return {"type": "object", "properties": properties}
    if text[:1] == '"' or re.fullmatch(r"-?\d+", text):
        return {"enum": [literal(text)]}
    if text.startswith("dict[") and text.endswith("]") and len(parts := split_top(text[5:-1])) == 2:
        return _mapping(_baml(parts[0]), _baml(parts[1]))
    return from_annotation(text)


_TAG = re.compile(r"<(/?)([\w.-]+)(?: key=\"[^\"]*\")?>")


def from_xml(template: str) -> Schema:
    """Return the shape of a nested XML template such as `<cites><item><title>...</title></item></cites>`."""
    stack: list[tuple[str, dict[str, Schema]]] = [("", {})]
    for tag in _TAG.finditer(template):
        if not tag.group(1):
            stack.append((tag.group(2), {}))
        elif len(stack) > 1:
            name, children = stack.pop()
            stack[-1][1][name] = _xml_node(children)
    return next(iter(stack[0][1].values()), {})


def _xml_node(children: dict[str, Schema]) -> Schema:
    if not children:
        return {"x-opaque": True}
    if list(children) == ["item"]:
        return {"type": "array", "items": children["item"]}
    return {"type": "object", "properties": children, "required": list(children)}


def is_only_named(schema: Schema) -> bool:
    """Say whether the prompt names a class, or several, and shows nothing of them."""
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    return all("x-class" in one and "type" not in one for one in options)


def fill_classes(schema: Schema, shape: Schema) -> Schema:
    """Put `shape`, read elsewhere, where `schema` only names a class."""
    if "x-class" in schema and "type" not in schema:
        return schema if "x-opaque" in shape else shape or schema
    if schema.get("type") == "array" and "items" in schema and "items" in shape:
        return {**schema, "items": fill_classes(schema["items"], shape["items"])}
    if "anyOf" in schema:
        return {"anyOf": [fill_classes(option, shape) for option in schema["anyOf"]]}
    return schema
