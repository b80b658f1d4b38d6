"""What passes through the endpoint, as lines of a recording, and a recording in the place of the model.

Main path: Tapes.tape(client, channel) -> keep(client, line); Tapes.is_replayed(...) sends what is recorded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from course_lib.lm.endpoint import wire
from course_lib.lm.endpoint.accounts import Exchange
from course_lib.lm.endpoint.sending import HANG_LIMIT_S, Channel, ClientGoneError
from course_lib.lm.endpoint.wire import ApiError
from course_lib.lm.recordings import (
    CHAT,
    MOST_BYTES,
    Body,
    Recorded,
    RecordingError,
    canonical,
    key_of,
    missed,
)

_FIGURES = ("model", "profile", "fault", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd")
_EVENT = "text/event-stream"
_BROKEN, _LOOK_EVERY_S, _MOST_MISSES = b"", 5.0, 100

_log = logging.getLogger("course_lib.lm")


class Tape:
    """What the endpoint sends to one client, with the time of each piece."""

    def __init__(self, channel: Channel) -> None:
        """Listen to what is sent over `channel`."""
        self._begun_s = time.monotonic()
        self._messages: list[tuple[float, MutableMapping[str, Any]]] = []
        channel.listen(self._note)

    def _note(self, message: MutableMapping[str, Any]) -> None:
        self._messages.append((1000 * (time.monotonic() - self._begun_s), message))

    def entry(self, path: str, raw: bytes, exchange: Exchange) -> bytes | None:
        """Return the line for this exchange; None when what was asked is no JSON object."""
        try:
            request = wire.read_object(raw)
        except ApiError:
            return None
        start = next((each for _, each in self._messages if each["type"] == "http.response.start"), {})
        headers = {name.decode(): value.decode() for name, value in start.get("headers", ())}
        kind = headers.get("content-type", "")
        sent = [(ms, each) for ms, each in self._messages if each["type"] == "http.response.body"]
        is_whole = bool(sent) and not sent[-1][1].get("more_body")
        took_ms = 1000 * (time.monotonic() - self._begun_s)
        return Recorded(
            request=canonical(request),
            status=start.get("status", 0),
            headers=headers,
            pieces=tuple((round(ms, 2), _readable(each["body"], kind)) for ms, each in sent),
            end="whole" if is_whole else "left" if exchange.status == 499 else "cut",
            at=(datetime.now(UTC) - timedelta(milliseconds=took_ms)).isoformat(),
            took_ms=round(took_ms, 2),
            figures={name: getattr(exchange, name) for name in _FIGURES},
            path=path,
        ).as_line()


def _readable(sent: bytes, kind: str) -> Body | str:
    """Return JSON as JSON where that loses no byte, else text."""
    text = sent.removeprefix(b"data: ") if kind == _EVENT else sent
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    is_same = isinstance(value, dict) and _written(value, kind) == sent
    return value if is_same else sent.decode(errors="surrogateescape")


def _written(piece: Body | str, kind: str) -> bytes:
    if isinstance(piece, str):
        return piece.encode(errors="surrogateescape")
    return b"data: " + orjson.dumps(piece) + b"\n\n" if kind == _EVENT else orjson.dumps(piece)


class Replay:
    """A recording that answers: equal requests get their answers in the order in which they were recorded."""

    def __init__(self, recorded: Sequence[Recorded], *, pace: float = 0.0, asks: bool = False) -> None:
        """Make one.

        Args:
            recorded: what was asked and answered.
            pace: 0 sends at once, 1 as late as it was recorded.
            asks: whether the model is asked for what is not recorded; else that is an error.
        """
        self._recorded = recorded
        self._pace, self.asks = pace, asks
        self._left: dict[str, deque[Recorded]] = defaultdict(deque)
        for each in self._recorded:
            self._left[each.key].append(each)
        self.asked, self.misses = 0, list[str]()

    async def answer(self, path: str, raw: bytes, exchange: Exchange, channel: Channel) -> bool:
        """Send what is recorded for this request; return False if the model is to be asked instead.

        Raises:
            ApiError: 400 `not_recorded`, with the nearest recorded request and what differs.
        """
        request = wire.parse(raw).body if path == CHAT else {}
        asked = canonical(wire.read_object(raw))
        self.asked += 1
        waiting = self._left.get(key_of(path, asked))
        if not waiting:
            if self.asks:
                return False
            place = len(self.misses)
            self.misses += ["the nearest one was still looked for"] * (place < _MOST_MISSES)
            message = await asyncio.to_thread(missed, path, asked, self._recorded)  # others need the loop
            self.misses[place : place + 1] = [message] * (place < _MOST_MISSES)
            raise ApiError(400, "not_recorded", message)
        one = waiting.popleft()
        _enter(one, request, exchange)
        await self._play(one, exchange, channel)
        return True

    async def _play(self, one: Recorded, exchange: Exchange, channel: Channel) -> None:
        kind = one.headers.get("content-type", "")
        pieces = [
            (exchange.begun_s + self._pace * ms / 1000, _written(piece, kind)) for ms, piece in one.pieces
        ]
        headers = dict(one.headers)
        if one.end == "whole" and "content-length" in headers:  # an edited answer has another one
            headers["content-length"] = str(sum(len(piece) for _, piece in pieces))
        for number, (due_s, piece) in enumerate(pieces, 1):
            await channel.pause_until(due_s)
            is_last = number == len(pieces) and one.end == "whole"
            await channel.resend(one.status, headers, piece, is_last=is_last)
        if one.end == "left":
            await channel.hang(HANG_LIMIT_S)
        if one.end == "cut":
            await channel.cut()


def _enter(one: Recorded, request: Mapping[str, Any], exchange: Exchange) -> None:
    """Enter in the ledger what it had when this was recorded."""
    for name in set(_FIGURES) & one.figures.keys():
        setattr(exchange, name, one.figures[name])
    exchange.stream, exchange.messages = bool(request.get("stream")), request.get("messages", [])
    exchange.question = wire.question(exchange.messages) if exchange.messages else ""
    exchange.tools = [tool["function"]["name"] for tool in request.get("tools", ())]
    exchange.request_id = one.headers.get("x-request-id", exchange.request_id)
    exchange.retry_after_s = float(one.headers.get("retry-after-ms", 0)) / 1000
    exchange.reply, exchange.tool_calls = one.text or None, one.tool_calls
    exchange.status = one.status


class Tapes:
    """Who records, and what is replayed to whom."""

    def __init__(self, write: Callable[[bytes], None] | None = None, replay: Replay | None = None) -> None:
        """Record all clients by `write`, and replay one recording to all of them, if these are given."""
        self._write, self._replay = write, replay
        self._recorders: dict[tuple[str, str], asyncio.Queue[bytes | None]] = {}
        self._replays: dict[str, tuple[Replay, int]] = {}
        self._waiting_bytes = 0

    def tape(self, client: str, channel: Channel) -> Tape | None:
        """Return what will hold this exchange, if somebody records it."""
        is_recorded = self._write or any(each == client for each, _ in self._recorders)
        return Tape(channel) if is_recorded else None

    def keep(self, client: str, line: bytes | None) -> None:
        """Give a line to everybody who records this client."""
        if line is None:
            return
        if self._write:
            try:
                self._write(line)
            except RecordingError as error:
                self._write = None
                _log.error("%s", error)
        for place in [each for each in self._recorders if each[0] == client]:
            if self._waiting_bytes + len(line) > MOST_BYTES:
                self._recorders.pop(place).put_nowait(_BROKEN)
            else:
                self._recorders[place].put_nowait(line)
                self._waiting_bytes += len(line)

    async def stream(self, client: str, name: str, channel: Channel) -> None:
        """Send every line from now on as an event, until stop(); a client that leaves is forgotten."""
        lines = self._recorders[client, name] = asyncio.Queue()
        line: bytes | None = b": recording"
        try:
            while line:
                await channel.event(line + b"\n\n")
                line = await self._next(lines)
            await (channel.cut() if line == _BROKEN else channel.end())
        except ClientGoneError:
            return
        finally:
            self._recorders.pop((client, name), None)
            while not lines.empty():
                self._waiting_bytes -= len(lines.get_nowait() or b"")

    async def _next(self, lines: asyncio.Queue[bytes | None]) -> bytes | None:
        """Return the next line as an event; after a while without one, a comment that finds a client gone."""
        try:
            line = await asyncio.wait_for(lines.get(), _LOOK_EVERY_S)
        except TimeoutError:
            return b": still recording"
        self._waiting_bytes -= len(line or b"")
        return b"data: " + line.rstrip() if line else line

    def stop(self, client: str, name: str) -> None:
        """End a stream, behind the lines of all that has ended."""
        if lines := self._recorders.get((client, name)):
            lines.put_nowait(None)

    async def begin(self, client: str, values: Mapping[str, Any], size_bytes: int) -> None:
        """Replay the lines that a client sent, to that client, in place of what it replayed before.

        Raises:
            ApiError: 400 for what is no recording, 429 when the clients replay too much together.
        """
        self._replays.pop(client, None)
        if sum(size for _, size in self._replays.values()) + size_bytes > MOST_BYTES:
            raise ApiError(429, "too_many_recordings", "others replay large recordings; try again later")
        recorded = []
        try:
            for line in values["lines"]:
                recorded.append(Recorded.from_line(line.encode()))
                await asyncio.sleep(0)  # a long recording keeps nobody waiting
            replay = Replay(recorded, pace=float(values.get("pace", 0)), asks=bool(values.get("asks")))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ApiError(400, "invalid_value", f"this is no recording: {error!r}", param="lines") from None
        self._replays[client] = replay, size_bytes

    def finish(self, client: str) -> dict[str, Any]:
        """End a client's replay; return how much was asked, and what was not recorded.

        Raises:
            ApiError: 404 when nothing is replayed to it.
        """
        if client not in self._replays:
            message = "nothing is replayed any more: the endpoint was restarted, or another replay has ended"
            raise ApiError(404, "not_replaying", message)
        replay, _ = self._replays.pop(client)
        return {"asked": replay.asked, "misses": replay.misses}

    async def is_replayed(
        self, client: str, path: str, raw: bytes, exchange: Exchange, channel: Channel
    ) -> bool:
        """Answer from what is replayed to this client, if anything is; return whether that is done."""
        replay = self._replays[client][0] if client in self._replays else self._replay
        return replay is not None and await replay.answer(path, raw, exchange, channel)
