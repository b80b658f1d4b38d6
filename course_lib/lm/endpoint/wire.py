"""OpenAI's chat format: request bodies in, completions, chunks and errors out.

Main path: parse(bytes) -> ChatRequest; completion(request, replies) -> body; chunks(body) -> events.
"""

from __future__ import annotations

import hashlib
import math
import re
import reprlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from course_lib.errors import CourseError
from course_lib.lm import tokens
from course_lib.lm.profiles import split_model
from course_lib.lm.reply import Reply

DONE = b"data: [DONE]\n\n"
MAX_DEPTH, MAX_CONTAINERS = 100, 50_000
MAX_NAME = 200
MAX_TEXTS, MAX_TEXT_TOKENS = 2048, 8192
MAX_PROMPT_TOKENS = 128_000
MAX_REPLY_CHARS = 256_000
"""Of all choices together; what is beyond it is cut off."""


class ApiError(CourseError):
    """An error that goes to the client as OpenAI's error body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    def body(self) -> bytes:
        """Return the JSON that says it."""
        by_status = "invalid_request_error" if self.status < 500 else "server_error"
        kind = _ERROR_TYPES.get(self.code, by_status)
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})


def unknown_model(message: str) -> ApiError:
    """Return the error for a model or profile that there is not."""
    return ApiError(404, "model_not_found", message, param="model")


_ERROR_TYPES = {"rate_limit_exceeded": "requests", "insufficient_quota": "insufficient_quota"}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat request that has been checked."""

    body: dict[str, Any]
    """As sent, with `model` cut down to the model and unset (null) fields dropped."""
    full_model: str
    """Model and profile, as the client spelled them; goes back in the answer."""
    model: str
    profile: str
    prompt_tokens: int

    @property
    def is_stream(self) -> bool:
        """True when the answer is to come as events."""
        return bool(self.body.get("stream"))

    @property
    def wants_usage(self) -> bool:
        """True when the stream is to end with a usage chunk."""
        return bool((self.body.get("stream_options") or {}).get("include_usage"))

    @property
    def unstreamed(self) -> dict[str, Any]:
        """The body without what says how the answer is to be sent."""
        return {key: value for key, value in self.body.items() if key not in ("stream", "stream_options")}

    def identity(self) -> bytes:
        """Return the same bytes for every request that asks for the same thing."""
        return orjson.dumps(self.unstreamed, option=orjson.OPT_SORT_KEYS)


def parse(raw: bytes) -> ChatRequest:
    """Read and check a chat request.

    Raises:
        ApiError: 400, naming the field, what was found and what would be right.
    """
    body = read_object(raw)
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not 0 < len(model) <= MAX_NAME:
        raise _bad("model", model, 'a name such as "sim-large" or "sim-large@storm"')
    if not isinstance(messages, list) or not messages:
        raise _bad("messages", messages, 'a list such as [{"role": "user", "content": "Hello"}]')
    for at, message in enumerate(messages):
        _check_message(at, message)
    for name, (is_right, right) in _FIELDS.items():
        if name in body and not is_right(body[name]):
            raise _bad(name, body[name], right)
    chosen, profile = split_model(model)
    prompt_tokens = count_prompt(body)
    if prompt_tokens > MAX_PROMPT_TOKENS:
        message = f"the prompt has more than {MAX_PROMPT_TOKENS} tokens; send less context"
        raise ApiError(400, "context_length_exceeded", message, param="messages")
    return ChatRequest({**body, "model": chosen}, model, chosen, profile, prompt_tokens)


def parse_embeddings(raw: bytes, model: str, dimensions: int) -> dict[str, Any]:
    """Read and check a request for embeddings of up to so many dimensions; `input` is made a list.

    Raises:
        ApiError: as in `parse`.
    """
    body = {"model": model, "dimensions": dimensions, "encoding_format": "float", **read_object(raw)}
    texts = [body["input"]] if isinstance(body.get("input"), str) else body.get("input")
    if not isinstance(texts, list) or not 0 < len(texts) <= MAX_TEXTS or not all(map(_is_short, texts)):
        right = f"a text or a list of up to {MAX_TEXTS} texts, none of more than {MAX_TEXT_TOKENS} tokens"
        raise _bad("input", texts, right)
    if not isinstance(body["model"], str) or len(body["model"]) > MAX_NAME:
        raise _bad("model", body["model"], f'a name such as "{model}"')
    if not _is_in(1, dimensions, int)(body["dimensions"]):
        raise _bad("dimensions", body["dimensions"], f"a whole number from 1 to {dimensions}")
    return {**body, "input": texts}


def _is_short(text: Any) -> bool:
    return isinstance(text, str) and tokens.count(text, most=MAX_TEXT_TOKENS) <= MAX_TEXT_TOKENS


def read_object(raw: bytes) -> dict[str, Any]:
    """Read a JSON object; fields that are null count as unset."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        message = (
            f"the body is not JSON ({error}); send one JSON object, for instance "
            '{"model": "sim-large", "messages": [{"role": "user", "content": "Hello"}]}'
        )
        raise ApiError(400, "invalid_json", message) from None
    if not isinstance(body, dict):
        message = f"the body is JSON, but {reprlib.repr(body)}; send one JSON object, {{...}}"
        raise ApiError(400, "invalid_json", message)
    _check_nesting(body)
    return {key: value for key, value in body.items() if value is not None}


def _check_nesting(body: dict[str, Any]) -> None:
    level: list[Any] = [body]
    count = 0
    for _ in range(MAX_DEPTH):
        inner = [one.values() if isinstance(one, dict) else one for one in level]
        level = [one for part in inner for one in part if isinstance(one, dict | list)]
        count += len(level)
        if count > MAX_CONTAINERS:
            message = f"the body holds more than {MAX_CONTAINERS} objects and lists; send fewer"
            raise ApiError(400, "request_too_large", message)
    if level:
        message = f"the body is nested more than {MAX_DEPTH} deep; send it flatter"
        raise ApiError(400, "invalid_json", message)


_ROLES = ("assistant", "developer", "function", "system", "tool", "user")


def _check_message(at: int, message: Any) -> None:
    where = f"messages[{at}]"
    if not isinstance(message, dict):
        raise _bad(where, message, 'an object such as {"role": "user", "content": "Hello"}')
    if message.get("role") not in _ROLES:
        raise _bad(f"{where}.role", message.get("role"), f"one of {', '.join(_ROLES)}")
    content = message.get("content")
    if content is None and message["role"] != "assistant":
        raise _bad(f"{where}.content", content, "text; only an assistant's message may do without")
    parts = content if isinstance(content, list) else []
    is_right = all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in parts)
    if not is_right or not isinstance(content, str | list | None):
        right = 'text, or parts such as {"type": "text", "text": "Hello"}'
        raise _bad(f"{where}.content", content, right)


def _is_in(low: float, high: float, *kinds: type) -> Callable[[Any], bool]:
    return lambda value: type(value) in kinds and low <= value <= high


def _is_stop(value: Any) -> bool:
    stops = value if isinstance(value, list) else [value]
    return len(stops) <= 4 and all(isinstance(stop, str) for stop in stops)


def _is_tools(value: Any) -> bool:
    if not isinstance(value, list) or len(value) > 128:
        return False
    functions = [tool.get("function") if isinstance(tool, dict) else None for tool in value]
    return all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in functions)


def _is_choice(value: Any) -> bool:
    function = value.get("function") if isinstance(value, dict) else None
    return value in ("none", "auto", "required") if isinstance(value, str) else isinstance(function, dict)


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "stream": (lambda v: isinstance(v, bool), "true or false"),
    "stream_options": (lambda v: isinstance(v, dict), 'an object such as {"include_usage": true}'),
    "temperature": (_is_in(0, 2, int, float), "a number from 0 to 2"),
    "top_p": (_is_in(0, 1, int, float), "a number from 0 to 1"),
    "n": (_is_in(1, 128, int), "a whole number from 1 to 128"),
    "max_tokens": (_is_in(1, math.inf, int), "a whole number, 1 or more"),
    "max_completion_tokens": (_is_in(1, math.inf, int), "a whole number, 1 or more"),
    "stop": (_is_stop, "a text or a list of up to 4 texts"),
    "tools": (_is_tools, 'up to 128, such as [{"type": "function", "function": {"name": "search", ...}}]'),
    "tool_choice": (
        _is_choice,
        'none, auto, required or {"type": "function", "function": {"name": "search"}}',
    ),
    "response_format": (
        lambda v: isinstance(v, dict) and "type" in v,
        'an object such as {"type": "json_object"}',
    ),
}


def _bad(name: str, value: Any, right: str) -> ApiError:
    code, found = ("missing_field", "missing") if value is None else ("invalid_value", reprlib.repr(value))
    return ApiError(400, code, f"{name} is {found}; it should be {right}", param=name)


_FORM = re.compile("\n\nRespond with (?:the corresponding output fields|a JSON object)")


def question(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return a short name of what is asked, the same for each way in which DSPy's adapters ask it.

    After an answer that it cannot read, DSPy asks again with another system prompt and another last line.
    """
    contents = [message.get("content") for message in messages if message["role"] in ("user", "tool")]
    asked = [_FORM.split(each)[0] if isinstance(each, str) else each for each in contents]
    return hashlib.blake2b(orjson.dumps(asked or messages), digest_size=8).hexdigest()


# -- counting ------------------------------------------------------------------------------------------

MESSAGE_TOKENS = 4  # role and separators, as OpenAI counts them
PART_TOKENS = 85  # an image, or another part that is not text


def count_prompt(body: Mapping[str, Any]) -> int:
    """Return the tokens of messages, tools and response schema; past MAX_PROMPT_TOKENS, counting stops."""
    total = 0
    for text, fixed in prompt_parts(body):
        total += fixed or tokens.count(text, most=MAX_PROMPT_TOKENS - total)
        if total > MAX_PROMPT_TOKENS:
            break
    return total


def prompt_parts(body: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield a prompt's parts in the order in which a provider reads them: text, and its tokens or 0."""
    for name in ("tools", "response_format"):
        if body.get(name):
            yield orjson.dumps(body[name]).decode(), 0
    for message in body["messages"]:
        yield f"\n<{message['role']}>", MESSAGE_TOKENS
        content = message.get("content") or ""
        for part in content if isinstance(content, list) else [{"text": content}]:
            is_text = isinstance(part.get("text"), str)
            yield (part["text"], 0) if is_text else (orjson.dumps(part).decode(), PART_TOKENS)
        if message.get("tool_calls"):
            yield orjson.dumps(message["tool_calls"]).decode(), 0


# -- answers -------------------------------------------------------------------------------------------


def completion(
    request: ChatRequest, replies: Sequence[Reply], *, cached_tokens: int | None = None
) -> dict[str, Any]:
    """Return the body of a chat completion, cut at `stop` and at the token limit.

    `cached_tokens` of the prompt came from the prompt cache; None: the prompt is too short for one.
    """
    limit = request.body.get("max_completion_tokens") or request.body.get("max_tokens")
    stop = request.body.get("stop", ())
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    most = MAX_REPLY_CHARS // max(1, len(replies))
    choices = [_choice(index, reply, limit, stops, most) for index, reply in enumerate(replies)]
    calls = [call for one in choices for call in one["message"].get("tool_calls", ())]
    identity = request.identity() if calls else b""
    for at, call in enumerate(calls):
        seed = b"%d %s %s" % (at, orjson.dumps(call["function"]), identity)
        call["id"] = f"call_{hashlib.blake2b(seed, digest_size=8).hexdigest()}"
    written = sum(count_message(choice["message"]) for choice in choices)
    used: dict[str, Any] = usage(request.prompt_tokens, written)
    if cached_tokens is not None:
        used["prompt_tokens_details"] = {"cached_tokens": cached_tokens}
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.full_model,
        "choices": choices,
        "usage": used,
    }


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return the usage object of an answer."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def count_message(message: Mapping[str, Any]) -> int:
    """Return the tokens of an answer's message: its text, and its tool calls' names and arguments."""
    called = [call["function"] for call in message.get("tool_calls") or ()]
    texts = [message.get("content"), *(each[name] for each in called for name in ("name", "arguments"))]
    return sum(tokens.count(text) for text in texts if isinstance(text, str))


def _choice(
    index: int, reply: Reply, limit: int | None, stops: Sequence[str], most_chars: int
) -> dict[str, Any]:
    text, reason = reply.text, reply.finish_reason
    if text is not None and len(text) > most_chars:
        text, reason = text[:most_chars], "length"
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reply.tool_calls:
        reason = "tool_calls"
        called = [
            {"name": call.name, "arguments": orjson.dumps(call.arguments).decode()}
            for call in reply.tool_calls
        ]
        message["tool_calls"] = [{"id": "", "type": "function", "function": one} for one in called]
    if text:
        ends = [at for at in (text.find(stop) for stop in stops if stop) if at >= 0]
        if ends:
            message["content"] = text = text[: min(ends)]
        if limit is not None and tokens.count(text) > limit:
            message["content"] = "".join(tokens.split(text)[:limit])
            reason = "length"
    return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}


def chunks(body: Mapping[str, Any], *, with_usage: bool) -> Iterator[bytes]:
    """Yield the completion `body` as server-sent events, one token each, without the closing [DONE]."""
    frame = {key: body[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}

    def event(index: int, delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return b"data: " + orjson.dumps({**frame, "choices": [choice]}) + b"\n\n"

    for choice in body["choices"]:
        index, message = choice["index"], choice["message"]
        yield event(index, {"role": "assistant", "content": "" if message.get("content") else None})
        for piece in tokens.split(message.get("content") or ""):
            yield event(index, {"content": piece})
        for at, call in enumerate(message.get("tool_calls") or ()):
            called = {**call, "index": at, "function": {"name": call["function"]["name"], "arguments": ""}}
            yield event(index, {"tool_calls": [called]})
            for piece in tokens.split(call["function"]["arguments"]):
                yield event(index, {"tool_calls": [{"index": at, "function": {"arguments": piece}}]})
        if choice["finish_reason"]:
            yield event(index, {}, choice["finish_reason"])
    if with_usage:
        yield b"data: " + orjson.dumps({**frame, "choices": [], "usage": body.get("usage")}) + b"\n\n"
