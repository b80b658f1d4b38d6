"""Tools in a chat request, and what has been done with them: an episode of an agent.

Main path: read_episode(body, task) -> Episode, or None where no tools are offered.
Source: ReAct (dspy/predict/react.py), ReActV2 (react_v2.py), Tool and ToolCalls (adapters/types/tool.py),
DSPy 3.4.1; OpenAI's `tools`, `tool_calls` and messages of role `tool`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from course_lib.lm.simulator.prompts import message_text
from course_lib.lm.simulator.prompts.schema import clean
from course_lib.lm.simulator.prompts.task import Field, Task
from course_lib.lm.simulator.prompts.values import read_inputs, strip_reminder
from course_lib.lm.simulator.reading import first_object, parsed, sections

Form = Literal["react", "extract", "calls", "native"]


@dataclass(frozen=True, slots=True, eq=False)
class ToolSpec:
    """One tool as the prompt shows it."""

    name: str
    desc: str
    """What it says of itself, without what it says of its arguments."""
    params: tuple[Field, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One call of a tool, and what came of it."""

    tool: str
    args: Mapping[str, Any]
    observation: str
    thought: str = ""
    """What the model thought before the call, where the prompt shows it."""


@dataclass(frozen=True, slots=True, eq=False)
class Episode:
    """A request, the tools for it, and the steps taken so far."""

    form: Form
    """How the prompt writes it: ReAct's step, ReAct's last step, a ToolCalls field, or native calls."""
    request: str
    """What is asked now; with what it answers, where the last reply asked for something that was missing."""
    tools: tuple[ToolSpec, ...]
    steps: tuple[Step, ...] = ()
    calls_field: str = ""
    """Form `calls`: the output field that takes the calls."""
    choice: Any = "auto"
    """Native: the request's `tool_choice`."""
    is_parallel: bool = True
    before: str = ""
    """The request before this one."""


_REACT = {"next_thought", "next_tool_name", "next_tool_args"}
_BESIDE = {"trajectory", "history", "tools", "tool_call_results"}


def read_episode(body: Mapping[str, Any], task: Task) -> Episode | None:
    """Return the episode that a request continues, if it offers tools or looks back on them."""
    if task.tools:
        request, steps, before = _conversation(body.get("messages") or (), task)
        tools = _native_tools(json.dumps(task.tools))
        choice, is_parallel = body.get("tool_choice", "auto"), body.get("parallel_tool_calls") is not False
        return Episode("native", request, tools, steps, "", choice, is_parallel, before)
    if {field.name for field in task.spec.outputs} >= _REACT:
        steps = _trajectory(task.inputs.get("trajectory", ""))
        return Episode("react", _request(task.inputs), listed_tools(task.spec.instructions), steps)
    calls = next((one.name for one in task.spec.outputs if one.type_name == "ToolCalls"), "")
    if calls:
        request, steps, before = _conversation(body.get("messages") or (), task)
        given = task.inputs.get("tools", "")  # a JSON list of lines, or the lines
        lines = parsed(given)
        tools = listed_tools("\n".join(map(str, lines)) if isinstance(lines, list) else given)
        request, written = _written(request)
        return Episode("calls", request, tools, (*steps, *written), calls, before=before)
    if "trajectory" in task.inputs and (steps := _trajectory(task.inputs["trajectory"])):
        return Episode("extract", _request(task.inputs), (), steps)
    return None


_WRITTEN = re.compile(r"^(\w+)\((\{.*\})\) -> (.*)$", re.MULTILINE)


def _written(request: str) -> tuple[str, tuple[Step, ...]]:
    """Take apart a request and calls that an input beside it lists, a line each: name({...}) -> result."""
    steps = (Step(name, mapping(parsed(args)), result) for name, args, result in _WRITTEN.findall(request))
    return _WRITTEN.sub("", request).strip(), tuple(steps)


def _request(inputs: Mapping[str, str]) -> str:
    return "\n".join(value for name, value in inputs.items() if name not in _BESIDE).strip()


# -- tools ------------------------------------------------------------------------------------------------

_LISTED = re.compile(
    r"^(?:\(\d+\) )?([\w.-]+)(?:, whose description is <desc>(.*?)</desc>\.|\.)"
    r" It takes arguments (\{.*\})\.?[ \t]*$",
    re.MULTILINE,
)


@lru_cache(maxsize=128)
def listed_tools(text: str) -> tuple[ToolSpec, ...]:
    """Read the tools that a prompt lists in DSPy's words."""
    tools = []
    for name, desc, args in _LISTED.findall(text):
        try:
            properties = ast.literal_eval(args)
        except (ValueError, SyntaxError):
            properties = {}
        required = [key for key, schema in properties.items() if "default" not in schema]
        tools.append(_tool(name, desc, properties, required))
    return tuple(tools)


@lru_cache(maxsize=128)
def _native_tools(text: str) -> tuple[ToolSpec, ...]:
    tools = []
    for tool in json.loads(text):
        function = mapping(tool.get("function"))
        wanted = mapping(function.get("parameters"))
        required = wanted["required"] if isinstance(wanted.get("required"), list) else []
        name, desc = str(function.get("name", "")), str(function.get("description") or "")
        tools.append(_tool(name, desc, mapping(wanted.get("properties")), required))
    return tuple(tools)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return what is a mapping, and else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _tool(name: str, desc: str, properties: Mapping[str, Any], required: Sequence[str]) -> ToolSpec:
    description, own = _of_args(desc, tuple(properties))
    params = []
    for key, given in properties.items():
        schema = clean(given)
        about = str(schema.get("description") or own.get(key, ""))
        params.append(Field(key, schema, about, required=key in required))
    return ToolSpec(name, description, tuple(params))


def _of_args(desc: str, names: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Split a docstring into what it says of the tool and of each argument."""
    head, marker, rest = desc.partition("Args:")
    if not marker:
        return " ".join(desc.split()), {}
    spelled = "|".join(re.escape(name) for name in names) or r"(?!)"
    marks = re.finditer(rf"(?:^|\s)({spelled})(?: \([^)]*\))?:\s", rest)
    end = re.search(r"\b(?:Returns|Raises|Yields|Examples?):", rest)
    limit = end.start() if end else len(rest)
    own = {
        mark.group(1): " ".join(said[: max(0, limit - mark.end())].split())
        for mark, said in sections(marks, rest)
    }
    return " ".join((head + " " + rest[limit:]).split()), own


# -- steps ------------------------------------------------------------------------------------------------

_PART = re.compile(
    r"^(?:\[\[ ## |<|  )?(thought|tool_name|tool_args|observation)_(\d+)"
    r"(?:(?: ## \]\]|>)[ \t]*$|:(?:[ \t]|$))",
    re.MULTILINE,
)


def _trajectory(text: str) -> tuple[Step, ...]:
    """Read ReAct's trajectory. A part counts only in its turn, since an observation may imitate headers."""
    record = parsed(text)
    if isinstance(record, dict) and any(key.startswith("observation_") for key in record):
        parts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in record.items()}
    else:
        parts = _parts(text)
    steps = []
    numbers = sorted(int(key.rsplit("_", 1)[1]) for key in parts if key.startswith("tool_name_"))
    for number in numbers:
        args = mapping(parsed(parts.get(f"tool_args_{number}", "")))
        observation, thought = parts.get(f"observation_{number}", ""), parts.get(f"thought_{number}", "")
        steps.append(Step(parts[f"tool_name_{number}"].strip(), args, observation, thought))
    return tuple(steps)


_ORDER = ("thought", "tool_name", "tool_args", "observation")


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    name, start, expected, number = "", 0, 0, None
    for mark in _PART.finditer(text):
        kind, at = mark.group(1), int(mark.group(2))
        number = at if number is None else number  # an old step may have been cut off
        if kind != _ORDER[expected % 4] or at != number:
            continue
        if name:
            parts[name] = text[start : mark.start()]
        name, start, expected = f"{kind}_{at}", mark.end(), expected + 1
        number += kind == "observation"
    if name:
        parts[name] = text[start:]
    return {name: part.strip().removesuffix(f"</{name}>").strip() for name, part in parts.items()}


def _conversation(messages: Sequence[Any], task: Task) -> tuple[str, tuple[Step, ...], str]:
    """Return the latest request, the calls made since with their results, and the request before."""
    names = tuple(one.name for one in task.spec.inputs) or ("question",)
    request = before = said = ""
    called: list[tuple[str, str, dict[str, Any]]] = []  # (id, tool, arguments)
    results: dict[str, str] = {}
    in_order: list[str] = []
    for message in messages:
        if not isinstance(message, Mapping):
            continue
        role, text = message.get("role"), message_text(message)
        if role == "assistant":
            called += _calls_in(message, text, len(called))
            said = text
        elif role == "tool":
            results[str(message.get("tool_call_id"))] = text
        elif role == "user":
            reported = _results(text)
            if reported is not None:
                in_order += reported
            elif new := _new_request(text, names):
                before = before if before and _GOES_ON.match(request) else request
                new = f"{request}\n{new}" if "I do not have the" in said else new
                request, called, results, in_order, said = new, [], {}, [], ""
    for (call_id, _, _), result in zip(called, in_order, strict=False):
        results.setdefault(call_id, result)
    steps = (Step(tool, args, results[id_]) for id_, tool, args in called if id_ in results)
    return request, tuple(steps), before


_GOES_ON = re.compile(r"(?:and|also|now|or|(?:what|how) about|same for)\b[^\n]{0,60}$", re.IGNORECASE)


def _new_request(text: str, names: tuple[str, ...]) -> str:
    bare = strip_reminder(text).strip()
    if not bare or bare.startswith("Respond with"):
        return ""
    return _request(read_inputs(text, (*names, "tools")))


_RESULTS = re.compile(
    r"\s*(?:\[\[ ## tool_call_results ## \]\]|<tool_call_results>|tool_call_results:|\{|```)"
)


def _results(text: str) -> list[str] | None:
    """Return the results in a user message that only reports them (ReActV2 without native calls)."""
    if "tool_call_results" not in text:
        return None
    record = first_object(text) if _RESULTS.match(text) else None
    results = record.get("tool_call_results") if record else None
    results = results.get("tool_call_results") if isinstance(results, dict) else results
    if not isinstance(results, list):
        return None
    values = [(one.get("value"), one.get("is_error")) for one in results if isinstance(one, dict)]
    texts = [(value if isinstance(value, str) else json.dumps(value), failed) for value, failed in values]
    return [f"error: {text}" if failed else text for text, failed in texts]


def _calls_in(message: Mapping[str, Any], text: str, so_far: int) -> list[tuple[str, str, dict[str, Any]]]:
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        called = []
        for call in map(mapping, calls):
            function = mapping(call.get("function"))
            args = dict(mapping(parsed(str(function.get("arguments") or "{}"))))
            called.append((str(call.get("id")), str(function.get("name")), args))
        return called
    start = re.search(r'\{\s*"tool_calls"', text)
    listed = (first_object(text[start.start() :]) or {}).get("tool_calls") if start else None
    listed = listed.get("tool_calls") if isinstance(listed, dict) else listed
    return [
        (f"text {so_far + at}", str(call.get("name")), dict(mapping(call.get("args"))))
        for at, call in enumerate(listed or ())
        if isinstance(call, dict)
    ]
