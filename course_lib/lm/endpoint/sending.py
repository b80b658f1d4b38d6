"""How an answer leaves the endpoint, as its plan says: late, slowly, malformed, in part, or not at all.

Main path: fail_early(plan, ...), then whole(body, ...) or stream(body, ...), over the request's Channel.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from course_lib.errors import CourseError
from course_lib.lm import prices, tokens
from course_lib.lm.endpoint import faults, wire
from course_lib.lm.endpoint.accounts import Exchange, Usage
from course_lib.lm.endpoint.faults import Plan
from course_lib.lm.endpoint.wire import DONE, ApiError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

MAX_BODY_BYTES = 1024 * 1024
MAX_BODY_S = 60.0
"""Time for a body to arrive in."""
SMALL_BYTES = 32 * 1024
"""Bodies up to this size are always let in, and worked on at once."""
MAX_HELD_BYTES = 64 * 1024 * 1024
"""Size of all requests under way; when it is reached, only small ones are let in."""
_WATCHED_PAUSE_S = 0.02
"""Shorter pauses do not look whether the client is still there; looking costs more than the pause."""


class ClientGoneError(CourseError):
    """The client closed the connection before it had its answer, or the endpoint cut it."""


@dataclass(slots=True)
class Load:
    """What all requests under way hold."""

    held_bytes: int = 0


class Channel:
    """The connection under one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange, load: Load) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._exchange = exchange
        self._load = load
        self._held_bytes = 0
        self.is_started = False
        exchange.request_id = f"req_{secrets.token_hex(12)}"

    def listen(self, tap: Callable[[MutableMapping[str, Any]], None]) -> None:
        """Tell `tap` all that is sent from now on."""
        send = self._send

        async def tapped(message: MutableMapping[str, Any]) -> None:
            tap(message)
            await send(message)

        self._send = tapped

    def hold(self, size_bytes: int) -> None:
        """Count `size_bytes` more as held by this request.

        Raises:
            ApiError: 429 when the requests under way hold too much, and this one is not small.
        """
        self._held_bytes += size_bytes
        self._load.held_bytes += size_bytes
        if self._held_bytes > SMALL_BYTES and self._load.held_bytes > MAX_HELD_BYTES:
            message = "too many large requests are under way; try again, or send smaller ones"
            raise ApiError(429, "rate_limit_exceeded", message, retry_after_s=1)

    def release(self) -> None:
        """Hold nothing more: the request has ended."""
        self._load.held_bytes -= self._held_bytes
        self._held_bytes = 0

    async def body(self, most_bytes: int = MAX_BODY_BYTES) -> bytes:
        """Read the whole request body.

        Raises:
            ApiError: 413 when it is larger than `most_bytes`, 408 when it takes longer than MAX_BODY_S,
                429 as in `hold`.
            ClientGoneError: when the client leaves before it is complete.
        """
        body = bytearray()
        try:
            async with asyncio.timeout(MAX_BODY_S):
                while await self._read_into(body, most_bytes):
                    pass
        except TimeoutError:
            message = f"the body did not arrive within {MAX_BODY_S:g} s; send it faster"
            raise ApiError(408, "body_too_slow", message) from None
        return bytes(body)

    async def _read_into(self, body: bytearray, most_bytes: int) -> bool:
        """Read what has come of the body; returns whether there is more."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client left while sending its request")
        part = message.get("body", b"")
        body += part
        if len(body) > most_bytes:
            too_large = f"the body is larger than {most_bytes >> 20} MB; send less context"
            raise ApiError(413, "body_too_large", too_large)
        self.hold(len(part))
        return bool(message.get("more_body"))

    async def pause_until(self, due_s: float) -> None:
        """Wait until the clock shows `due_s`.

        Raises:
            ClientGoneError: when the client leaves meanwhile.
        """
        wait_s = due_s - time.monotonic()
        if wait_s <= 0:
            return
        if wait_s < _WATCHED_PAUSE_S:
            await asyncio.sleep(wait_s)
        elif await self._leaves_within(wait_s):
            raise ClientGoneError("the client left before its answer was due")

    async def hang(self, limit_s: float) -> None:
        """Say nothing until the client gives up; cut the line if it has not after `limit_s`."""
        if not await self._leaves_within(limit_s):
            await self.cut()
        raise ClientGoneError("the client gave up")

    async def _leaves_within(self, limit_s: float) -> bool:
        try:
            await asyncio.wait_for(self._gone(), limit_s)
        except TimeoutError:
            return False
        return True

    async def cut(self) -> None:
        """Close the connection as a failing network would, after what has been sent so far."""
        self._scope["course.transport"].close()
        await self._gone()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def json(self, status: int, body: bytes, headers: Headers = (), *, share: float = 1.0) -> None:
        """Send an answer, or a share of it; then cut the line."""
        await self._start(status, b"application/json", ((b"content-length", b"%d" % len(body)), *headers))
        sent, is_cut = body[: int(len(body) * share)], share < 1
        await self._send({"type": "http.response.body", "body": sent, "more_body": is_cut})
        if is_cut:
            await self.cut()

    async def error(self, error: ApiError) -> None:
        """Send an error body, or an error event if the answer has begun."""
        if self.is_started:
            await self.event(b"data: " + error.body() + b"\n\n")
            await self.end()
        else:
            headers: list[tuple[bytes, bytes]] = []
            if error.retry_after_s is not None:  # the first header counts in whole seconds
                self._exchange.retry_after_s = error.retry_after_s
                headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
                headers.append((b"retry-after-ms", b"%d" % math.ceil(error.retry_after_s * 1000)))
            await self.json(error.status, error.body(), headers)

    async def event(self, data: bytes) -> None:
        """Send one server-sent event.

        Raises:
            ClientGoneError: when the client has left; pauses too short to be watched do not tell.
        """
        if self._scope["course.transport"].is_closing():
            raise ClientGoneError("the client left while its answer was written")
        if not self.is_started:
            await self._start(200, b"text/event-stream", ((b"cache-control", b"no-cache"),))
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """End the stream as OpenAI does."""
        await self._send({"type": "http.response.body", "body": DONE})

    async def resend(self, status: int, headers: Mapping[str, str], piece: bytes, *, is_last: bool) -> None:
        """Send a piece of an answer that was recorded, behind its headers."""
        if self._scope["course.transport"].is_closing():
            raise ClientGoneError("the client left while its answer was written")
        if not self.is_started:
            self._begin(status)
            plain = [(name.encode(), value.encode()) for name, value in headers.items()]
            await self._send({"type": "http.response.start", "status": status, "headers": plain})
        await self._send({"type": "http.response.body", "body": piece, "more_body": not is_last})

    def _begin(self, status: int) -> None:
        self.is_started = True
        self._exchange.status = status
        self._exchange.first_byte_s = time.monotonic()

    async def _start(self, status: int, kind: bytes, headers: Headers) -> None:
        self._begin(status)
        own = ((b"content-type", kind), (b"x-request-id", self._exchange.request_id.encode()))
        all_headers = [*own, *self._exchange.limit_headers, *headers]
        await self._send({"type": "http.response.start", "status": status, "headers": all_headers})


HANG_LIMIT_S = 120.0
"""A hanging request is cut after this long, as a load balancer would; most clients wait longer by default."""
_FIRST_WAIT_S = 1.0  # asked for by a `rate_limited` among a profile's first requests


async def fail_early(
    plan: Plan, exchange: Exchange, channel: Channel, *, retry_after_s: float | None = None
) -> None:
    """Play the faults that leave no answer; a 503 asks for `retry_after_s` of patience."""
    if plan.fault == "rate_limited":
        message = "too many requests (fault of the profile); try again"
        raise ApiError(429, "rate_limit_exceeded", message, retry_after_s=retry_after_s or _FIRST_WAIT_S)
    if plan.fault == "hang" or (plan.fault == "stall" and not exchange.stream):
        await channel.hang(HANG_LIMIT_S)
    if plan.fault not in {"error", "unavailable", "cut_before"}:
        return
    exchange.due_s = plan.ttft_s
    await channel.pause_until(exchange.begun_s + plan.ttft_s)
    if plan.fault == "cut_before":
        await channel.cut()
        raise ClientGoneError("the profile cut the connection")
    if plan.fault == "error":
        raise ApiError(500, "server_error", "the model failed on this request (fault of the profile)")
    message = "the model is overloaded (fault of the profile); try again later"
    raise ApiError(503, "overloaded", message, retry_after_s=retry_after_s)


def corrupt(body: dict[str, Any], plan: Plan, prompt_tokens: int) -> None:
    """Malform the answer's texts, and the arguments of its tool calls."""
    assert plan.fault is not None
    for choice in body["choices"]:
        message = choice["message"]
        if message.get("content"):
            message["content"] = faults.corrupt(message["content"], plan.fault, plan.spot)
        for call in message.get("tool_calls") or ():
            function = call["function"]
            function["arguments"] = faults.corrupt(function["arguments"], plan.fault, plan.spot)
        if plan.fault == "cut_by_length":
            choice["finish_reason"] = "length"
        elif plan.fault == "no_finish":
            choice["finish_reason"] = None
    written = sum(wire.count_message(choice["message"]) for choice in body["choices"])
    body["usage"] = body["usage"] | wire.usage(prompt_tokens, written)


def bill(exchange: Exchange, usage: Usage, used: dict[str, Any]) -> None:
    """Enter tokens and cost, and charge the tokens against the profile's limit."""
    counts = tokens.reported(used)
    exchange.prompt_tokens, exchange.completion_tokens, exchange.cached_tokens = counts
    exchange.cost_usd = prices.cost_usd(exchange.model, *counts)
    usage.charge("tokens", exchange.prompt_tokens + exchange.completion_tokens)


async def whole(body: dict[str, Any], plan: Plan, exchange: Exchange, channel: Channel) -> None:
    """Send the answer in one piece, when the last token would be written."""
    exchange.due_s = plan.ttft_s + plan.writing_s(exchange.completion_tokens)
    await channel.pause_until(exchange.begun_s + exchange.due_s)
    share = plan.spot if plan.fault == "cut_midway" else 1.0
    raw = orjson.dumps(body)
    await channel.json(200, raw[: len(raw) // 2] if plan.fault == "broken_chunk" else raw, share=share)


async def stream(
    body: dict[str, Any], wants_usage: bool, plan: Plan, exchange: Exchange, channel: Channel
) -> None:
    """Send the answer token by token, at the plan's speed."""
    fails_at = None
    if plan.fault in {"cut_midway", "stall", "broken_chunk"}:
        count = sum(1 for _ in wire.chunks(body, with_usage=wants_usage))
        fails_at = max(1, int(count * plan.spot))
    if plan.fault != "stall":
        exchange.due_s = plan.ttft_s + plan.writing_s(exchange.completion_tokens)
    due_s = exchange.begun_s + plan.ttft_s
    most = None if plan.fault == "broken_chunk" else fails_at
    for number, event in enumerate(islice(wire.chunks(body, with_usage=wants_usage), most)):
        await channel.pause_until(due_s)
        if number % 64 == 0:
            await asyncio.sleep(0)  # a long answer keeps nobody waiting
        is_broken = plan.fault == "broken_chunk" and number == fails_at
        await channel.event(event[: len(event) // 2] + b"\n\n" if is_broken else event)
        due_s += plan.writing_s(1)
    if plan.fault == "stall":
        await channel.hang(HANG_LIMIT_S)
    elif plan.fault == "cut_midway":
        await channel.cut()
    else:
        await channel.end()
