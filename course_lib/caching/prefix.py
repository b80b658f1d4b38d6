"""Prompts that begin alike: what a provider's prompt cache can give a program, and what spoils it.

Main path: shared_prefixes(program, first, second), one for each prompt; changing_last(signature, "ticket").

DSPy's adapters write the signature's instructions, then the demos, then the input fields in their order. A
prompt's beginning is stable when instructions and demos are the same for every call (those of KNNFewShot are
not), fields that change stand last, and values print the same every time: no sets, no times.
For providers that cache only what is marked, `dspy.LM(prompt_cache=dspy.lm15.CacheConfig(...))` sends marks.
Source: the order is that of Adapter.format (dspy/adapters/base.py, DSPy 3.4.1); the rule of 1,024 and 128
tokens is OpenAI's, as lm/endpoint/prefixes.py has it.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from course_lib.lm.endpoint import prefixes


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """Two prompts of one place in a program: how much of the second the first has paid for."""

    prompt_tokens: int
    """Of the second prompt, counted as the course's endpoint counts."""
    shared_tokens: int
    """Tokens from its beginning that are the same in the first."""
    cached_tokens: int
    """How many of them a prompt cache gives: none below 1,024, then whole steps of 128."""
    parted_after: str
    """The last words that they share: where the text stands that spoils the rest."""

    def __str__(self) -> str:
        return (
            f"{self.shared_tokens} of {self.prompt_tokens} tokens shared, {self.cached_tokens} of them from "
            f"the cache; alike up to {self.parted_after!r}"
        )


class _Recorder(BaseCallback):
    """Keeps the prompts of a program's run, as bodies of requests."""

    def __init__(self) -> None:
        self.prompts: list[dict[str, Any]] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
        messages = inputs.get("messages") or [{"role": "user", "content": inputs.get("prompt") or ""}]
        options = {**inputs, **(inputs.get("kwargs") or {})}
        sent = {name: options[name] for name in ("tools", "response_format") if options.get(name) is not None}
        self.prompts.append({name: _plain(value) for name, value in sent.items()} | {"messages": messages})


def _plain(value: Any) -> Any:
    """Return a tool or schema as JSON knows it."""
    if isinstance(value, type) and hasattr(value, "model_json_schema"):
        schema = {"name": value.__name__, "schema": value.model_json_schema(), "strict": True}
        return {"type": "json_schema", "json_schema": schema}
    return json.loads(json.dumps(value, default=str))


def shared_prefixes(program: Any, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[SharedPrefix]:
    """Run a program on two inputs and compare the prompts that it makes, the n-th with the n-th.

    The program runs as always, with the model that is configured, so on a paid model this costs two runs.
    """
    recorders = _Recorder(), _Recorder()
    for recorder, inputs in zip(recorders, (first, second), strict=True):
        with dspy.context(callbacks=[*dspy.settings.callbacks, recorder]):
            program(**inputs)
    return [_compared(*pair) for pair in zip(*(recorder.prompts for recorder in recorders), strict=False)]


def _compared(first: dict[str, Any], second: dict[str, Any]) -> SharedPrefix:
    shared_tokens, prompt_tokens = (prefixes.shared_tokens(body, second) for body in (first, second))
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(_text(first), _text(second), strict=False))
    alike = "".join(character for character, _ in pairs)
    return SharedPrefix(prompt_tokens, shared_tokens, prefixes.cacheable_tokens(shared_tokens), alike[-40:])


def _text(body: dict[str, Any]) -> str:
    """Return a prompt as one text, tools and schema first, as a provider reads it."""
    before = [json.dumps(body[name]) for name in ("tools", "response_format") if name in body]
    return "\n".join([*before, *(str(message["content"]) for message in body["messages"])])


def changing_last(signature: Any, *names: str) -> Any:
    """Return the signature with these input fields after all others, in the order given.

    >>> list(changing_last(dspy.Signature("ticket, policies -> answer"), "ticket").input_fields)
    ['policies', 'ticket']
    """
    for name in names:
        field = signature.input_fields[name]
        signature = signature.delete(name).append(name, field, field.annotation)
    return signature
