"""An OpenAPI 3 document read as operations: what each is called, what it takes, how its request looks.

Main path: operations(document, methods) -> those offered; operation.request(arguments) -> target and body.
Read are path and query parameters, JSON bodies, and references inside the document. An operation that needs
more is left out, by name. The document's `servers` are not used: where requests go is said by whoever builds
the adapter, not by a file.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import dspy
import jsonschema  # type: ignore[import-untyped]
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from course_lib.adapters.tools.limits import ToolRefused
from course_lib.errors import CourseError

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
"""Methods that operations can be offered for."""
_VERBS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_BODY = "body"
_JSON = "application/json"
_FORBIDDEN_IN_PATH = re.compile(r"[/\\%?#;\x00-\x1f\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_VALUE_CHARS = 500
_LONGEST_TEXT_CHARS = 300
_DEEPEST = 20
Lookup = Callable[[str], Any]
"""Finds what a reference within a document leads to."""


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
    is_required: bool
    text: str

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

    def request(self, arguments: Mapping[str, Any]) -> tuple[str, Any]:
        """Return the encoded target and the body for these arguments; each is checked against its schema.

        Raises:
            ToolRefused: a wrong argument, or one that would change the path.
        """
        path, query, body = self.path, list[tuple[str, str]](), None
        for parameter in self.parameters:
            if parameter.argument not in arguments:
                continue
            value = arguments[parameter.argument]
            _check(parameter, value)
            if parameter.place == "path":
                path = path.replace("{" + parameter.name + "}", _segment(parameter, value))
            elif parameter.place == "query":
                query += [(parameter.name, word) for word in _words(parameter, value)]
            else:
                body = value
        return f"{path}?{urlencode(query)}" if query else path, body


def _check(parameter: Parameter, value: Any) -> None:
    try:
        jsonschema.Draft202012Validator(parameter.schema).validate(value)
    except jsonschema.ValidationError as error:
        raise ToolRefused(f"{parameter.name}: {' '.join(error.message.split())[:200]}") from None


def _words(parameter: Parameter, value: Any) -> Iterator[str]:
    for one in value if isinstance(value, list) else [value]:
        word = json.dumps(one) if isinstance(one, bool) else str(one)
        if isinstance(one, dict | list) or len(word) > _LONGEST_VALUE_CHARS or _CONTROL.search(word):
            limit = f"of at most {_LONGEST_VALUE_CHARS} characters"
            raise ToolRefused(f"{parameter.name}: only plain values without control characters, {limit}")
        yield word


def _segment(parameter: Parameter, value: Any) -> str:
    (word,) = [*_words(parameter, value)] if not isinstance(value, list) else [""]
    if word in ("", ".", "..") or _FORBIDDEN_IN_PATH.search(word):
        raise ToolRefused(f"{parameter.name}: a value that would change the path is not allowed")
    return quote(word, safe="")


def load(spec: Mapping[str, Any] | Path) -> Mapping[str, Any]:
    """Return an OpenAPI 3 document given as such, or as the path of a JSON file.

    Raises:
        SpecError: it cannot be read, or is not OpenAPI 3.
    """
    try:
        document: Any = json.loads(spec.read_text("utf-8")) if isinstance(spec, Path) else spec
    except (OSError, ValueError) as error:
        raise SpecError(f"the OpenAPI document cannot be read ({error}); give JSON") from error
    if not isinstance(document, Mapping) or not str(document.get("openapi", "")).startswith("3."):
        raise SpecError("this is no OpenAPI 3 document: its key 'openapi' should begin with '3.'")
    return document


def operations(
    document: Mapping[str, Any], methods: Collection[str] = ("GET",)
) -> tuple[list[Operation], dict[str, str]]:
    """Return a document's operations with these methods, in its order; and the names of others, with reasons.

    The second of two operations with one name is named by its method and path.
    """
    lookup = Registry().resolver_with_root(DRAFT202012.create_resource(document)).lookup
    offered: dict[str, Operation] = {}
    left_out: dict[str, str] = {}
    for path, item in document.get("paths", {}).items():
        for verb in (verb for verb in _VERBS if verb in item):
            name = _name(item[verb].get("operationId") or f"{verb} {path}")
            try:
                if verb.upper() not in methods:
                    raise _NotOfferedError(f"its method {verb.upper()} is not allowed")
                if name in offered:
                    name, taken = f"{verb.upper()} {path}", name
                    raise _NotOfferedError(f"another operation is called {taken!r}")
                offered[name] = _operation(lookup, name, path, verb, item)
            except _NotOfferedError as reason:
                left_out[name] = str(reason)
    return [*offered.values()], left_out


def _operation(lookup: Lookup, name: str, path: str, verb: str, item: Mapping[str, Any]) -> Operation:
    raw = item[verb]
    by_key: dict[tuple[str, str], Parameter] = {}
    for entry in [*item.get("parameters", []), *raw.get("parameters", [])]:
        parameter = _parameter(_resolved(lookup, entry))
        if parameter:
            by_key[parameter.place, parameter.name] = parameter
    parameters = (*by_key.values(), *_body(lookup, raw.get("requestBody")))
    in_path = {parameter.name for parameter in parameters if parameter.place == "path"}
    if set(re.findall(r"\{([^{}]+)\}", path)) != in_path:
        raise _NotOfferedError(f"the path {path!r} and its path parameters {sorted(in_path)} differ")
    if len({parameter.argument for parameter in parameters}) < len(parameters):
        raise _NotOfferedError("two of its parameters share a name")
    text = one_line(f"{raw.get('summary', '')}. {raw.get('description', '')}".strip(". ")) or name
    return Operation(name, verb.upper(), path, text, parameters)


def _parameter(raw: Mapping[str, Any]) -> Parameter | None:
    place, is_required = raw.get("in"), bool(raw.get("required"))
    if place not in ("path", "query"):
        if is_required:
            raise _NotOfferedError(f"it requires a parameter in the {place}, which is not supported")
        return None
    schema = raw.get("schema", {"type": "string"})
    return Parameter(raw["name"], place, schema, is_required, one_line(raw.get("description", "")))


def _body(lookup: Lookup, node: Any) -> list[Parameter]:
    body = _resolved(lookup, node) or {}
    is_required = bool(body.get("required"))
    content = body.get("content", {})
    if _JSON in content:
        text = one_line(body.get("description", "The JSON body."))
        return [Parameter(_BODY, _BODY, content[_JSON].get("schema", {}), is_required, text)]
    if is_required:
        raise _NotOfferedError(f"it requires a body that is not {_JSON}")
    return []


def _resolved(lookup: Lookup, node: Any, depth: int = 0) -> Any:
    """Return a copy of a node with the references inside the document put in their place."""
    if depth > _DEEPEST:
        raise _NotOfferedError(f"its references go deeper than {_DEEPEST}, perhaps in a circle")
    if isinstance(node, list):
        return [_resolved(lookup, one, depth + 1) for one in node]
    if not isinstance(node, Mapping):
        return node
    if "$ref" in node:
        try:
            target = lookup(str(node["$ref"])).contents
        except (Unresolvable, TypeError) as error:
            raise _NotOfferedError(f"nowhere within the document is {node['$ref']!r}") from error
        return _resolved(lookup, target, depth + 1)
    return {key: _resolved(lookup, value, depth + 1) for key, value in node.items()}


def _name(text: str) -> str:
    """Return a tool's name: words in lower case joined by underscores (trackParcel -> track_parcel)."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:64]


def as_tool(operation: Operation, send: Callable[[str, str, Any], Awaitable[str]]) -> dspy.Tool:
    """Return an operation as a tool with its parameters' schemas; `send` takes method, target and body."""

    async def call(**arguments: Any) -> str:
        return await send(operation.method, *operation.request(arguments))

    args = {one.argument: _shown_schema(one) for one in operation.parameters}
    tool = dspy.Tool(call, name=operation.name, desc=operation.text, args=args, arg_types={})
    tool.has_kwargs = False  # it takes what the document says, and nothing else
    return tool


def _shown_schema(parameter: Parameter) -> dict[str, Any]:
    text = {"description": parameter.text} if parameter.text else {}
    default = {} if parameter.is_required else {"default": parameter.schema.get("default")}
    return {**parameter.schema, **text, **default}


def one_line(text: str) -> str:
    """Return a document's prose as one short line: it goes into every prompt, and others wrote it."""
    return " ".join(re.sub(r"[^\w\s.,:;()'/+-]", " ", str(text)).split())[:_LONGEST_TEXT_CHARS]
