"""Prompts that begin alike: what a provider's prompt cache can give a program, and which field spoils it.

Main path: shared_prefixes(program, first, second), one for each prompt; changing_last(signature, "ticket").

What stays the same goes first. DSPy's adapters write the signature's instructions, then the demos, then the
input fields in their order; so a prompt's beginning is stable when
- the instructions hold no date, no user's name, nothing that is put in per call;
- the demos are the same for every call (demos picked by likeness, as KNNFewShot does, are not);
- fields that stay the same between calls (policies, a catalogue) stand before those that change;
- values print the same every time: lists sorted, no sets, no times, tools in one order.
For providers that cache only what is marked, `dspy.LM(prompt_cache=dspy.lm15.CacheConfig(...))` sends marks.
Source: the order is that of Adapter.format (dspy/adapters/base.py, DSPy 3.4.1); the rule of 1,024 and 128
tokens is OpenAI's, as lm/endpoint/prefixes.py has it.
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from course_lib.errors import CourseError
from course_lib.lm.endpoint import prefixes


class PrefixError(CourseError):
    """There is nothing to compare, or no such field."""


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """Two prompts of one place in a program: how much of the second the first has paid for."""

    prompt_tokens: int
    """Of the second prompt, counted as the course's endpoint counts."""
    shared_tokens: int
    """Tokens from its beginning that are the same in the first."""
    cached_tokens: int
    """How many of them a prompt cache gives: none below 1,024, then whole steps of 128."""
    broken_by: str
    """What differs first: an input field, a demo, the instructions."""

    def __str__(self) -> str:
        return (
            f"{self.shared_tokens} of {self.prompt_tokens} tokens shared, {self.cached_tokens} of them from "
            f"the cache; broken by {self.broken_by}"
        )


@dataclass(slots=True)
class _Prompt:
    body: dict[str, Any]
    """What goes to the provider and counts for its cache."""
    made_of: Mapping[str, Any]
    """Signature, demos and inputs that the adapter was given; empty for a call without adapter."""

    def parts(self) -> dict[str, Any]:
        """Return what the prompt is made of by name, in the order in which it is written."""
        messages = self.body["messages"]
        named = {"the tools": self.body.get("tools"), "the schema": self.body.get("response_format")}
        if self.made_of:
            fields = self.made_of["signature"].input_fields
            named["the instructions"] = self.made_of["signature"].instructions
            if messages[0]["role"] in {"system", "developer"}:
                named["the description of the fields"] = messages[0]
            for number, demo in enumerate(self.made_of.get("demos") or (), 1):
                named |= {f"demo {number}, field `{name}`": value for name, value in demo.items()}
            # A history becomes messages, which stand before all other fields.
            for name in sorted(fields, key=lambda name: fields[name].annotation is not dspy.History):
                named[f"input field `{name}`"] = self.made_of["inputs"].get(name)
        return named | {f"message {at} ({each['role']})": each for at, each in enumerate(messages, 1)}


class _Recorder(BaseCallback):
    """Keeps the prompts of a program's run, with what they were made of."""

    def __init__(self) -> None:
        self.prompts: list[_Prompt] = []
        self._made_of: Mapping[str, Any] = {}

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        self._made_of = inputs

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        options = {**getattr(instance, "kwargs", {}), **inputs, **(inputs.get("kwargs") or {})}
        messages = inputs.get("messages") or [{"role": "user", "content": inputs.get("prompt") or ""}]
        extras = {name: options.get(name) for name in ("tools", "response_format")}
        body = {name: _plain(value) for name, value in extras.items() if value is not None}
        self.prompts.append(_Prompt({"messages": messages, **body}, self._made_of))
        self._made_of = {}


def _plain(value: Any) -> Any:
    """Return a tool or schema as JSON knows it."""
    if isinstance(value, type) and hasattr(value, "model_json_schema"):
        schema = {"name": value.__name__, "schema": value.model_json_schema(), "strict": True}
        return {"type": "json_schema", "json_schema": schema}
    return json.loads(json.dumps(value, default=str))


def shared_prefixes(program: Any, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[SharedPrefix]:
    """Run a program on two inputs and compare the prompts that it makes, the n-th with the n-th.

    The program runs as always, with the model that is configured, so on a paid model this costs two runs.

    Raises:
        PrefixError: when one of the runs makes no prompt.
    """
    runs = [_prompts(program, inputs) for inputs in (first, second)]
    if not all(runs):
        raise PrefixError(
            f"{type(program).__name__} made no prompt on these inputs; is a model called at all?"
        )
    return [_compared(one, other) for one, other in zip(*runs, strict=False)]


def _prompts(program: Any, inputs: Mapping[str, Any]) -> list[_Prompt]:
    recorder = _Recorder()
    with dspy.context(callbacks=[*dspy.settings.callbacks, recorder]):
        program(**inputs)
    return recorder.prompts


def _compared(one: _Prompt, other: _Prompt) -> SharedPrefix:
    shared_tokens = prefixes.shared_tokens(one.body, other.body)
    return SharedPrefix(
        prompt_tokens=prefixes.shared_tokens(other.body, other.body),
        shared_tokens=shared_tokens,
        cached_tokens=prefixes.cacheable_tokens(shared_tokens),
        broken_by=_first_difference(one.parts(), other.parts()),
    )


def _first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    shorter, longer = sorted((one, other), key=len)  # by the longer one's order, so that a demo more is found
    names = (name for name in {**longer, **shorter} if one.get(name) != other.get(name))
    return next(names, "nothing")


def changing_last(signature: Any, *names: str) -> Any:
    """Return the signature with these input fields after all others, in the order given.

    Raises:
        PrefixError: when it has no input field of such a name.

    >>> list(changing_last(dspy.Signature("ticket, policies -> answer"), "ticket").input_fields)
    ['policies', 'ticket']
    """
    for name in names:
        field = signature.input_fields.get(name)
        if field is None:
            known = ", ".join(signature.input_fields)
            raise PrefixError(f"{signature.__name__} has no input field {name!r}; it has: {known}")
        signature = signature.delete(name).append(name, field, field.annotation)
    return signature
