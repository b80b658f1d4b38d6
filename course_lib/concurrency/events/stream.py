"""Events in a Redis stream: those that are published and not yet acknowledged, at most `bound` of them.

Main path: await stream.publish(Event("ticket", {...})); a Consumer (consumer.py) handles and acknowledges it.
Source: XADD, XREADGROUP, XAUTOCLAIM, XACK (Redis from 6.2, Valkey; no cluster) over redis-py 8.1.

An acknowledged event is deleted, so the length of the stream is the backlog. `XADD ... MAXLEN` is no
backpressure: it deletes the oldest events, handled or not, and tells nobody. Here the producer waits.

After a kill of the server there is what it keeps on disk: with `appendonly yes` and `appendfsync always` each
event whose publish() has returned, without `appendonly` nothing. Then consumers go on with what is published
from then on, and producers publish again what has no effect yet (`Effects.missing`). With `maxmemory-policy
allkeys-lru`, a full server deletes whole streams; it has to be `noeviction`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4

import redis.asyncio
from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from course_lib.errors import CourseError
from course_lib.resilience import retry
from course_lib.services import ServerError, shown

GROUP = "workers"
_BLOCK_MS = 100
_ANSWER_S = 5.0
_POLL_S = 0.02
_AWAY = (redis.ConnectionError, redis.TimeoutError, TimeoutError)
_PASSING = re.compile(  # before Redis 7, what a script raises is an ERR that ends with it
    r"(?:ERR .*: -)?(?:READONLY|OOM|NOREPLICAS|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|BUSY|MISCONF) "
)
_NO_GROUP = ("NOGROUP", "UNBLOCKED")  # the stream is new, or was lost with a server that was killed

# Adds as many events as there is room for, in one step: the bound holds for many producers.
_ADD = """
local count = math.max(0, math.min(#ARGV - 1, ARGV[1] - redis.call('XLEN', KEYS[1])))
for at = 2, count + 1 do redis.call('XADD', KEYS[1], '*', 'event', ARGV[at]) end
return count
"""
# Takes an entry out of the group and the stream; the one consumer that does it may leave a dead letter.
_END = """
redis.call('XLEN', KEYS[2]) -- where that is no stream, it is told before anything is done
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 1 and ARGV[4] then
    redis.call('XADD', KEYS[2], '*', 'event', ARGV[3], 'reason', ARGV[4])
end
return redis.call('XDEL', KEYS[1], ARGV[2])
"""
# Takes names out of the group; with a name that holds events, these would go, too.
_FORGET = """
local names = redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1]) or {}
for _, name in ipairs(names) do
    if name[4] == 0 then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name[2]) end
end
"""


class EventError(CourseError):
    """An event that can never be handled: not readable, or without what its handler needs."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. The same tenant, kind and id again is the same event again."""

    kind: str
    data: dict[str, Any]
    """What can be JSON."""
    tenant: str = ""
    """On whose behalf it is handled."""
    id: str = field(default_factory=lambda: uuid4().hex)


_EVENT = TypeAdapter(Event)
DELIVERY: ContextVar[dict[str, bool]] = ContextVar("delivery")
"""Of the event that is handled: whether its handler waits, or waited to the end, for room in a stream."""


class Entry(NamedTuple):
    """A place in the stream: a delivered event, or a dead letter."""

    id: bytes
    fields: Mapping[bytes, bytes]

    @property
    def reason(self) -> str:
        """Why a dead letter was given up; empty where somebody else wrote it and said nothing."""
        return self.fields.get(b"reason", b"").decode(errors="replace")

    def event(self) -> Event:
        """Return the event; EventError if somebody else wrote something else here."""
        try:
            return _EVENT.validate_json(self.fields.get(b"event", b""))
        except ValidationError as error:
            raise EventError(f"this entry holds no event: {error.errors()[0]['msg']}") from None


class EventStream:
    """A stream, its one group of consumers, and its dead letters; for the tasks of one event loop."""

    def __init__(self, url: str, name: str, *, bound: int = 1000, patience_s: float = 10.0) -> None:
        """Take an address; nothing is sent yet.

        Args:
            url: redis://, rediss:// or unix://.
            name: the stream's key; `{name}:dead` is that of its dead letters.
            bound: how many events may wait or be under way before publish() waits.
            patience_s: how long a command is repeated while Redis is away, full or read-only, before
                ServerError; what waiting does not mend, such as a missing permission, is told at once.
        """
        if not (bound >= 1 and patience_s >= 0):  # NaN is neither
            raise ValueError(f"bound={bound!r} has to be 1 or more, and patience_s={patience_s!r} 0 or more")
        self.name, self.bound = name, bound
        self._dead, self._address, self._patience_s = f"{name}:dead", shown(url), patience_s
        self._cursor = b"0-0"
        # One layer repeats, ours, which stops at a deadline. One ends an answer that does not come, ours too:
        # redis-py's is asyncio.wait_for, which in Python 3.11 may swallow a cancellation.
        plainly: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": None}
        try:
            self._redis: Any = redis.asyncio.Redis.from_url(url, protocol=2, driver_info=None, **plainly)
            self._redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
            if self._address not in url or "@" in url.partition("?")[2]:
                raise ValueError("a / ? # or @ in a password may have cut it, and a part of it be the host")
        except (ValueError, TypeError, AttributeError):  # whose words may hold a part of it
            raise ServerError(
                "the Redis address is not of the form redis://:password@host:6379/0, rediss://... or "
                "unix:///path; correct it, and write / ? # @ in a password as %2F %3F %23 %40"
            ) from None
        self._patiently = retry(is_retryable=_may_pass, attempts=None, deadline_s=patience_s)

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._redis.aclose()

    async def publish(self, *events: Event) -> None:
        """Publish events in this order; while the backlog is at its bound, wait (see `asyncio.timeout`).

        If it fails or is cancelled, publish all of them again: consumers know them by their ids.

        Raises:
            ServerError: Redis is away or full for longer than `patience_s`, or refuses.
            EventError: an event cannot be JSON; a NaN cannot.
        """
        texts = [_text(event) for event in events]
        while texts:
            count = await self._send(self._redis.eval, _ADD, 1, self.name, self.bound, *texts[:100])
            texts = texts[count:]
            DELIVERY.get({})["waits_for_room"] = bool(texts)
            if not count:
                await asyncio.sleep(_POLL_S)

    async def backlog(self) -> int:
        """Return how many events wait or are under way."""
        return int(await self._send(self._redis.xlen, self.name))

    async def drained(self) -> None:
        """Wait until nothing waits and nothing is under way (see `asyncio.timeout`)."""
        while await self.backlog():  # noqa: ASYNC110  (other processes handle them)
            await asyncio.sleep(_POLL_S)

    async def read(self, consumer: str, count: int) -> list[Entry]:
        """Return up to `count` events that nobody had before; none, if none comes within 100 ms."""
        places = {self.name: ">"}
        found = await self._in_group(self._redis.xreadgroup, GROUP, consumer, places, count, _BLOCK_MS)
        return [Entry(*entry) for _, entries in found for entry in entries]

    async def claim(self, consumer: str, idle_s: float, count: int) -> list[Entry]:
        """Take over up to `count` events that were neither acknowledged nor renewed for `idle_s`.

        Of many that are under way it looks at a part, and at the next part when it is called again.
        """
        whose, idle_ms = (self.name, GROUP, consumer), int(1000 * idle_s)
        found = await self._in_group(self._redis.xautoclaim, *whose, idle_ms, self._cursor, count)
        self._cursor = found[0]
        return [Entry(*entry) for entry in found[1]]

    async def renew(
        self, consumer: str, ids: list[bytes], *, idle_s: float = 0.0, deliveries: int | None = None
    ) -> None:
        """Say that these events are under way, or were last `idle_s` ago; it counts as no delivery.

        `deliveries` if given is from now on how often they were delivered.
        """
        how = {"idle": int(1000 * idle_s), "retrycount": deliveries, "justid": True}
        await self._in_group(self._redis.xclaim, self.name, GROUP, consumer, 0, ids, **how)

    async def deliveries(self, entry: Entry) -> int:
        """Return how often an event was delivered; 0 when it is acknowledged."""
        pending = await self._in_group(self._redis.xpending_range, self.name, GROUP, entry.id, entry.id, 1)
        return pending[0]["times_delivered"] if pending else 0

    async def acknowledge(self, entry: Entry) -> None:
        """Say that an event is handled; it leaves the stream."""
        await self._send(self._redis.eval, _END, 2, self.name, self._dead, GROUP, entry.id)

    async def bury(self, entry: Entry, reason: str) -> None:
        """Move an event to the dead letters, for operators: the reason may quote what a service said."""
        letter = (entry.fields.get(b"event") or repr(entry.fields), reason)
        await self._send(self._redis.eval, _END, 2, self.name, self._dead, GROUP, entry.id, *letter)

    async def forget_names(self) -> None:
        """Remove the names that hold no event; a consumer that lives has its own again when it reads."""
        await self._in_group(self._redis.eval, _FORGET, 1, self.name, GROUP)

    async def dead_letters(self) -> list[Entry]:
        """Return the events that were given up, oldest first, each with its `reason`; they stay."""
        return [Entry(*entry) for entry in await self._send(self._redis.xrange, self._dead)]

    async def revive(self, letter: Entry) -> None:
        """Publish a dead letter's event again, whatever the backlog: once its cause is mended.

        Raises:
            EventError: the letter holds no event.
        """
        letter.event()
        await self._send(self._redis.xadd, self.name, {b"event": letter.fields[b"event"]})
        await self._send(self._redis.xdel, self._dead, letter.id)

    async def _in_group(self, command: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Send a command; where the group is missing, make it first, at the beginning of the stream."""
        try:
            return await self._send(command, *arguments, **options)
        except ServerError as error:
            if not any(code in str(error) for code in _NO_GROUP):
                raise
        try:
            await self._send(self._redis.xgroup_create, self.name, GROUP, "0", mkstream=True)
        except ServerError as error:
            if "refuses: OOM" in str(error):
                raise ServerError(
                    f"{error}; it is full before anybody reads {self.name!r}: raise its maxmemory, or delete "
                    "something, until the consumers' group is made; then they make room themselves"
                ) from error
            if "BUSYGROUP" not in str(error):  # another consumer was first
                raise
        return await self._send(command, *arguments, **options)

    async def _send(self, command: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Send a command, again while Redis is away, or refuses what it may take later."""

        async def once() -> Any:
            async with asyncio.timeout(_ANSWER_S):
                return await command(*arguments, **options)

        try:
            return await self._patiently(once)()
        except (redis.RedisError, TimeoutError) as error:
            problem = f"refuses: {_words(error):.160}; correct that"
            if _is_away(error):
                waited = f"has not answered for {self._patience_s:g} s"
                problem = f"{waited} ({type(error).__name__}); start it again"
            raise ServerError(
                f"Redis at {self._address} {problem}, and publish again what was not published"
            ) from error


def _text(event: Event) -> bytes:
    try:
        plain = to_jsonable_python(event, inf_nan_mode="constants")
        return json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()
    except ValueError as error:
        raise EventError(f"event {event.id!r} cannot be JSON: {error}") from None


def _is_away(error: Exception) -> bool:
    return isinstance(error, _AWAY) and not isinstance(error, redis.AuthenticationError)


def _may_pass(error: Exception) -> bool:
    return _is_away(error) or bool(_PASSING.match(_words(error)))


def _words(error: Exception) -> str:
    """Return what Redis says, its code first, in one line; and not what it was asked, perhaps a login."""
    said = f"{getattr(error, 'status_code', None) or ''} {error}".partition(", with args")[0]
    return " ".join(said.split())
