"""What a finished answer is to a cache: worth keeping or not, plain JSON or not, and what it cost.

Main path: refusal(value) -> None or why not; is_plain(value); spent(value) -> tokens and dollars.
Source: dspy.clients.call_result.CallResult.dump (DSPy 3.4.1), the record that most answers come as.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from course_lib.lm import prices

RECORD = "_dspy_format"
"""The field by which a record of DSPy's native engines is known."""

_NEEDED = ("responses", "outputs", "cost", "response_model")
"""Fields without which DSPy cannot read a record."""

_UNFINISHED = {
    "length": "cut off at max_tokens",
    "content_filter": "cut off by a content filter",
    "error": "ended in an error",
}


def refusal(value: Any) -> str | None:
    """Return why an answer is not worth keeping, or None; what is no answer of a model is kept."""
    if value is None:
        return "nothing"
    for reason in _finish_reasons(value):
        if reason in _UNFINISHED:
            return _UNFINISHED[reason]
    texts = list(_texts(value))
    return "empty" if texts and not all(texts) else None


def _finish_reasons(value: Any) -> Iterator[str]:
    for response in _get(value, "responses") or () if _is_record(value) else (value,):
        yield str(_get(response, "finish_reason"))
        if _get(response, "status") == "incomplete":  # OpenAI's Responses API says it so
            yield "length"
        for choice in _listed(_get(response, "choices")):
            yield str(_get(choice, "finish_reason"))


def _texts(value: Any) -> Iterator[bool]:
    """Return for each candidate whether it says or calls anything."""
    if _is_record(value):
        outputs = _listed(value.get("outputs"))
        if not outputs:
            yield False
        for output in outputs:
            if isinstance(output, Mapping):
                yield bool(str(output.get("text") or "").strip() or output.get("tool_calls"))
            else:
                yield bool(str(output or "").strip())
        return
    for choice in _listed(_get(value, "choices")):
        message = _get(choice, "message")
        said = _get(message, "content") if message is not None else _get(choice, "text")
        yield bool(str(said or "").strip() or _get(message, "tool_calls"))


def is_sound(value: Any) -> bool:
    """Return whether DSPy could read this; what is no record of DSPy's is not judged.

    >>> is_sound({"_dspy_format": "dspy-lm15-result-v1"}), is_sound([0.5])
    (False, True)
    """
    return not _is_record(value) or all(name in value for name in _NEEDED)


def is_plain(value: Any) -> bool:
    """Return whether a value comes back from JSON as it was: same types, same numbers.

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
        return all(map(is_plain, value))
    if kind is dict:
        return all(type(name) is str for name in value) and all(map(is_plain, value.values()))
    return False


def spent(value: Any) -> tuple[int, float]:
    """Return the tokens and dollars that an answer cost when it was asked for; 0 for what nobody knows."""
    usage = _get(value, "usage") or {}
    read = _count(usage, "prompt_tokens", "input_tokens")
    written = _count(usage, "completion_tokens", "output_tokens")
    cost = _get(value, "cost")
    if cost is None:
        cost = (_get(value, "_hidden_params") or {}).get("response_cost")
    name = _get(value, "response_model") or _get(value, "model") or ""
    model = str(name).removeprefix("course/").partition("@")[0]
    if cost is None and model in prices.PRICES:  # what the course's own models would cost
        cost = prices.cost_usd(model, read, written)
    return read + written, float(cost or 0.0)


def _count(usage: Any, *names: str) -> int:
    for name in names:
        if number := _get(usage, name):
            return int(number)
    return 0


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and RECORD in value


def _get(thing: Any, name: str) -> Any:
    if type(thing) is dict or isinstance(thing, Mapping):  # asking the type alone is the quicker, for most
        return thing.get(name)
    return getattr(thing, name, None)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []
