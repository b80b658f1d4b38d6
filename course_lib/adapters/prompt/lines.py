"""An adapter of our own: one labelled line per field, as people write forms.

Main path: dspy.configure(adapter=CustomAdapter()); a reply is `name: value` lines, read by parse().
Source: dspy.Adapter (dspy/adapters/base.py) and dspy/adapters/utils.py, DSPy 3.4.1. It does not derive from
ChatAdapter, which adds a second request in JSON that nobody asked for, a reminder full of `[[ ## name ## ]]`,
and callbacks that fire twice. Demos, history, native tool calls and async are dspy.Adapter's.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import enum
import json
import re
import textwrap
from bisect import bisect
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any, Literal, get_args, get_origin

import dspy
import pydantic
from dspy.adapters.types.reasoning import Reasoning
from dspy.adapters.utils import (
    annotation_allows_none,
    apply_output_field_defaults,
    format_field_value,
    parse_value,
)
from dspy.utils.exceptions import AdapterParseError

_RULE = (
    "All interactions will be structured in the following way: each field on a line of its own, as "
    "`name: value`; further lines of a text indented by two spaces; lists and objects as JSON on one line."
)
_INDENT = "  "
_BREAK = r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]"
"""What ends a line for one reader or another."""
_FENCE = re.compile(r"^(?:```|~~~)", re.MULTILINE)
_TAG = r"(?:think(?:ing)?|thought|reasoning)"
_THOUGHT = re.compile(
    rf"(?:\A\s*|^)[<\[]({_TAG})[>\]](?:(?!^[<\[]{_TAG}).)*?[<\[]/\1[>\]]"
    rf"|\A\s*[<\[]{_TAG}[>\]].*"  # cut off before its end, so no answer follows
    rf"|\A(?:(?!^[<\[]{_TAG}).)*?^[<\[]/{_TAG}[>\]]",  # opened in the prompt, by the model's template
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_PLAIN = (str, int, float, bool, Reasoning)
_MOST_REPAIRED = 400  # brackets in a value that is no JSON: the time to repair it grows with their square
_SHOWN_AS_SCHEMA = {"$defs", "$ref", "properties", "enum"}


class CustomAdapter(dspy.Adapter):
    r"""Labelled lines: `category: shipping`, further lines of a value indented, containers as JSON.

    Works with every field type that JSON can hold, demos, `dspy.History`, custom types, native tool calls,
    async and streams of raw chunks. DSPy's field listeners serve three adapters by the name of their class
    and refuse this one. Any text is read as it was written: one with blanks at its ends stands in JSON's
    quotes. Thoughts in `<think>`, and what stands around a fence, are left out. A model that goes on talking
    below the last field adds to it if it is a text; for any other type the talk is left out.

    Raises `AdapterParseError`, and nothing else, for a reply that cannot be read; makes no second request.

    >>> signature = dspy.Signature("q -> answer, sure: bool")
    >>> CustomAdapter().parse(signature, "answer: Yes,\n  it floats.\nsure: True")
    {'answer': 'Yes,\nit floats.', 'sure': True}
    """

    format_field_description = dspy.ChatAdapter.format_field_description  # the fields with their types

    def format_field_structure(self, signature: Any) -> str:
        """Say the rule of the format, and show the schema of each field that is written as JSON."""
        return "\n".join([_RULE, *_schema_lines(signature)])

    def format_task_description(self, signature: Any) -> str:
        """Say what to do."""
        return f"In adhering to this structure, your objective is: {textwrap.dedent(signature.instructions)}"

    def format_user_message_content(
        self, signature: Any, inputs: Any, prefix: str = "", suffix: str = "", main_request: bool = False
    ) -> str:
        """Write the inputs as labelled lines; the request itself ends with a reminder of the format."""
        lines = [
            _line(name, format_field_value(field, inputs[name]))
            for name, field in signature.input_fields.items()
            if name in inputs
        ]
        parts = [prefix, "\n".join(lines), _reminder(signature) if main_request else "", suffix]
        return "\n\n".join(part for part in parts if part)

    def format_assistant_message_content(
        self, signature: Any, outputs: Any, missing_field_message: str | None = None
    ) -> str:
        """Write the outputs just as `parse` reads them; None in a field that may be None is left out."""
        lines = []
        for name, field in signature.output_fields.items():
            value = outputs.get(name, missing_field_message)
            if value is not None or not annotation_allows_none(field.annotation):
                lines.append(_line(name, _as_text(field, value) if name in outputs else str(value)))
        return "\n".join(lines)

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        """Read the labelled lines of a reply.

        Raises:
            AdapterParseError: a field is missing, or its text is not of the field's type.
        """
        texts = _sections(completion, tuple(signature.output_fields))
        values: dict[str, Any] = {}
        failed = partial(AdapterParseError, type(self).__name__, signature, completion)
        for field, text in texts.items():
            try:
                values[field] = _read(text, signature.output_fields[field].annotation)
            except Exception as error:  # border: a type's own validator may raise anything
                raise failed(f"{field}: {_reason(error)}", values) from error
        values = apply_output_field_defaults(signature, values)
        if missing := [field for field in signature.output_fields if field not in values]:
            raise failed(f"no line for {', '.join(missing)}", values)
        return values


def _line(name: str, text: str) -> str:
    """Write a field; after whatever may end a line the text goes on indented, so that it is no label."""
    return f"{name}: " + re.sub(rf"({_BREAK})(?!{_BREAK}|\Z)", rf"\1{_INDENT}", text)


def _as_text(field: Any, value: Any) -> str:
    """Write an output; a text that would not come back as it stands is quoted as JSON."""
    plain = value.value if isinstance(value, enum.Enum) else value
    if isinstance(plain, bool | float) and field.annotation not in (bool, float):
        return json.dumps(plain)  # in a union `True` would be a text
    text: str = format_field_value(field, value)
    is_json = not _is_text(field.annotation) and _json(text) != text
    is_quoted = isinstance(plain, str | Reasoning) and (is_json or _needs_quotes(text))
    return json.dumps(text, ensure_ascii=False) if is_quoted else text


def _is_text(annotation: Any) -> bool:
    """Whether any text is a value of this type as it stands."""
    return annotation in (str, Reasoning) or set(get_args(annotation)) == {str, type(None)}


def _needs_quotes(text: str) -> bool:
    """Whether a text has blanks at its ends, or is the quoted form of one that has."""
    return text != text.strip() or (_unquoted(text) != text)


def _unquoted(text: str) -> str:
    """Return what a quoted text holds, if it had to be quoted; other quotes are the text's own."""
    inner = _json(text) if text.startswith('"') else text
    return inner if isinstance(inner, str) and inner != text and _needs_quotes(inner) else text


def _reminder(signature: Any) -> str:
    names = ", then ".join(f"`{name}`" for name in signature.output_fields)
    rule = "Respond with the corresponding output fields, each on its line as `name: value`"
    return f"{rule}: {names}." if names else ""


def _schema_lines(signature: Any) -> Iterator[str]:
    """Yield a line for each output whose type the field list cannot show whole."""
    for name, field in signature.output_fields.items():
        if field.annotation not in _PLAIN and (schema := _schema(field.annotation)):
            yield f"`{name}` must be JSON of this JSON schema: {schema}"


def _schema(annotation: Any) -> str:
    """Return the JSON schema of a type, or an empty text if the field list shows all of it."""
    if get_origin(annotation) is Literal:
        return ""
    described = json.dumps(_reader(annotation)[0].json_schema())
    schema = json.loads(described, object_hook=_untitled)
    is_shown = get_origin(annotation) is tuple or not schema.keys().isdisjoint(_SHOWN_AS_SCHEMA)
    return json.dumps(schema, ensure_ascii=False) if is_shown else ""


def _untitled(part: dict[str, Any]) -> dict[str, Any]:
    """Drop the title that pydantic makes of the name that stands beside it."""
    return {key: value for key, value in part.items() if key != "title" or not isinstance(value, str)}


@lru_cache(maxsize=256)
def _labels(names: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return what finds a label at a line's start, and which field each spelling means."""
    spelled = {variant: name for name in names for variant in (name.upper(), name.capitalize())}
    spelled |= {name: name for name in names}
    listed = "|".join(re.escape(word) for word in sorted(spelled, key=len, reverse=True))
    # possessive (++, *+), so that a long run of marks is not divided between the first two in every way
    return re.compile(rf"^(?:[-*#>]++[ \t]*+)?[*`]*+({listed})[*`]*[ \t]*:[*`]*[ \t]*", re.MULTILINE), spelled


def _sections(completion: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return the text of each labelled field; the first label of a name counts, indented ones never do."""
    if not names:
        return {}
    completion = _THOUGHT.sub("", completion)
    pattern, spelled = _labels(names)
    labels = list(pattern.finditer(completion))
    texts: dict[str, str] = {}
    ends = [*(label.start() for label in labels[1:]), len(completion)]
    fences = [fence.start() for fence in _FENCE.finditer(completion)]
    for label, end in zip(labels, ends, strict=False):
        opened = bisect(fences, label.start())
        is_fenced = opened % 2 == 1 and opened < len(fences)
        text = completion[label.end() : min(end, fences[opened]) if is_fenced else end].strip()
        texts.setdefault(spelled[label.group(1)], re.sub(f"({_BREAK}){_INDENT}", r"\1", text))
    return texts


def _json(text: str, number: type[float | Decimal] = float) -> Any:
    """Return the value of a text that is JSON, and any other text as it is."""
    try:
        return json.loads(text, parse_float=number)
    except (ValueError, RecursionError):
        return text


def _read(text: str, annotation: Any) -> Any:
    """Return `text` as a value of the type; of what is not text, the first paragraph may do."""
    if _is_text(annotation):
        return _reader(annotation)[0].validate_python(_unquoted(text))
    head = text.partition("\n\n")[0].rstrip()
    try:
        return _typed(text, annotation)
    except Exception:  # border: a type's own validator may raise anything
        if head == text:
            raise
    return _typed(head, annotation)


def _reader(annotation: Any) -> tuple[pydantic.TypeAdapter[Any], type[float | Decimal]]:
    """Return what reads a type, and as what its numbers are read; a type that can be a key is kept."""
    try:
        hash(annotation)
    except TypeError:  # annotated with a list, say
        return _new_reader(annotation)
    return _kept_reader(annotation, repr(annotation))  # int | float equals float | int, and reads otherwise


def _new_reader(annotation: Any) -> tuple[pydantic.TypeAdapter[Any], type[float | Decimal]]:
    adapter = pydantic.TypeAdapter(annotation)
    return adapter, Decimal if "'decimal'" in str(adapter.core_schema) else float  # a float would round


@lru_cache(maxsize=256)
def _kept_reader(annotation: Any, _written: str) -> tuple[pydantic.TypeAdapter[Any], type[float | Decimal]]:
    return _new_reader(annotation)


def _typed(text: str, annotation: Any) -> Any:
    """Read as JSON, else as the text that the type itself understands, else as DSPy repairs it."""
    adapter, number = _reader(annotation)
    for candidate in (_json(text, number), text):
        with suppress(pydantic.ValidationError):
            return adapter.validate_python(candidate)
    if text.count("{") + text.count("[") > _MOST_REPAIRED:
        raise ValueError(f"it is not JSON of this type, and has over {_MOST_REPAIRED} brackets to repair")
    return parse_value(text, annotation)


def _reason(error: Exception) -> str:
    """Return in one line what was wrong: what a reader, or the model, can act upon."""
    if not isinstance(error, pydantic.ValidationError):
        return str(error).split("\n", 1)[0] or type(error).__name__
    first = error.errors(include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"])
    return f"{f'{place}: ' if place else ''}{first['msg']}, got {first['input']!r:.80}"
