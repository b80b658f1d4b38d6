"""An OpenAPI 3 document read as operations: what each is called, what it takes, how its request looks.

Main path: operations(document, methods) -> those offered; operation.request(arguments) -> target and body.
Read are path and query parameters, JSON bodies, and references inside the document. An operation that needs
more is left out, by name. Left to the API to check are a pattern that Python cannot run in a short time, and
`uniqueItems` and a `multipleOf` with fractions, which take long or are inexact. The document's `servers` are
not used: where requests go is said by whoever builds the adapter, not by a file.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import dspy
import jsonschema  # type: ignore[import-untyped]
from jsonschema.exceptions import best_match  # type: ignore[import-untyped]
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from course_lib.adapters.tools.limits import ToolRefused
from course_lib.errors import CourseError

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
"""Methods that operations can be offered for."""
_VERBS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_BODY = "body"
_JSON = re.compile(r"(application|text)/([\w.-]+\+)?json( *;[ -~]*)?", re.ASCII | re.IGNORECASE)
_SEPARATORS = {"form": ",", "simple": ",", "spaceDelimited": "%20", "pipeDelimited": "%7C"}
"""Between the values of a list, by the parameter's style."""
_FORBIDDEN_IN_PATH = re.compile(r"[/\\%?#;\x00-\x1f\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_VALUE_CHARS = 500
_LONGEST_TEXT_CHARS = 300
_MOST_NODES = 5_000
_BELOW = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Keywords of a schema whose value is schemas by name."""
_DATA = frozenset({"const", "enum", "default", "example", "examples"})  # data, whatever its keys are
_NOT_WRITTEN = "it is not written as OpenAPI 3 says"
_TOO_LARGE = "its schema is too large, or refers to itself"


class SpecError(CourseError):
    """An OpenAPI document that cannot be used."""


class _NotOfferedError(CourseError):
    """An operation that cannot be offered as a tool, and why."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of an operation."""

    name: str
    place: str
    """path, query or body."""
    schema: Mapping[str, Any]
    """With a description, and with a default exactly if the argument may be left out."""
    separator: str | None = None
    """Between the values of a list; None for a pair of name and value each."""

    @property
    def argument(self) -> str:
        """The name as a Python argument (order-id -> order_id, from -> from_)."""
        word = re.sub(r"\W", "_", self.name)
        return f"{word}_" if keyword.iskeyword(word) or word[:1].isdigit() else word


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing an API can do."""

    name: str
    method: str
    path: str
    text: str
    parameters: tuple[Parameter, ...]
    body_kind: str
    """Media type of the body."""

    def request(self, arguments: Mapping[str, Any]) -> tuple[str, Any]:
        """Return the encoded target and the body for these arguments; each is checked against its schema.

        Raises:
            ToolRefused: a wrong argument, or one that would change the path.
        """
        path, query, body = self.path, list[str](), None
        for parameter in (one for one in self.parameters if one.argument in arguments):
            value = arguments[parameter.argument]
            if error := best_match(jsonschema.Draft202012Validator(parameter.schema).iter_errors(value)):
                raise ToolRefused(f"{parameter.name}: {' '.join(error.message.split())[:200]}")
            if parameter.place == "path":
                path = path.replace("{" + parameter.name + "}", ",".join(_words(parameter, value)))
            elif parameter.place == "query":
                words, name = _words(parameter, value), quote_plus(parameter.name)
                joined = words if parameter.separator is None else [parameter.separator.join(words)]
                query += [f"{name}={word}" for word in joined if words]
            else:
                body = value
        return f"{path}?{'&'.join(query)}" if query else path, body


def _words(parameter: Parameter, value: Any) -> list[str]:
    """Return a value, or each one of a list, encoded; in a path it is nothing that would change the path."""
    is_path, words = parameter.place == "path", list[str]()
    values = [one for one in (value if isinstance(value, list) else [value]) if one is not None]
    for one in values or ([""] if is_path else []):
        is_whole = isinstance(one, float) and one.is_integer()  # 5.0 is an integer to JSON Schema
        word = json.dumps(one) if isinstance(one, bool) else str(int(one) if is_whole else one)
        if isinstance(one, dict | list) or len(word) > _LONGEST_VALUE_CHARS or _CONTROL.search(word):
            limit = f"of at most {_LONGEST_VALUE_CHARS} characters"
            raise ToolRefused(f"{parameter.name}: only plain values without control characters, {limit}")
        if is_path and (word in ("", ".", "..") or _FORBIDDEN_IN_PATH.search(word)):
            raise ToolRefused(f"{parameter.name}: a value that would change the path is not allowed")
        words.append(quote(word, safe="") if is_path else quote_plus(word))
    return words


def load(spec: Mapping[str, Any] | Path) -> Mapping[str, Any]:
    """Return an OpenAPI 3 document given as such, or as the path of a JSON file.

    Raises:
        SpecError: it cannot be read, or is not OpenAPI 3.
    """
    try:
        document: Any = json.loads(spec.read_text("utf-8")) if isinstance(spec, Path) else spec
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError(f"the OpenAPI document cannot be read ({error}); give JSON") from error
    if not isinstance(document, Mapping) or not str(document.get("openapi", "")).startswith("3."):
        raise SpecError("this is no OpenAPI 3 document: its key 'openapi' should begin with '3.'")
    if not isinstance(paths := document.get("paths", {}), Mapping):
        raise SpecError(f"the document's 'paths' are {paths!r:.60}; they should be an object of paths")
    return document


def operations(
    document: Mapping[str, Any], methods: Collection[str] = ("GET",)
) -> tuple[list[Operation], dict[str, str]]:
    """Return a document's operations with these methods, in its order; and the names of others, with reasons.

    The second of two operations with one name is named by its method and path.
    """
    offered: dict[str, Operation] = {}
    left_out: dict[str, str] = {}
    references = _References(document)
    for path, item in document.get("paths", {}).items():
        if not isinstance(item, Mapping) or "$ref" in item:
            is_reference = isinstance(item, Mapping)
            left_out[path] = "a path that is a reference is not read" if is_reference else _NOT_WRITTEN
        for verb in (verb for verb in _VERBS if isinstance(item, Mapping) and verb in item):
            name = f"{verb.upper()} {path}"
            try:
                called = _name(item[verb].get("operationId", "")) or _name(name)
                if called in offered:
                    raise _NotOfferedError(f"another operation is called {called!r}")
                name = called
                if verb.upper() not in methods:
                    raise _NotOfferedError(f"its method {verb.upper()} is not allowed")
                offered[name] = _operation(references, name, path, verb, item)
            except _NotOfferedError as reason:
                left_out[name] = str(reason)
            except RecursionError:
                left_out[name] = _TOO_LARGE
            except (LookupError, TypeError, ValueError, AttributeError):
                left_out[name] = _NOT_WRITTEN
    return [*offered.values()], left_out


def _operation(references: _References, name: str, path: str, verb: str, item: Any) -> Operation:
    raw, references.nodes_left = item[verb], _MOST_NODES
    entries = map(references.target, [*item.get("parameters", []), *raw.get("parameters", [])])
    by_key = {(entry["in"], entry["name"]): _parameter(references, entry) for entry in entries}
    without = [key for (place, key), one in by_key.items() if place == "query" and not one]
    kind, by_key["", _BODY] = _body(references, raw.get("requestBody"))
    without += [f"its body of {kind}"] if kind and not by_key["", _BODY] else []
    parameters = tuple(parameter for parameter in by_key.values() if parameter)
    in_path = {parameter.name for parameter in parameters if parameter.place == "path"}
    if set(re.findall(r"\{([^{}]+)\}", path)) != in_path:
        raise _NotOfferedError(f"the path {path!r} and its path parameters {sorted(in_path)} differ")
    if len({parameter.argument for parameter in parameters}) < len(parameters):
        raise _NotOfferedError("two of its parameters share a name")
    text = one_line(f"{raw.get('summary', '')}. {raw.get('description', '')}".strip(". ")) or name
    text += " " + one_line(f"(without {', '.join(without)})") if without else ""
    return Operation(name, verb.upper(), path, text, parameters, kind)


def _parameter(references: _References, raw: Mapping[str, Any]) -> Parameter | None:
    place, name, is_required = raw["in"], raw["name"], bool(raw.get("required")) or raw["in"] == "path"
    style = raw.get("style", "form" if place == "query" else "simple")
    schema = references.schema(raw.get("schema", {"type": "string"}))
    is_plain = place in ("path", "query") and "content" not in raw and schema.get("type") != "object"
    if not is_plain or style not in _SEPARATORS:
        if is_required:
            raise _NotOfferedError(f"it requires {name!r} in the {place}, in a form that is not supported")
        return None
    separator = None if raw.get("explode", style == "form") else _SEPARATORS[style]
    return Parameter(name, place, _shown(schema, raw, is_required=is_required), separator)


def _body(references: _References, node: Any) -> tuple[str, Parameter | None]:
    """Return the media type of an operation's body, and the argument for it if it is JSON."""
    body = references.target(node) or {}
    content = body.get("content", {})
    for kind in filter(_JSON.fullmatch, content):
        schema = references.schema(content[kind].get("schema", {}))
        return kind, Parameter(_BODY, _BODY, _shown(schema, body, is_required=bool(body.get("required"))))
    if body.get("required"):
        raise _NotOfferedError(f"it requires a body that is not JSON but {', '.join(content) or 'unnamed'}")
    return ", ".join(content), None


class _References:
    """The references of a document, which one operation may follow up to a number of nodes."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._lookup = Registry().resolver_with_root(DRAFT202012.create_resource(document)).lookup
        self.nodes_left = 0

    def target(self, node: Any) -> Any:
        """Return a node, or what it refers to."""
        self.nodes_left -= 1
        if self.nodes_left < 0:
            raise _NotOfferedError(_TOO_LARGE)
        if not (isinstance(node, Mapping) and isinstance(node.get("$ref"), str)):
            return node
        try:
            found = self._lookup(node["$ref"]).contents
        except (Unresolvable, TypeError) as error:
            raise _NotOfferedError(f"nowhere within the document is {node['$ref']!r}") from error
        return self.target(found)

    def schema(self, node: Any) -> dict[str, Any]:
        """Return a schema as JSON Schema 2020-12, with what it refers to in place of references."""
        try:
            schema = self._resolved(node)
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise _NotOfferedError(f"its schema is no JSON Schema: {one_line(error.message)}") from error
        return schema if isinstance(schema, dict) else {}

    def _resolved(self, node: Any) -> Any:
        node = self.target(node)
        if isinstance(node, list):
            return [self._resolved(one) for one in node]
        if isinstance(node, Mapping):
            return _modern({key: self._value(key, value) for key, value in node.items()})
        return node

    def _value(self, key: str, value: Any) -> Any:
        """Return the value of a keyword: data as it is, the schemas in any other resolved."""
        if key in _DATA:
            self.nodes_left -= len(str(value)) // 10
            return value
        if key in _BELOW and isinstance(value, Mapping):
            return {name: self._resolved(schema) for name, schema in value.items()}
        return self._resolved(value)


def _modern(schema: dict[str, Any]) -> dict[str, Any]:
    """Say in JSON Schema 2020-12 what OpenAPI 3.0 says otherwise, without a pattern that cannot be run."""
    for bound, strict in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(schema.get(strict), bool) and schema.pop(strict) and bound in schema:
            schema[strict] = schema.pop(bound)
    if schema.get("nullable") is True and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        schema |= {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    if isinstance(schema.get("pattern"), str) and not _is_runnable(schema["pattern"]):
        del schema["pattern"]
    if isinstance(schema.get("multipleOf"), float) and not schema["multipleOf"].is_integer():
        del schema["multipleOf"]
    return {key: value for key, value in schema.items() if key not in ("patternProperties", "uniqueItems")}


def _is_runnable(pattern: str) -> bool:
    """Tell whether Python can run a pattern, in a time that grows with the text alone.

    Such has no repeated group, few choices, and at most one repetition, from the start of the text on.
    """
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", pattern).replace("(?:", "(")
    repetitions, choices = re.findall(r"[*+]|\{\d*,", plain), re.findall(r"[|?]", plain)
    is_anchored = plain.startswith("^") and "|" not in plain
    return not re.search(r"\)[*+{]", plain) and len(choices) <= 6 and len(repetitions) <= is_anchored


def _name(text: str) -> str:
    """Return a tool's name: words in lower case joined by underscores (trackParcel -> track_parcel)."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:64]


def as_tool(operation: Operation, send: Callable[[str, str, Any, str], Awaitable[str]]) -> dspy.Tool:
    """Return an operation as a tool; `send` takes method, target, body and the body's media type."""

    async def call(**arguments: Any) -> str:
        return await send(operation.method, *operation.request(arguments), operation.body_kind)

    args = {one.argument: dict(one.schema) for one in operation.parameters}
    tool = dspy.Tool(call, name=operation.name, desc=operation.text, args=args, arg_types={})
    tool.has_kwargs = False  # it takes what the document says, and nothing else
    return tool


def _shown(schema: Mapping[str, Any], raw: Mapping[str, Any], *, is_required: bool) -> dict[str, Any]:
    default = {} if is_required else {"default": schema.get("default")}
    text = one_line(raw.get("description", ""))
    return {**schema, **({"description": text} if text else {}), **default}


def one_line(text: str) -> str:
    """Return a document's prose as one short line: it goes into every prompt, and others wrote it."""
    return " ".join(re.sub(r"[^\w\s.,:;()'/+-]", " ", str(text)).split())[:_LONGEST_TEXT_CHARS]
