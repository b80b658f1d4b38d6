"""The shared tier: answers that every process sees, in Redis, which may fail at any time without harm.

Main path: get(key) -> one GETRANGE within `deadline_s`; put(key, value, ttl_s=...) -> one script that sets
the value with its time to live and notes its tags. An error is a miss; then Redis is left alone for a moment.
Source: redis-py 8.1; any server that speaks Redis 5 or later, but no cluster (a script touches several keys).

What Redis may do, and what comes of it. Down, restarted, stopped or slow: one deadline lost, then misses
without delay and a try now and then. Full and refusing writes: reads go on. Evicting: entries and notes of
tags leave, so each entry carries its tags too, and drop_tag() looks through all once anything was evicted.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from course_lib.caching.redis_script import PUT, first_bytes
from course_lib.caching.tiers import Rest, as_bytes
from course_lib.services.redis import RedisServerError, shown

T = TypeVar("T")

LARGEST_BYTES = 8 * 1024 * 1024
_LONGEST_REST = 8
"""In first rests."""
_MOST_CONNECTIONS = 64
_CHUNK = 500
_MARK_BYTES = 8
_MOST_TAGS = 32
_MOST_OWED = 1000
_FOR_EVER_S = 10 * 365 * 86400
_NOTHING: list[bytes] = []
_ALL_BUSY = "No connection available"
_REFUSALS = (redis.exceptions.OutOfMemoryError, redis.ReadOnlyError)
_REFUSED_WRITES = ("OOM", "MISCONF", "READONLY", "NOREPLICAS")


class RedisTier:
    """Answers in Redis under `prefix`. Threads may share it, and a forked child may go on using it."""

    name = "redis"

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "course:",
        deadline_s: float = 0.25,
        rest_s: float = 0.25,
        max_value_bytes: int = LARGEST_BYTES,
    ) -> None:
        """Take an address; nothing is sent yet.

        Args:
            url: redis://, rediss:// or unix://. A password in it is shown nowhere.
            prefix: begins every key of this tier; nothing else in Redis is touched.
            deadline_s: how long connecting or one answer may take. Looking up a host's name is not included.
            rest_s: how long Redis is left alone after a first failure; doubles up to eight times that.
            max_value_bytes: larger values are neither kept nor read.

        Raises:
            RedisServerError: the address is malformed.
        """
        self.prefix = prefix
        self.address = shown(url)
        self.refused = 0
        """Values that were not kept: too large, or Redis was full or away."""
        self._url = url
        self._deadline_s = deadline_s
        self._max_bytes = max_value_bytes
        self._line = Rest(rest_s, _LONGEST_REST * rest_s)
        self._writing = Rest(rest_s, _LONGEST_REST * rest_s)
        self._owed: dict[bytes, None] = {}
        self._is_closed = False
        self._client = self.connect()
        self._put = self._client.register_script(PUT)
        _tiers.add(self)

    def __repr__(self) -> str:
        return f"RedisTier({self.address!r}, prefix={self.prefix!r}{', in trouble' if self.trouble else ''})"

    @property
    def healthy(self) -> bool:
        """False while Redis is left alone, or refuses writes."""
        return not self.trouble

    @property
    def trouble(self) -> str:
        """What is wrong, in one line; empty when nothing is."""
        return self._line.trouble or self._writing.trouble

    # -- the tier --------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        """Return the value; None when it is not there, has run out, or Redis does not give it in time."""
        name = self._name("e:", key)
        if self._owed and (name in self._owed or not self._pay()):
            return None
        # A range, so that a giant that somebody else stored here is not read to its end.
        raw = self.attempt(lambda client: first_bytes(client, name, self._max_bytes), None)
        if not isinstance(raw, bytes) or not raw or len(raw) > self._max_bytes:
            return None
        return raw[1 + _MARK_BYTES * raw[0] :]

    def put(self, key: str, value: bytes, *, ttl_s: float | None, tags: tuple[str, ...] = ()) -> bool:
        """Store a value for `ttl_s` seconds; None leaves it there until Redis evicts it."""
        size = 1 + _MARK_BYTES * len(tags) + len(value)
        if size > self._max_bytes or len(tags) > _MOST_TAGS or (ttl_s is not None and ttl_s <= 0):
            self.delete([key])  # what was there before must not outlive what was to replace it
            self.refused += 1
            return False
        framed = b"".join((bytes((len(tags),)), *map(_mark, tags), value))
        ttl_ms = 0 if ttl_s is None or ttl_s > _FOR_EVER_S else max(1, int(1000 * ttl_s))
        keys = [self._name("e:", key), *(self._name("t:", tag) for tag in tags)]
        values: list[int | bytes] = [ttl_ms, framed, as_bytes(key)]
        kept = self.attempt(lambda client: self._put(keys, values, client), None, writes=True) is not None
        if kept:
            self._owed.pop(keys[0], None)
        self.refused += not kept
        return kept

    def delete(self, keys: Iterable[str]) -> int:
        """Drop these keys; returns how many were there. What Redis does not take now, it is told later."""
        dropped = 0
        for names in _chunks(self._name("e:", key) for key in keys):
            done = self.attempt(lambda client: _count(client.unlink(*names)), -1)  # noqa: B023
            dropped += max(0, done)
            if done < 0:
                self._owed = dict.fromkeys([*self._owed, *names][-_MOST_OWED:])
        return dropped

    def drop_tag(self, tag: str) -> int:
        """Drop all that was put with this tag; returns how many were there."""
        notes = self._name("t:", tag)
        dropped = 0
        while members := self.attempt(lambda client: _range(client, notes), _NOTHING):
            done = self.attempt(lambda client: self._unlink_noted(client, notes, members), -1)
            if done < 0:
                break
            dropped += done
        if self.attempt(_has_evicted, True):
            dropped += self._unlink(self._marked(_mark(tag)))
        return dropped

    def clear(self) -> None:
        """Drop every entry and every note of tags below the prefix."""
        for part in ("e:", "t:"):
            self._unlink(self._scan(part))

    def size_bytes(self) -> int:
        """Return the memory that the whole server uses; 0 when it does not say."""
        return self.attempt(lambda client: _count(client.info("memory").get("used_memory")), 0)

    def close(self) -> None:
        """Give the connections back; every get is a miss from then on."""
        self._is_closed = True
        self._client.close()

    # -- for others that keep something in the same Redis ------------------------------------------------

    def attempt(self, work: Callable[[redis.Redis], T], otherwise: T, *, writes: bool = False) -> T:
        """Return what `work` does with the client; `otherwise` if Redis is in trouble, or gets into it.

        Whatever `work` raises counts as Redis' failure and is told by `trouble`.

        Args:
            work: uses the client it is given, in few and short steps: the deadline holds for each answer.
            otherwise: returned when it cannot be done.
            writes: leave it while Redis refuses writes, though it can be read.
        """
        if self._is_closed or not self._line.may_try() or (writes and not self._writing.may_try()):
            return otherwise
        try:
            result = work(self._client)
        except Exception as error:  # border: a cache in trouble must not fail the call that it was to spare
            self._note(error, writes=writes)
            return otherwise
        self._line.worked()
        if writes:
            self._writing.worked()
        return result

    def connect(self, *, deadline_s: float | None = None) -> redis.Redis:
        """Return a client of its own for the same server, say to listen with; close it after use.

        Raises:
            RedisServerError: the address is malformed.
        """
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        try:
            pool = redis.BlockingConnectionPool.from_url(
                self._url,
                max_connections=_MOST_CONNECTIONS,
                timeout=self._deadline_s,
                socket_timeout=limit_s,
                socket_connect_timeout=self._deadline_s,
                retry=Retry(NoBackoff(), 0),
                driver_info=None,
                protocol=2,
            )
            pool.connection_class(
                **pool.connection_kwargs
            )  # tells an unknown option now, not at the first get
        except (ValueError, TypeError, AttributeError):  # whose words may hold the password
            raise RedisServerError(
                f"the Redis address ({self.address}) is not of the form redis://:password@host:6379/0, "
                "rediss://... or unix:///path; correct it (REDIS_URL, if it came from there)"
            ) from None
        client = redis.Redis(connection_pool=pool)
        client.auto_close_connection_pool = True
        return client

    # -- inside ------------------------------------------------------------------------------------------

    def _note(self, error: Exception, *, writes: bool) -> None:
        words = " ".join(str(error).split())
        if isinstance(error, redis.ResponseError):
            if words.startswith("WRONGTYPE"):
                return  # somebody else's value under our name: a miss, and no trouble
            if writes or isinstance(error, _REFUSALS) or words.startswith(_REFUSED_WRITES):
                self._line.worked()
                self._writing.failed(f"Redis at {self.address} refuses writes: {words:.120}")
                return
        if words.startswith(_ALL_BUSY):
            return  # so many callers at once: a miss for this one, and no trouble of Redis'
        self._line.failed(f"Redis at {self.address}: {_reason(error)}: {words:.120}")

    def _pay(self) -> bool:
        """Drop what Redis did not take when it was to be dropped."""
        names = list(self._owed)
        if self.attempt(lambda client: _count(client.unlink(*names)), -1) < 0:
            return False
        for name in names:
            self._owed.pop(name, None)
        return True

    def _start_anew_in_child(self) -> None:
        _parents.append(self._client)  # its pool may be locked for ever, by a thread that exists no more
        self._client = self.connect()

    def _name(self, part: str, text: str) -> bytes:
        return as_bytes(self.prefix + part + text)

    def _unlink(self, names: Iterable[bytes]) -> int:
        return sum(
            self.attempt(lambda client: _count(client.unlink(*chunk)), 0)  # noqa: B023
            for chunk in _chunks(names)
        )

    def _unlink_noted(self, client: redis.Redis, notes: bytes, members: list[bytes]) -> int:
        pipe = client.pipeline(transaction=False)
        pipe.unlink(*(self._name("e:", "") + member for member in members))
        pipe.zrem(notes, *members)
        return int(pipe.execute()[0])

    def _marked(self, mark: bytes) -> Iterator[bytes]:
        """Yield the names of the entries that were put with the tag of this mark."""
        for names in _chunks(self._scan("e:")):
            heads = self.attempt(lambda client: _heads(client, names), _NOTHING)  # noqa: B023
            yield from (name for name, head in zip(names, heads, strict=False) if mark in _marks(head))

    def _scan(self, part: str) -> Iterator[bytes]:
        """Yield the names below the prefix; ends early when Redis gets into trouble."""
        special = str.maketrans({c: f"\\{c}" for c in "*?[]\\^-"})
        pattern = f"{self.prefix}{part}".translate(special) + "*"
        cursor = 0
        while True:
            found = self.attempt(lambda client: client.scan(cursor, match=pattern, count=_CHUNK), None)  # noqa: B023
            if found is None:
                return
            cursor, names = found
            yield from (name for name in names if isinstance(name, bytes))
            if cursor == 0:
                return


def _reason(error: Exception) -> str:
    if isinstance(error, redis.AuthenticationError):
        return "it refuses the login"
    if isinstance(error, redis.TimeoutError):
        return "it does not answer in time"
    if isinstance(error, redis.ConnectionError):
        return "it cannot be reached"
    return type(error).__name__


def _mark(tag: str) -> bytes:
    return blake2b(as_bytes(tag), digest_size=_MARK_BYTES).digest()


def _marks(head: bytes) -> list[bytes]:
    return [head[1 + _MARK_BYTES * n :][:_MARK_BYTES] for n in range(head[0] if head else 0)]


def _heads(client: redis.Redis, names: list[bytes]) -> list[bytes]:
    """Return the beginning of each value, enough for its marks."""
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.getrange(name, 0, _MARK_BYTES * _MOST_TAGS)
    return [head if isinstance(head, bytes) else b"" for head in pipe.execute(raise_on_error=False)]


def _range(client: redis.Redis, notes: bytes) -> list[bytes]:
    found: Any = client.zrange(notes, 0, _CHUNK - 1)
    return list(found)


def _count(reply: object) -> int:
    return reply if isinstance(reply, int) else 0


def _has_evicted(client: redis.Redis) -> bool:
    return bool(client.info("stats").get("evicted_keys", 1))


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


_tiers: weakref.WeakSet[RedisTier] = weakref.WeakSet()
_parents: list[redis.Redis] = []


def _after_fork() -> None:
    for tier in tuple(_tiers):
        tier._start_anew_in_child()  # noqa: SLF001  (this module's own class)


os.register_at_fork(after_in_child=_after_fork)
