"""Field values out of messages: the inputs in a user turn, the outputs in an assistant turn.

Main path: read_inputs(text, names) and read_outputs(text, names, layout), both {name: value}.
Source: format_user_message_content and format_assistant_message_content of DSPy's adapters, DSPy 3.4.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any
from xml.sax.saxutils import unescape

from course_lib.lm.simulator.prompts.task import Layout
from course_lib.lm.simulator.reading import first_object, sections

_REMINDERS = (
    "Respond with the corresponding output fields",
    "Respond with a JSON object in the following order of fields:",
)
_NOT_SUPPLIED = "Not supplied for this particular example."
_FENCE = re.compile(r"```[ \t]*\w*\n(.*?)\n?```", re.DOTALL)


def strip_reminder(text: str) -> str:
    """Cut off the reminder of the format with which DSPy ends a request."""
    for reminder in _REMINDERS:
        at = text.rfind(reminder)
        if at >= 0 and "`" in text[at:]:
            return text[:at].rstrip()
    return text


def read_inputs(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return the input values in a user message, as text, in whichever format they are written."""
    text = strip_reminder(text)
    values = _values(text, names) or {names[0] if names else "text": text.strip()}
    return {str(key): one if isinstance(one, str) else json.dumps(one) for key, one in values.items()}


def read_outputs(text: str, names: tuple[str, ...], layout: Layout) -> dict[str, Any]:
    """Return the output values in an assistant message; what a demo leaves out is left out here."""
    values = _values(text, names) or ({names[0]: text.strip()} if len(names) == 1 else {})
    if layout.kind == "xml":
        values = {name: unescape(value) for name, value in values.items()}
    return {
        name: value.strip() if isinstance(value, str) else value
        for name, value in values.items()
        if not (isinstance(value, str) and _NOT_SUPPLIED in value)
    }


def _values(text: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    """Return what is written behind markers, in tags, as JSON, or behind labels."""
    if "[[ ## " in text and (values := _marked(text, names)):
        return values
    if any(f"<{name}>" in text for name in names) and (values := _tagged(text, names)):
        return {name: value.strip("\n") for name, value in values.items()}
    if text.lstrip().startswith(("{", "```")) and (record := read_json(text)) is not None:
        return record
    return labelled(text, names)


def read_json(text: str) -> dict[str, Any] | None:
    """Return the first JSON object in `text`, in a fence or bare, or None."""
    if fence := _FENCE.search(text):
        text = fence.group(1)
    return first_object(text)


_MARKER = re.compile(r"^\[\[ ## (\w+) ## \]\][ \t]*", re.MULTILINE)


def _marked(text: str, names: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    name, start = "", 0
    for marker in _MARKER.finditer(text):
        header = marker.group(1)
        if header in values or header == name or (header not in names and header != "completed"):
            continue  # not ours: a value may hold markers of its own
        if name:
            values[name] = text[start : marker.start()].strip()
        name, start = header, marker.end()
    if name and name != "completed":
        values[name] = text[start:].strip()
    values.pop("completed", None)
    return values


def _tagged(text: str, names: Sequence[str]) -> dict[str, str]:
    text = "\n" + text
    values: dict[str, str] = {}
    at = 0
    for name in names:
        start = text.find(f"\n<{name}>", at)
        end = text.find(f"</{name}>", start)
        if 0 <= start < end:
            values[name] = text[start + len(name) + 3 : end]
            at = end
    return values


@lru_cache(maxsize=256)
def label_pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return what finds `name: value` lines, with groups before, name, after; case and `_` are loose."""
    spelled = "|".join(
        re.escape(name).replace("_", "[ _-]?") for name in sorted(names, key=len, reverse=True)
    )
    return re.compile(
        rf"^(?P<before>[ \t]*[#*>\-\[({{<'\"|]*[ \t]*)(?P<name>{spelled})"
        r"(?P<after>[*\])}'\"|]*[ \t]*(?:[:=]|->|→)[*]*(?:[ \t]+|$)|[*\])}#]*[ \t]*$)",
        re.MULTILINE | re.IGNORECASE,
    )


@lru_cache(maxsize=64)
def labelled(text: str, names: tuple[str, ...]) -> Mapping[str, str]:
    """Return the values of `name: value` lines, bold labels and headings included."""
    if not names:
        return {}
    keyed = {_bare(name): name for name in names}
    values: dict[str, str] = {}
    labels = [label for label in label_pattern(names).finditer(text) if _bare(label.group("name")) in keyed]
    for label, value in sections(labels, text):
        values.setdefault(keyed[_bare(label.group("name"))], value.strip())
    return values


def _bare(name: str) -> str:
    return re.sub(r"[ _-]", "", name.lower())
