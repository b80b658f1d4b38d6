"""One HTTP exchange as the endpoint drives it: wait, answer, stream, hang, or cut the line.

Main path: Channel.json(status, body), or Channel.event(data) ... Channel.end(). Pauses notice who leaves.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from course_lib.errors import CourseError
from course_lib.lm.endpoint.accounts import Exchange
from course_lib.lm.endpoint.wire import DONE, ApiError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

MAX_BODY_BYTES = 32 * 1024 * 1024
_WATCHED_PAUSE_S = 0.02
"""Shorter pauses do not look whether the client is still there; looking costs more than the pause."""


class ClientGoneError(CourseError):
    """The client closed the connection before it had its answer, or the endpoint cut it."""


class Channel:
    """The connection under one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._exchange = exchange
        self.is_started = False

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
        async def gone() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass

        try:
            await asyncio.wait_for(gone(), limit_s)
        except TimeoutError:
            return False
        return True

    async def cut(self) -> None:
        """Close the connection as a failing network would, after what has been sent so far."""
        transport = self._scope["course.transport"]
        transport.close()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def json(self, status: int, body: bytes, headers: Headers = ()) -> None:
        """Send a whole answer."""
        await self._start(status, b"application/json", ((b"content-length", b"%d" % len(body)), *headers))
        await self._send({"type": "http.response.body", "body": body})

    async def json_cut(self, body: bytes, share: float) -> None:
        """Send a share of an answer, then cut the line."""
        await self._start(200, b"application/json", ((b"content-length", b"%d" % len(body)),))
        await self._send(
            {"type": "http.response.body", "body": body[: int(len(body) * share)], "more_body": True}
        )
        await self.cut()

    async def error(self, error: ApiError) -> None:
        """Send an error body, or an error event if the answer has begun."""
        if self.is_started:
            await self.event(b"data: " + error.body() + b"\n\n")
            await self.end()
        else:
            headers: list[tuple[bytes, bytes]] = []
            if error.retry_after_s is not None:  # the header counts in whole seconds
                headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
            await self.json(error.status, error.body(), headers)

    async def event(self, data: bytes) -> None:
        """Send one server-sent event."""
        if not self.is_started:
            await self._start(200, b"text/event-stream", ((b"cache-control", b"no-cache"),))
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """End the stream as OpenAI does."""
        await self._send({"type": "http.response.body", "body": DONE})

    async def _start(self, status: int, kind: bytes, headers: Headers) -> None:
        self.is_started = True
        self._exchange.status = status
        self._exchange.first_byte_s = time.monotonic()
        await self._send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *headers]}
        )


async def read_body(receive: Receive) -> bytes:
    """Read the whole request body.

    Raises:
        ApiError: 413 when it is larger than MAX_BODY_BYTES.
        ClientGoneError: when the client leaves before it is complete.
    """
    parts: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError("the client left while sending its request")
        part = message.get("body", b"")
        size_bytes += len(part)
        if size_bytes > MAX_BODY_BYTES:
            too_large = f"the body is larger than {MAX_BODY_BYTES >> 20} MB; send less context"
            raise ApiError(413, "body_too_large", too_large)
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)
