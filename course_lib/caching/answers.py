"""What a finished answer is to a cache: worth keeping or not, plain JSON or not, and what it cost.

Main path: refusal(value) -> None or why not; is_plain(value); cost_of(value) -> tokens and dollars.
Source: dspy.clients.call_result.CallResult.dump (DSPy 3.4.1), the record that most answers come as.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from course_lib.lm import prices

RECORD = "_dspy_format"
"""The field by which a record of DSPy's native engines is known."""

_NEEDED = frozenset({"responses", "outputs", "cost", "response_model"})
"""Fields without which DSPy cannot read a record."""

DEEPEST = 100
"""Levels of lists and dicts in a record that leaves the process: whoever reads it may use recursion."""

_UNFINISHED = {
    "length": "cut off at max_tokens",
    "incomplete": "cut off at max_tokens",  # the word of OpenAI's Responses API
    "content_filter": "cut off by a content filter",
    "error": "ended in an error",
}


def is_record(value: Any) -> bool:
    """Return whether this is an answer as DSPy's own engines record it."""
    return isinstance(value, dict) and RECORD in value


def is_readable(value: Any) -> bool:
    """Return whether DSPy could read this; what is no record of DSPy's is not examined."""
    return not is_record(value) or value.keys() >= _NEEDED


def refusal(value: Any) -> str | None:
    """Return why an answer is not worth keeping, or None; what is no answer of a model is kept."""
    if value is None:
        return "nothing"
    unfinished = next((_UNFINISHED[end] for end in _ends(value) if end in _UNFINISHED), None)
    return unfinished or (None if all(_texts(value)) else "empty")


def _ends(value: Any) -> Iterator[str]:
    """Yield how each response ended, in the words of whichever interface it came from."""
    for response in value["responses"] or () if is_record(value) else (value,):
        yield str(_get(response, "finish_reason"))
        yield str(_get(response, "status"))
        for choice in _listed(_get(response, "choices")):
            yield str(_get(choice, "finish_reason"))


def _texts(value: Any) -> Iterator[bool]:
    """Yield for each candidate whether it says or calls anything."""
    if is_record(value):
        for output in _listed(value.get("outputs")) or [""]:
            text = output.get("text") if isinstance(output, Mapping) else output
            yield bool(str(text or "").strip() or (isinstance(output, Mapping) and output.get("tool_calls")))
        return
    for choice in _listed(_get(value, "choices")):
        message = _get(choice, "message")
        text = _get(choice, "text") if message is None else _get(message, "content")
        yield bool(str(text or "").strip() or _get(message, "tool_calls"))


def is_plain(value: Any, levels: int = DEEPEST) -> bool:
    """Return whether a value comes back from JSON as it was, and is nested in no more than so many levels.

    >>> is_plain({"a": [1, None, "x"]}), is_plain((1, 2)), is_plain({1: 2}), is_plain(float("nan"))
    (True, False, False, False)
    """
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return bool(-(2**63) <= value < 2**64)
    if kind is float:
        return math.isfinite(value)
    if kind is list:
        return levels > 0 and all(is_plain(part, levels - 1) for part in value)
    is_named = kind is dict and levels > 0 and all(type(name) is str for name in value)
    return is_named and all(is_plain(part, levels - 1) for part in value.values())


def cost_of(value: Any) -> tuple[int, float]:
    """Return the tokens and dollars that an answer cost when it was asked for; 0 for what nobody knows."""
    usage = _get(value, "usage") or {}
    read = int(_get(usage, "prompt_tokens") or _get(usage, "input_tokens") or 0)
    written = int(_get(usage, "completion_tokens") or _get(usage, "output_tokens") or 0)
    cost = _get(value, "cost")
    if cost is None:
        cost = (_get(value, "_hidden_params") or {}).get("response_cost")
    name = _get(value, "response_model") or _get(value, "model") or ""
    model = str(name).removeprefix("course/").partition("@")[0]
    if cost is None and model in prices.PRICES:  # what the course's own models would cost
        cost = prices.cost_usd(model, read, written)
    return read + written, float(cost or 0.0)


def _get(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []
