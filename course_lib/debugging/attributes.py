"""What a span says of a call: names and numbers by OpenTelemetry's conventions for generative AI.

Main path: settings_of(call, inputs) when it begins; title_of, call_of, end_of when it has ended;
content_in(...) and content_out(...) only where content is asked for.
Source: the GenAI semantic conventions (`gen_ai.*`, in development); OpenInference's `input.value` and
`output.value` for what these have no name for, such as a module's fields; what is DSPy's own is `dspy.*`.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from itertools import islice
from typing import Any

import dspy
from dspy.clients.lm15_boundary import history_messages
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from course_lib.debugging.spans import LONGEST_VALUE, Span
from course_lib.lm import prices
from course_lib.measure.calls import COMPILE, EVALUATE, FORMAT, LM, MODULE, PARSE, TOOL, Call
from course_lib.measure.usage import Usage
from course_lib.redaction.values import LOOKED_AT

Attributes = dict[str, Any]

_SETTINGS = {"temperature": "temperature", "max_tokens": "max_tokens", "n": "choice.count", "top_p": "top_p"}
LONGEST_CONTENT = 2 * LOOKED_AT
"""So many characters of what one call was given, or returned, are kept for a span with content."""
_MOST_ITEMS = 500
_MOST_VALUES = LONGEST_VALUE // 2  # each takes two signs of JSON at least: more than an attribute holds
_MOST_BYTES = 4 * LOOKED_AT  # a character has four at most
_NUMBERS = (int, float)
_LISTS = (list, tuple, set, frozenset, deque, array)
_LAST = 64  # entries of a model's history among which a call's own is looked for


def title_of(call: Call) -> str:
    """Return a span's name: `chat sim-large`, `execute_tool refund`, `Predict(SortTicket)`."""
    if call.kind == LM:
        return f"chat {_split(call.name)[1]}"
    if call.kind == TOOL:
        return f"execute_tool {call.name}"
    if call.kind in (FORMAT, PARSE):
        return f"{call.name}.{call.kind}"
    signature = getattr(call.instance, "signature", None)
    return f"{call.name}({signature.__name__})" if isinstance(signature, type) else call.name


def settings_of(call: Call, inputs: Mapping[str, Any]) -> Attributes:
    """Return how a model is asked, which is known when the call begins."""
    asked = {**getattr(call.instance, "kwargs", {}), **(inputs.get("kwargs") or {})}
    settings: Attributes = {
        f"gen_ai.request.{name}": asked[key]
        for key, name in _SETTINGS.items()
        if isinstance(asked.get(key), int | float)
    }
    return settings | ({"gen_ai.request.stream": True} if call.heard and call.heard.is_stream else {})


def call_of(call: Call) -> Attributes:
    """Return what kind of call it is, and of what."""
    attributes: Attributes = {"dspy.kind": call.kind, "dspy.class": type(call.instance).__name__}
    if call.kind == LM:
        provider, model = _split(call.name)
        attributes |= {"gen_ai.operation.name": "chat", "gen_ai.request.model": model}
        attributes |= {"gen_ai.provider.name": provider} if provider else {}
    elif call.kind == TOOL:
        attributes |= {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": call.name}
    return attributes


def model_of(name: str) -> str:
    """Return a model's name without its provider: `sim-large@storm`."""
    return _split(name)[1]


def _split(model: str) -> tuple[str, str]:
    provider, slash, name = model.partition("/")
    return (provider, name) if slash else ("", model)


def end_of(call: Call, outputs: Any, error: BaseException | None) -> Attributes:
    """Return what is known when a call has ended: usage, cost, why it failed; no content."""
    attributes: Attributes = {}
    if error is not None:
        attributes["error.type"] = type(error).__name__
        if isinstance(status := getattr(error, "status", None), int):
            attributes["http.response.status_code"] = status
    if call.kind == LM:
        attributes |= _usage_of(call, error)
        attributes |= _answer_of(call, outputs)
    elif call.kind == EVALUATE and isinstance(score := getattr(outputs, "score", None), int | float):
        attributes["gen_ai.evaluation.score.value"] = float(score)
    return attributes


def _usage_of(call: Call, error: BaseException | None) -> Attributes:
    heard = call.heard
    if heard is None or heard.usage is None:
        return {"dspy.cache.hit": True} if error is None else {}
    usage = heard.usage
    attributes: Attributes = {
        "dspy.cache.hit": False,
        "gen_ai.response.model": _split(heard.model)[1],
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
    }
    if usage.cached_tokens:
        attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    if not usage.unpriced_calls:
        attributes["gen_ai.usage.cost"] = usage.cost_usd  # in dollars; not in the conventions yet
    if heard.first_token_s is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = heard.first_token_s - call.begun_s
    return attributes


def _answer_of(call: Call, outputs: Any) -> Attributes:
    """Return why the model stopped: of an answer that was cut off, nothing else tells it.

    The entry of a call is the one in the model's history that has the very outputs that the call returned.
    """
    responses = outputs
    if isinstance(outputs, list):
        entries = islice(reversed(getattr(call.instance, "history", None) or ()), _LAST)
        responses = next((each.get("response") for each in entries if each.get("outputs") is outputs), None)
    each_response = responses if isinstance(responses, list | tuple) else [responses]
    reasons = [getattr(each, "finish_reason", None) for each in each_response]
    return {"gen_ai.response.finish_reasons": [str(each) for each in reasons]} if any(reasons) else {}


def cost_usd(usage: Usage) -> float:
    """Return what a model's call costs; without a listed price a high one is assumed, for caps."""
    if not usage.unpriced_calls:
        return usage.cost_usd
    rate = prices.ASSUMED
    return (usage.prompt_tokens * rate.prompt_usd + usage.completion_tokens * rate.completion_usd) / 1e6


# -- content, where it is asked for ----------------------------------------------------------------------


def content_in(call: Call, inputs: Mapping[str, Any]) -> Attributes:
    """Return what a call was given, as it was then; a Span redacts it."""
    if call.kind == LM:
        messages = inputs.get("messages") or [{"role": "user", "content": inputs.get("prompt")}]
        request = inputs.get("request") or inputs.get("prompt")
        if isinstance(request, dspy.lm15.Request):
            messages = history_messages(request)
        is_read_once = isinstance(messages, Iterator)
        return {"gen_ai.input.messages": _kept(messages if is_read_once else [*map(_message, messages)])}
    if call.kind == TOOL:
        return {"gen_ai.tool.call.arguments": _kept(inputs.get("kwargs", inputs))}
    if call.kind == MODULE:
        given = inputs.get("kwargs") or inputs.get("args") or {}
        return {"input.value": _kept(given)}
    return {}


def content_out(call: Call, outputs: Any) -> Attributes:
    """Return what a call returned, as it was then; a Span redacts it."""
    if outputs is None or call.kind in (EVALUATE, COMPILE, FORMAT):
        return {}
    if call.kind == LM:
        texts = outputs if isinstance(outputs, list) else [outputs]
        texts = [each.message.text if isinstance(each, dspy.lm15.Response) else each for each in texts]
        answers = [_message({"role": "assistant", "content": each}) for each in texts]
        return {"gen_ai.output.messages": _kept(answers)}
    if call.kind == TOOL:
        return {"gen_ai.tool.call.result": _kept(outputs)}
    return {"output.value": _kept(outputs)}


def _message(message: Any) -> Any:
    if not isinstance(message, Mapping):
        return message
    content = message.get("content")
    parts = [{"type": "text", "content": content}] if isinstance(content, str) else content
    return {"role": message.get("role"), "parts": parts}


def _kept(value: Any) -> Any:
    """Return a value as JSON has it, a copy: it may change later; of very long ones the beginning."""
    try:
        still = _Still().of(value)
        plain = to_jsonable_python(still, fallback=_fields, inf_nan_mode="constants", by_alias=False)
        return _trimmed(plain, [LONGEST_CONTENT])
    except Exception as error:  # border: how a value becomes a text is its class's
        return f"(a {type(value).__name__} that cannot be shown: {type(error).__name__})"


class _Still:
    """Names iterators in the place of what they would yield: to read one would take it from the program."""

    def __init__(self) -> None:
        self._left, self._named = _MOST_VALUES, 0

    def of(self, value: Any) -> Any:
        """Return a value without iterators, wherever they stand in it; of long ones the beginning."""
        self._left -= 1
        if self._left < 0:
            return self._instead("[cut]")
        if value is None or isinstance(value, _NUMBERS):
            return value
        if isinstance(value, str):
            return value[:LOOKED_AT]
        if isinstance(value, bytes | bytearray):
            self._named += len(value) > _MOST_BYTES
            return bytes(value[:_MOST_BYTES]).decode(errors="replace")
        if isinstance(value, Iterator):
            return self._instead(f"(a {type(value).__name__})")
        if isinstance(value, Enum):
            return self.of(value.value)
        if isinstance(value, _LISTS):
            self._named += len(value) > _MOST_ITEMS or isinstance(value, array)
            return [self.of(each) for each in [*islice(value, _MOST_ITEMS)]]
        if isinstance(value, dict | dspy.Example):  # a Prediction is one
            self._named += len(value) > _MOST_ITEMS
            return {name: self.of(each) for name, each in [*islice(value.items(), _MOST_ITEMS)]}
        named = self._named
        if isinstance(value, BaseModel):
            held = {**vars(value), **(value.__pydantic_extra__ or {})}
            hidden = {name for name, field in type(value).model_fields.items() if field.exclude}
            inside = {name: self.of(each) for name, each in held.items() if name not in hidden}
        elif is_dataclass(value) and not isinstance(value, type):
            inside = {each.name: self.of(getattr(value, each.name, None)) for each in fields(value)}
        return value if named == self._named else inside  # else as its class has it

    def _instead(self, words: str) -> str:
        self._named += 1
        return words


def _trimmed(value: Any, left: list[int]) -> Any:
    """Return a JSON value of which so many characters are left, in all its texts together."""
    if isinstance(value, str):
        kept = value[:LOOKED_AT]  # where redaction stops too; a cut elsewhere could halve what it would find
        left[0] -= len(kept)
        return kept if left[0] >= 0 else "[cut]"
    if isinstance(value, dict):
        return {
            name: _trimmed(each, left) for name, each in islice(value.items(), _MOST_ITEMS) if left[0] > 0
        }
    if isinstance(value, list):
        return [_trimmed(each, left) for each in value[:_MOST_ITEMS] if left[0] > 0]
    return value


def text_of(error: BaseException) -> str:
    """Return what an error says; its class may not let it."""
    try:
        return str(error)
    except Exception as other:  # border: somebody else's class
        return f"(words that cannot be shown: {type(other).__name__})"


def _fields(value: Any) -> Any:
    """Return predictions and examples as their fields, what else JSON has no form for as text."""
    if isinstance(value, dspy.Example):  # a Prediction is one
        return {str(name): each for name, each in value.items()}
    return getattr(value, "__name__", None) or str(value)


def line_of(span: Span) -> Attributes:
    """Return what one line of a log says of a span, in order."""
    line: Attributes = {
        "trace_id": f"{span.place.trace_id:032x}",
        "span_id": f"{span.place.span_id:016x}",
        "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "span": span.name,
        "ms": round((span.end_ns - span.start_ns) / 1e6, 3),
        "status": "ok" if span.error is None else "error",
    }
    line = {**line, **span.settled(), **line}  # an attribute may have the name of one of its own
    if span.events:
        line["events"] = [{"event": name, **facts} | {"event": name} for name, _, facts in span.events]
    return line
