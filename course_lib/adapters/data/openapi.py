"""An OpenAPI 3 document read as operations: what each is called, what it takes, how its request looks.

Main path: operations(document) -> list of Operation; operation.request(arguments) -> Call; as_tool().
Read are path and query parameters and JSON bodies, with references inside the document. The document's
`servers` are not used: where requests go is said by whoever builds the adapter, not by a file.
"""

from __future__ import annotations

import inspect
import json
import keyword
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import dspy
import jsonschema  # type: ignore[import-untyped]

from course_lib.adapters.tools.limits import ToolRefused
from course_lib.errors import CourseError

_METHODS = ("get", "head", "post", "put", "patch", "delete")
_FORBIDDEN_IN_PATH = re.compile(r"[/\\%?#;\x00-\x1f\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_VALUE_CHARS = 500
_LONGEST_TEXT_CHARS = 300
_DEEPEST = 20
_TYPES = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
BODY = "body"


class SpecError(CourseError):
    """An OpenAPI document that cannot be used, and where in it."""


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
class Call:
    """A request as an operation makes it."""

    method: str
    target: str
    """Path and query, encoded."""
    body: Any = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing an API can do."""

    name: str
    method: str
    path: str
    text: str
    parameters: tuple[Parameter, ...]

    def request(self, arguments: Mapping[str, Any]) -> Call:
        """Return the request for these arguments, each checked against its schema.

        Raises:
            ToolRefused: an unknown, missing or wrong argument, or one that would change the path.
        """
        known = {parameter.argument: parameter for parameter in self.parameters}
        if unknown := sorted(set(arguments) - set(known)):
            takes = ", ".join(known) or "no arguments"
            raise ToolRefused(f"{self.name} takes {takes}, not {unknown[0][:40]!r}")
        path, query, body = self.path, list[tuple[str, str]](), None
        for parameter in self.parameters:
            value = arguments.get(parameter.argument)
            if value is None:
                _refuse_missing(self, parameter)
                continue
            _check(parameter, value)
            if parameter.place == "path":
                path = path.replace("{" + parameter.name + "}", _segment(parameter, value))
            elif parameter.place == "query":
                query += [(parameter.name, word) for word in _words(parameter, value)]
            else:
                body = value
        return Call(self.method, f"{path}?{urlencode(query)}" if query else path, body)


def _refuse_missing(operation: Operation, parameter: Parameter) -> None:
    if parameter.is_required:
        meaning = parameter.text or parameter.place
        raise ToolRefused(f"{operation.name} needs {parameter.argument!r} ({meaning})")


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


def load(spec: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    """Return an OpenAPI 3 document given as such, as JSON text, or as the path of a JSON file.

    Raises:
        SpecError: it cannot be read, or is not OpenAPI 3.
    """
    document: Any = spec
    try:
        if isinstance(spec, Path):
            document = json.loads(spec.read_text("utf-8"))
        elif isinstance(spec, str):
            document = json.loads(spec)
    except (OSError, ValueError) as error:
        raise SpecError(f"the OpenAPI document cannot be read ({error}); give JSON") from error
    if not isinstance(document, Mapping) or not str(document.get("openapi", "")).startswith("3."):
        raise SpecError("this is no OpenAPI 3 document: its key 'openapi' should begin with '3.'")
    return document


def operations(document: Mapping[str, Any]) -> list[Operation]:
    """Return the operations of a document, in its order.

    Raises:
        SpecError: a reference leads nowhere or outside, two operations share a name, a required
            parameter stands where it is not supported (header, cookie), a path lacks its parameter.
    """
    result: list[Operation] = []
    for path, item in document.get("paths", {}).items():
        for method in _METHODS:
            if method in item:
                shared = item.get("parameters", [])
                result.append(_operation(document, path, method, item[method], shared))
    names = [operation.name for operation in result]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SpecError(f"two operations are called {twice[0]!r}; give each its own operationId")
    return result


def _operation(
    document: Mapping[str, Any], path: str, method: str, raw: Mapping[str, Any], shared: list[Any]
) -> Operation:
    name = _name(raw.get("operationId") or f"{method} {path}")
    by_key: dict[tuple[str, str], Parameter] = {}
    for entry in [*shared, *raw.get("parameters", [])]:
        parameter = _parameter(document, name, _resolved(document, entry))
        if parameter:
            by_key[parameter.place, parameter.name] = parameter
    parameters = [*by_key.values(), *_body(document, raw)]
    in_path = {parameter.name for parameter in parameters if parameter.place == "path"}
    if set(re.findall(r"\{([^{}]+)\}", path)) != in_path:
        raise SpecError(f"{name}: the path {path!r} and its path parameters {sorted(in_path)} differ")
    if len({parameter.argument for parameter in parameters}) < len(parameters):
        raise SpecError(f"{name}: two parameters share a name")
    text = one_line(f"{raw.get('summary', '')}. {raw.get('description', '')}".strip(". ")) or name
    return Operation(name, method.upper(), path, text, tuple(parameters))


def _parameter(document: Mapping[str, Any], name: str, raw: Mapping[str, Any]) -> Parameter | None:
    place, is_required = raw.get("in"), bool(raw.get("required"))
    if place not in ("path", "query"):
        if is_required:
            raise SpecError(f"{name}: a required parameter in the {place} is not supported")
        return None
    schema = _resolved(document, raw.get("schema", {"type": "string"}))
    return Parameter(raw["name"], place, schema, is_required, one_line(raw.get("description", "")))


def _body(document: Mapping[str, Any], raw: Mapping[str, Any]) -> list[Parameter]:
    if "requestBody" not in raw:
        return []
    body = _resolved(document, raw["requestBody"])
    content = body.get("content", {}).get("application/json")
    if content is None:
        return []
    text, schema = one_line(body.get("description", "the JSON body")), content.get("schema", {})
    return [Parameter(BODY, "body", _resolved(document, schema), bool(body.get("required")), text)]


def _resolved(document: Mapping[str, Any], node: Any, depth: int = 0) -> Any:
    """Return a copy of a node with the references inside the document put in their place."""
    if depth > _DEEPEST:
        raise SpecError(f"references in the document go deeper than {_DEEPEST}, perhaps in a circle")
    if isinstance(node, list):
        return [_resolved(document, one, depth + 1) for one in node]
    if not isinstance(node, Mapping):
        return node
    if "$ref" in node:
        return _resolved(document, _target(document, node["$ref"]), depth + 1)
    return {key: _resolved(document, value, depth + 1) for key, value in node.items()}


def _target(document: Mapping[str, Any], reference: Any) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#/"):
        raise SpecError(f"the reference {reference!r} leads out of the document; only '#/...' is followed")
    node: Any = document
    for part in reference[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, Mapping) or key not in node:
            raise SpecError(f"the reference {reference!r} leads nowhere")
        node = node[key]
    return node


def _name(text: str) -> str:
    """Return a tool's name: words in lower case joined by underscores (trackParcel -> track_parcel)."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:64]


def as_tool(operation: Operation, send: Callable[[Call], Awaitable[str]]) -> dspy.Tool:
    """Return an operation as a tool with its parameters' schemas; `send` does what it asks for."""

    async def call(**arguments: Any) -> str:
        given = {name: one for name, one in arguments.items() if one is not None}
        return await send(operation.request(given))

    signature = [_python_parameter(parameter) for parameter in operation.parameters]
    signature.sort(key=lambda one: one.default is not inspect.Parameter.empty)
    call.__signature__ = inspect.Signature(signature, return_annotation=str)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in signature}
    args = {one.argument: _shown_schema(one) for one in operation.parameters}
    return dspy.Tool(call, name=operation.name, desc=operation.text, args=args)


def _python_parameter(parameter: Parameter) -> inspect.Parameter:
    kind = parameter.schema.get("type")
    plain: Any = _TYPES.get(kind, Any) if isinstance(kind, str) else Any
    return inspect.Parameter(
        parameter.argument,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=plain if parameter.is_required else plain | None,
        default=inspect.Parameter.empty if parameter.is_required else None,
    )


def _shown_schema(parameter: Parameter) -> dict[str, Any]:
    text = {"description": parameter.text} if parameter.text else {}
    default = {} if parameter.is_required else {"default": parameter.schema.get("default")}
    return {**parameter.schema, **text, **default}


def one_line(text: str) -> str:
    """Return a document's prose as one short line: it goes into every prompt, and others wrote it."""
    return " ".join(re.sub(r"[^\w\s.,:;()'/+-]", " ", str(text)).split())[:_LONGEST_TEXT_CHARS]
