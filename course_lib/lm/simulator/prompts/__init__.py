"""Reads a chat request: which fields, types, demos, tools and reply format does the prompt ask for.

Main path: read(body) -> Task. The request is all there is: no signature, no Python object, no memory.
Source: the messages that DSPy's adapters write (dspy/adapters, DSPy 3.4.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

from course_lib.lm.simulator.prompts import layouts
from course_lib.lm.simulator.prompts.fields import from_response_format, read_fields
from course_lib.lm.simulator.prompts.loose import corrected, is_complaint, loose_outputs, payload
from course_lib.lm.simulator.prompts.task import Field, Layout, Spec, Task, Turn
from course_lib.lm.simulator.prompts.values import read_inputs, read_outputs

__all__ = ["Field", "Layout", "Spec", "Task", "Turn", "message_text", "read"]

LONGEST_FORM = 4_000  # a longer message is not searched for the form of the reply

_OBJECTIVE = re.compile(
    r"(?:In adhering to this structure, your objective is:|^Specific instructions:)[ \t]*(.*)",
    re.DOTALL | re.MULTILINE,
)


def message_text(message: Mapping[str, Any]) -> str:
    """Return the text of a message; parts that are not text (images, files) are named in brackets."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return ""
    parts = (part for part in content if isinstance(part, Mapping))
    return "\n".join(str(part.get("text") or f"[{part.get('type', 'part')}]") for part in parts)


def read(body: Mapping[str, Any]) -> Task:
    """Read a chat body (OpenAI's `/v1/chat/completions`) into a Task."""
    system, turns = _conversation(body.get("messages") or ())
    last = turns[-1][1] if turns and turns[-1][0] == "user" else ""
    pairs = tuple(
        (user[1], reply[1])
        for user, reply in pairwise(turns)
        if user[0] == "user" and reply[0] == "assistant"
    )
    complaint = ""
    while pairs and is_complaint(last):  # a validator's message: the request is the one before it
        complaint, last, pairs = last, pairs[-1][0], pairs[:-1]
    wanted = body.get("response_format")
    json_mode = isinstance(wanted, Mapping) and wanted.get("type") in ("json_object", "json_schema")
    spec = _read_spec(system, _tail(last), tuple(answer for _, answer in pairs[:2]), json_mode)
    if laid_down := from_response_format(wanted):
        spec = _with_schema(spec, laid_down)
    if complaint:
        spec = replace(spec, outputs=corrected(spec.outputs, complaint))
    asked, wanted_names = (tuple(field.name for field in fields) for fields in (spec.inputs, spec.outputs))
    demos, history = _read_turns(pairs, asked, wanted_names, spec.layout)
    inputs = read_inputs(last, asked)
    if spec.outputs and not asked and list(inputs) == ["text"]:
        inputs = {"text": payload(inputs["text"])}
    tools = tuple(tool for tool in body.get("tools") or () if isinstance(tool, Mapping))
    return Task(spec=spec, inputs=inputs, demos=demos, history=history, plain=last, tools=tools)


def _conversation(messages: Sequence[Any]) -> tuple[str, list[tuple[str, str]]]:
    """Return the system text and the other messages as (role, text), neighbours of one role joined."""
    system: list[str] = []
    turns: list[tuple[str, str]] = []
    for message in messages:
        if not isinstance(message, dict):  # quicker than asking for a Mapping, and JSON has no other
            continue
        role, text = str(message.get("role", "user")), message_text(message)
        if role in ("system", "developer"):
            system.append(text)
        elif turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n\n{text}")
        else:
            turns.append((role, text))
    return "\n\n".join(system), turns


def _tail(last: str) -> str:
    """Return the part of the last user message that speaks of the format, for a cache to be of use."""
    reminders = ("Respond with", "Reply with", "Answer with", "Return ", "Output ")
    said = next((last[at:] for reminder in reminders if (at := last.rfind(reminder)) >= 0), "")
    return said or (last if len(last) < LONGEST_FORM and re.search(r"\bjson\b", last, re.IGNORECASE) else "")


@lru_cache(maxsize=512)
def _read_spec(system: str, tail: str, answers: tuple[str, ...], json_mode: bool) -> Spec:
    inputs, outputs = read_fields(system)
    if not outputs:
        outputs = loose_outputs(system, tail, answers)
    names = tuple(field.name for field in outputs)
    layout = layouts.sniff(system, tail, answers, names, json_mode=json_mode)
    objective = _OBJECTIVE.search(system)
    instructions = objective.group(1) if objective else system
    lines = (line.strip() for line in instructions.strip().splitlines())
    return Spec(tuple(inputs), tuple(outputs), "\n".join(lines), layout)


def _with_schema(spec: Spec, laid_down: tuple[Field, ...]) -> Spec:
    """Take the types from the response format, and the descriptions from the prompt."""
    known = {field.name: field for field in (*laid_down, *spec.outputs)}
    outputs = []
    for field in laid_down:
        shown, limits = known[field.name], ("min", "max", "exclusive", "multiple")
        limited = {key: value for key, value in shown.schema.items() if key.startswith(limits)}
        outputs.append(replace(shown, schema=field.schema | limited))
    return Spec(spec.inputs, tuple(outputs), spec.instructions, layouts.JSON)


@lru_cache(maxsize=512)
def _read_turns(
    pairs: tuple[tuple[str, str], ...], inputs: tuple[str, ...], outputs: tuple[str, ...], layout: Layout
) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    """Return (demos, history): earlier turns repeat the reminder of the format, demos do not."""
    demos: list[Turn] = []
    history: list[Turn] = []
    for user, answer in pairs:
        turn = Turn(read_inputs(user, inputs), read_outputs(answer, outputs, layout))
        (history if "Respond with" in user else demos).append(turn)
    return tuple(demos), tuple(history)
