"""What a finished answer is to a cache: worth keeping or not, plain JSON or not, and what it cost.

Main path: refusal(value) -> None or why not; as_json(value); cost_of(value) -> tokens and dollars.
Source: dspy.clients.call_result.CallResult.dump (DSPy 3.4.1), the record that most answers come as.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from dspy.clients.call_result import CACHE_FORMAT, CallResult

from course_lib.lm import prices

_AS_IS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS

_UNFINISHED = {
    "length": "cut off at max_tokens",
    "incomplete": "cut off at max_tokens",  # the word of OpenAI's Responses API
    "content_filter": "cut off by a content filter",
    "error": "ended in an error",
}


def is_record(value: Any) -> bool:
    """Return whether this is an answer as DSPy's own engines record it."""
    return isinstance(value, dict) and "_dspy_format" in value


def loaded(value: Any) -> CallResult | None:
    """Return a record as DSPy reads it; None for what it, or one of its adapters, cannot read."""
    try:
        result = CallResult.load(value)
        cost_of(value)
        is_right = (
            value["_dspy_format"] == CACHE_FORMAT and result.outputs and all(map(_is_output, result.outputs))
        )
        return result if is_right else None
    except Exception:  # border: in a shared store, anybody may have written anything
        return None


def _is_output(output: Any) -> bool:
    """Return whether an adapter of DSPy can read this candidate."""
    if not isinstance(output, dict):
        return output is None or isinstance(output, str)
    functions = [call["function"] for call in output.get("tool_calls") or ()]
    texts = [part for function in functions for part in (function["name"], function["arguments"])]
    return all(isinstance(each, str) for each in (output["text"] or "", *texts))


def refusal(value: Any) -> str | None:
    """Return why an answer is not worth keeping, or None; what is no answer of a model is kept."""
    if value is None:
        return "nothing"
    unfinished = next((_UNFINISHED[end] for end in _ends(value) if end in _UNFINISHED), None)
    return unfinished or (None if all(_texts(value)) else "empty")


def _ends(value: Any) -> Iterator[str]:
    """Yield how each response ended, in the words of whichever interface it came from."""
    for response in value["responses"] or () if is_record(value) else (value,):
        for part in (response, *_listed(_get(response, "choices"))):
            yield str(_get(part, "finish_reason"))
            yield str(_get(part, "status"))


def _texts(value: Any) -> Iterator[bool]:
    """Yield for each candidate whether it says or calls anything."""
    if is_record(value):
        messages = _listed(value.get("outputs")) or [""]
    else:
        messages = [_get(choice, "message") or choice for choice in _listed(_get(value, "choices"))]
    for each in messages:
        text = each if isinstance(each, str) else _get(each, "content") or _get(each, "text")
        yield bool(str(text or "").strip() or _get(each, "tool_calls"))


def as_json(value: Any) -> bytes | None:
    """Return JSON from which the value comes back as it was; None if there is none.

    >>> as_json({"a": [1, None, "x"]}), as_json((1, 2)), as_json({1: 2}), as_json(float("nan"))
    (b'{"a":[1,null,"x"]}', None, None, None)
    """
    try:
        text = orjson.dumps(value, option=_AS_IS)
        return bytes(memoryview(text)) if orjson.loads(text) == value else None  # orjson's own fills 4 KB
    except (TypeError, RecursionError):
        return None


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
    return thing.get(name) if isinstance(thing, (dict, Mapping)) else getattr(thing, name, None)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []
