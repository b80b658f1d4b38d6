# mypy: allow-subclassing-any
"""Prompts that begin alike: what a provider's prompt cache can give a program, and which field spoils it.

Main path: shared_prefixes(program, first, second), one for each prompt; changing_last(signature, "ticket").

What stays the same goes first. DSPy's adapters write the signature's instructions, then the demos, then the
input fields in their order; so a prompt's beginning is stable when
- the instructions hold no date, no user's name, nothing that is put in per call;
- the demos are the same for every call (demos picked by likeness, as KNNFewShot does, are not);
- fields that stay the same between calls (policies, a catalogue) stand before those that change;
- values print the same every time: lists sorted, no sets, no times, tools in one order.
Source: the order is that of Adapter.format (dspy/adapters/base.py, DSPy 3.4.1); the rule of 1,024 and 128
tokens is OpenAI's, as lm/prefixes.py has it; marks for providers that want them are dspy.lm15.CacheConfig's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import dspy
from dspy import lm15
from dspy.utils.callback import BaseCallback

from course_lib.errors import CourseError
from course_lib.lm.endpoint import prefixes

NOTHING = "nothing"
_NEAR_CHARS = 30


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
    near: str
    """The last words that both have."""

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
        body = {"messages": messages}
        for name in ("tools", "response_format"):
            if options.get(name) is not None:
                body[name] = _plain(options[name])
        self.prompts.append(_Prompt(body, self._made_of))
        self._made_of = {}


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
    with dspy.context(callbacks=[*(dspy.settings.callbacks or ()), recorder]):
        program(**inputs)
    return recorder.prompts


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> SharedPrefix:
    """Compare two request bodies (`messages`, and `tools` and `response_format` if there are any)."""
    return _compared(_Prompt(dict(first), {}), _Prompt(dict(second), {}))


def _compared(one: _Prompt, other: _Prompt) -> SharedPrefix:
    shared = prefixes.shared_tokens(one.body, other.body)
    near, broken_by = _first_difference(one, other)
    return SharedPrefix(
        prompt_tokens=prefixes.shared_tokens(other.body, other.body),
        shared_tokens=shared,
        cached_tokens=prefixes.cacheable_tokens(shared),
        broken_by=broken_by,
        near=near,
    )


def _first_difference(one: _Prompt, other: _Prompt) -> tuple[str, str]:
    """Return (the last words in common, what differs)."""
    for name, called in (("tools", "the tools"), ("response_format", "the response schema")):
        if one.body.get(name) != other.body.get(name):
            return "", called
    for at, (left, right) in enumerate(zip_longest(one.body["messages"], other.body["messages"])):
        if left == right:
            continue
        if left is None or right is None:
            return "", f"message {at + 1}, which only one of them has"
        return _common(_text(left), _text(right))[-_NEAR_CHARS:], _name(
            one, other, left
        ) or f"message {at + 1} ({left.get('role')})"
    return "", NOTHING


def _name(one: _Prompt, other: _Prompt, message: Mapping[str, Any]) -> str:
    """Name the part of the program that differs first, in the order in which adapters write the parts."""
    if not (one.made_of and other.made_of):
        return ""
    if message.get("role") in {"system", "developer"}:
        asked = [prompt.made_of["signature"].instructions for prompt in (one, other)]
        return "the instructions" if asked[0] != asked[1] else "the description of the fields"
    demos = zip_longest(one.made_of.get("demos") or (), other.made_of.get("demos") or ())
    for number, (left, right) in enumerate(demos, 1):
        if left is None or right is None:
            return f"demo {number}, which only one of them has"
        if field := _first_key(dict(left), dict(right)):
            return f"demo {number}, field `{field}`"
    fields = one.made_of["signature"].input_fields
    first = [
        name for name, field in fields.items() if field.annotation is dspy.History
    ]  # they become messages
    inputs = [
        {name: prompt.made_of["inputs"].get(name) for name in (*first, *fields)} for prompt in (one, other)
    ]
    field = _first_key(*inputs)
    return f"input field `{field}`" if field else ""


def _common(left: str, right: str) -> str:
    differs = (at for at, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1])
    return left[: next(differs, min(len(left), len(right)))]


def _first_key(left: Mapping[str, Any], right: Mapping[str, Any]) -> str:
    return next((name for name in {**left, **right} if left.get(name) != right.get(name)), "")


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else json.dumps(content, default=str)


def _plain(value: Any) -> Any:
    """Return a tool or schema as JSON knows it."""
    if isinstance(value, type) and hasattr(value, "model_json_schema"):
        schema = {"name": value.__name__, "schema": value.model_json_schema(), "strict": True}
        return {"type": "json_schema", "json_schema": schema}
    return json.loads(json.dumps(value, default=str))


# -- order ---------------------------------------------------------------------------------------------


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


# -- marks ---------------------------------------------------------------------------------------------


_DIALECTS = {"openai": lm15.OpenAIChatLM, "anthropic": lm15.AnthropicLM}


def wire_body(
    messages: Sequence[Mapping[str, Any]],
    prompt_cache: lm15.CacheConfig | None,
    *,
    dialect: str = "openai",
    model: str = "any",
) -> dict[str, Any]:
    """Return the request that `dspy.LM(prompt_cache=...)` sends for these messages; nothing is sent.

    Args:
        messages: as an adapter makes them.
        prompt_cache: what the LM is given; None: nothing.
        dialect: "openai" (chat completions, which the course's endpoint speaks) or "anthropic" (messages).
        model: some marks depend on it: gpt-5.6 and later have more.

    Raises:
        PrefixError: for another dialect.
    """
    if dialect not in _DIALECTS:
        raise PrefixError(f"no dialect {dialect!r}; known: {', '.join(_DIALECTS)}")
    plain = lm15.request_from_openai_chat({"model": model, "messages": [dict(m) for m in messages]})
    request = replace(plain, config=replace(plain.config, cache=prompt_cache))
    sent: dict[str, Any] = json.loads(
        _DIALECTS[dialect](api_key="none").build_request(request, stream=False).body
    )
    return sent


def until_demos(demos: int) -> lm15.CacheConfig:
    """Return the mark at the end of the last demo, for providers that cache only what is marked.

    `CacheConfig(prefix="stable")` marks the end of the system message, and so leaves the demos out, which
    DSPy's chat formats send as messages of their own: a question and an answer each.

    >>> until_demos(8).prefix_until_index
    15
    """
    return lm15.CacheConfig(prefix_until_index=2 * demos - 1) if demos else lm15.CacheConfig(prefix="stable")
