"""Writes field values in the format a prompt asks for; sim-small at times only nearly so.

Main path: write(spec, values) -> text, or write_with_errors(task, values, rng), of which ERROR_SHARE are not
clean, always the same ones. Values are JSON values; how they are spelled is decided here.
Source: the parsers of DSPy's adapters (dspy/adapters/*_adapter.py, utils.parse_value, DSPy 3.4.1).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from course_lib.lm.simulator.prompts.schema import literal
from course_lib.lm.simulator.prompts.task import Field, Layout, Spec, Task

Values = Mapping[str, Any]

_NOT_XML = re.compile(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]")


def write(spec: Spec, values: Values) -> str:
    """Return the reply text for `values`, one for each output field of `spec`."""
    safe = {field.name: _unlike_json(field, values[field.name]) for field in spec.outputs}
    text = _WRITERS[spec.layout.kind](spec, safe)
    return f"```{'json' if spec.layout.kind == 'json' else ''}\n{text}\n```" if spec.layout.fenced else text


def bare(spec: Spec, text: str) -> str:
    """Return an answer that no field asks for: as it is, or in an object where JSON is asked for."""
    return json.dumps({"answer": text}, ensure_ascii=False) if spec.layout.kind == "json" else text


def plain(value: Any) -> str:
    """Return a value as text: as is, `True`, `3`, or JSON for lists and records.

    >>> plain(["a", 1]), plain(True)
    ('["a", 1]', 'True')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def is_nullable_text(field: Field) -> bool:
    """Say whether the field is `str | None`, whose reader takes the word null for a text."""
    options = field.schema.get("anyOf", ())
    has_text = any(option.get("type") == "string" and "format" not in option for option in options)
    return has_text and any(option.get("type") == "null" for option in options)


def _unlike_json(field: Field, value: Any) -> Any:
    """Keep a text in a union such as `int | str` from being read as JSON, which its reader tries first."""
    options = field.schema.get("anyOf")
    if not options or not isinstance(value, str) or is_nullable_text(field):
        return value
    # A label must stay as it is; only the types around it are read as JSON.
    if not any(option.get("type") == "string" and "enum" not in option for option in options):
        return value
    text = re.sub(r"[\[\]{}\"]", "", value).strip()
    if text == "null":  # the reader would take the word for no value at all
        return "null."
    return text if isinstance(literal(text), str) else re.sub(r"['(),]", " ", text).strip()


def _markers(spec: Spec, values: Values) -> str:
    # DSPy fills a missing nullable field with None, the only way to say None where a text may stand.
    parts = [
        f"[[ ## {field.name} ## ]]\n{_unmarked(plain(values[field.name]))}"
        for field in spec.outputs
        if values[field.name] is not None or not is_nullable_text(field)
    ]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def _unmarked(text: str) -> str:
    """Keep a quoted header from ending the field."""
    if "[[ ## " not in text:
        return text
    return re.sub(r"^(\s*)\[\[ ## (\w+) ## \]\]", r"\1(\2)", text, flags=re.MULTILINE)


def _element(field: Field, value: Any) -> str:
    # XMLAdapter shows sets and tuples as a JSON schema, other containers as nested tags.
    as_json = {"uniqueItems", "prefixItems"} & field.schema.keys() or field.type_name.startswith("tuple")
    if isinstance(value, list | dict) and not as_json:
        return _nested(value, field.name)
    text = "" if value is None else escape(_NOT_XML.sub("", plain(value)))
    return f"<{field.name}>\n{text}\n</{field.name}>"


def _nested(value: Any, tag: str, key: str | None = None) -> str:
    attribute = "" if key is None else f" key={quoteattr(_NOT_XML.sub('', key))}"
    if value is None or value == []:
        return f"<{tag}{attribute} />"
    if isinstance(value, list):
        inside = "".join(_nested(item, "item") for item in value)
    elif isinstance(value, dict):
        is_tag = re.compile(r"[A-Za-z_][\w.-]*").fullmatch
        inside = "".join(
            _nested(child, str(name)) if is_tag(str(name)) else _nested(child, "entry", str(name))
            for name, child in value.items()
        )
    else:
        inside = escape(_NOT_XML.sub("", str(value)))
    return f"<{tag}{attribute}>{inside}</{tag}>"


def label(layout: Layout, name: str) -> str:
    """Return a field's name as a labelled layout writes it, with what stands around it."""
    capitalised, spaced = name[:1].upper() + name[1:], name.replace("_", " ").capitalize()
    spelled = {"name": name, "Name": capitalised, "NAME": name.upper(), "Na me": spaced}
    return f"{layout.before}{spelled[layout.case]}{layout.after}"


def _labelled(spec: Spec, values: Values) -> str:
    texts = {name: "null" if value is None else plain(value) for name, value in values.items()}
    lines = {name: re.sub(r"\s*\n\s*", " ", text) for name, text in texts.items()}
    return spec.layout.between.join(label(spec.layout, name) + lines[name] for name in lines)


def _template(spec: Spec, values: Values) -> str:
    text = spec.layout.template
    for field in spec.outputs:
        text = text.replace(f"{{{field.name}}}", plain(values[field.name]))
    return text


_WRITERS: dict[str, Callable[[Spec, Values], str]] = {
    "markers": _markers,
    "json": lambda _, values: json.dumps(values, ensure_ascii=False),
    "xml": lambda spec, values: "\n\n".join(_element(one, values[one.name]) for one in spec.outputs),
    "labelled": _labelled,
    "template": _template,
    "prose": lambda _, values: "\n\n".join(map(plain, values.values())),
}

ERROR_SHARE = 0.15
WRONG_LABEL_SHARE = 0.08


def write_with_errors(task: Task, values: Mapping[str, Any], rng: random.Random) -> str:
    """Write `values` in the format of the prompt, or nearly so."""
    values = _misjudged(task, dict(values), rng)
    text = write(task.spec, values)
    if rng.random() >= ERROR_SHARE:
        return text
    return rng.choice(_ERRORS[task.spec.layout.kind])(text, task, values)


def _misjudged(task: Task, values: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Take another label now and then."""
    for field in task.spec.outputs:
        others = [label for label in field.schema.get("enum", ()) if label != values[field.name]]
        if others and rng.random() < WRONG_LABEL_SHARE:
            values[field.name] = rng.choice(others)
    return values


def _unfinished(text: str, _task: Task, _values: Values) -> str:
    """Forget the closing marker: readers that only look for headers do not mind."""
    return text.removesuffix("[[ ## completed ## ]]").rstrip()


def _talkative(text: str, _task: Task, _values: Values) -> str:
    """Put prose around the answer."""
    return f"Sure! Here is the answer:\n\n{text}\n\nLet me know if you need more."


def _fenced(text: str, task: Task, _values: Values) -> str:
    """Put the answer in a code fence."""
    return f"```{task.spec.layout.kind}\n{text}\n```"


def _miscased(text: str, task: Task, values: Values) -> str:
    """Write a label in capitals, which a strict reader refuses."""
    for field in task.spec.outputs:
        if "enum" in field.schema and isinstance(values[field.name], str):
            return write(task.spec, {**values, field.name: values[field.name].upper()})
    return text


def _headless(_text: str, _task: Task, values: Values) -> str:
    """Answer in prose, without a field in sight."""
    return "\n".join(plain(value) for value in values.values())


def _cut(text: str, _task: Task, _values: Values) -> str:
    """Stop in the last tenth."""
    return text[: max(1, len(text) - max(2, len(text) // 10))]


FormatError = Callable[[str, Task, Values], str]

_ERRORS: dict[str, tuple[FormatError, ...]] = {
    "markers": (_unfinished, _talkative, _miscased, _headless),
    "json": (_fenced, _talkative, _miscased, _cut),
    "xml": (_talkative, _fenced, _miscased, _cut),
    "labelled": (_talkative, _miscased, _headless),
    "template": (_talkative, _miscased, _headless),
    "prose": (_talkative,),
}
