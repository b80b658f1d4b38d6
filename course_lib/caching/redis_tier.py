"""The shared tier: answers that every process sees, in Redis, which may fail at any time without harm.

Main path: get(key) -> one GETRANGE within `deadline_s`; put(...) -> one transaction: the value with its
time to live, and its key in a set per tag. An error is a miss; then Redis is left alone for a moment.
Source: redis-py 8.1; any server that speaks Redis 5 or later, but no cluster (a transaction has several
keys).

What Redis may do, and what comes of it. Down, restarted, stopped or slow: one deadline lost, then misses
without delay and a try now and then. Full and refusing writes: reads go on. Made a replica: the connections
are dropped, so that the next one reaches whoever now stands at the address. Evicting: an entry is a miss; a
set of keys that is gone lets the entries of its tag stay until they expire, though they are never served
(see invalidation.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError, OutOfMemoryError
from redis.retry import Retry

from course_lib.caching.tiers import LARGEST_BYTES, UTF_8, Guard
from course_lib.services import RedisServerError, shown

T = TypeVar("T")

TAG_TTL_S = 30 * 86_400
"""How long the keys of a tag are remembered after its last put."""
_CHUNK = 500
_FOR_EVER_S = 10 * 365 * 86_400
_REFUSALS = (OutOfMemoryError, redis.ReadOnlyError, NoPermissionError)


class RedisTier:
    """Answers in Redis under `prefix`. Threads may share it."""

    name = "redis"

    def __init__(
        self, url: str, *, prefix: str = "course:", deadline_s: float = 0.25, first_wait_s: float = 0.25
    ) -> None:
        """Take an address; nothing is sent yet.

        Args:
            url: redis://, rediss:// or unix://. A password in it is shown nowhere.
            prefix: begins every key of this tier; nothing else in Redis is touched.
            deadline_s: how long connecting or one answer may take. Looking up a host's name is not included.
            first_wait_s: how long Redis is left alone after a first failure; doubles up to eight times that.

        Raises:
            RedisServerError: the address is malformed.
        """
        self.prefix, self.address = prefix, shown(url)
        self._guard = Guard(f"Redis at {self.address}", first_wait_s=first_wait_s, note=self._note)
        self._is_closed = False
        self._url, self._deadline_s = url, deadline_s
        self.client = self._connect()

    def __repr__(self) -> str:
        return f"RedisTier({self.address!r}, prefix={self.prefix!r}{', in error' if self.last_error else ''})"

    @property
    def last_error(self) -> str:
        """What is wrong, in one line; empty when nothing is."""
        return self._guard.last_error

    def attempt(self, work: Callable[[redis.Redis], T], otherwise: T, *, writes: bool = False) -> T:
        """Return what `work` does with the client; `otherwise` while Redis is away, or when it fails.

        Args:
            work: uses the client in few and short steps: the deadline holds for each answer.
            otherwise: returned when it cannot be done.
            writes: leave it while Redis refuses writes, though it can be read.
        """
        if self._is_closed:
            return otherwise
        return self._guard.attempt(lambda: work(self.client), otherwise, writes=writes)

    def get(self, key: str) -> bytes | None:
        """Return the value; None when it is not there, has expired, or Redis does not give it in time."""
        name = self._name(
            "e:", key
        )  # a range, so that a giant that somebody else stored is not read to its end
        value: Any = self.attempt(lambda client: client.getrange(name, 0, LARGEST_BYTES), None)
        return value if isinstance(value, bytes) and 0 < len(value) <= LARGEST_BYTES else None

    def put(self, key: str, value: bytes, *, ttl_s: float | None, tags: tuple[str, ...] = ()) -> bool:
        """Store a value for `ttl_s` seconds; None leaves it there until Redis evicts it."""
        if not value or len(value) > LARGEST_BYTES or (ttl_s is not None and ttl_s <= 0):
            self.delete([key])  # what was there before must not outlive what was to replace it
            return False
        ttl_ms = None if ttl_s is None or ttl_s > _FOR_EVER_S else max(1, int(1000 * ttl_s))

        def work(client: redis.Redis) -> bool:
            pipe = client.pipeline(transaction=True)
            pipe.set(self._name("e:", key), value, px=ttl_ms)
            for tag in tags:
                pipe.sadd(self._name("t:", tag), key.encode(*UTF_8))
                pipe.expire(self._name("t:", tag), TAG_TTL_S)
            return bool(pipe.execute()[0])

        return self.attempt(work, False, writes=True)

    def delete(self, keys: Iterable[str]) -> int:
        """Drop these keys; returns how many were there."""
        return self._unlink([self._name("e:", key) for key in keys])

    def drop_tag(self, tag: str) -> int:
        """Drop all that was put with this tag; returns how many were there."""
        name = self._name("t:", tag)
        nothing: Any = ()
        members = self.attempt(lambda client: client.smembers(name), nothing)
        dropped = self._unlink([self._name("e:", "") + member for member in members])
        self._unlink([name])
        return dropped

    def clear(self) -> None:
        """Drop every entry and every set of keys below the prefix."""
        special = str.maketrans({c: f"\\{c}" for c in "*?[]\\^-"})
        nothing: list[bytes] = []
        for part in ("e:", "t:"):
            pattern = f"{self.prefix}{part}".translate(special) + "*"
            self._unlink(self.attempt(lambda client: list(client.scan_iter(pattern, _CHUNK)), nothing))  # noqa: B023

    def size_bytes(self) -> int:
        """Return the memory that the whole server uses; 0 when it does not say."""
        return self.attempt(lambda client: int(client.info("memory")["used_memory"]), 0)

    def close(self) -> None:
        """Give the connections back; every get is a miss from then on."""
        self._is_closed = True
        self.client.close()

    def _connect(self) -> redis.Redis:
        waits = {"socket_timeout": self._deadline_s, "socket_connect_timeout": self._deadline_s}
        try:
            client = redis.Redis.from_url(
                self._url, retry=Retry(NoBackoff(), 0), driver_info=None, protocol=2, **waits
            )
            pool = client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # tells of an unknown option now
        except (ValueError, TypeError, AttributeError):  # whose words may hold the password
            raise RedisServerError(
                f"the Redis address ({self.address}) is not of the form redis://:password@host:6379/0, "
                "rediss://... or unix:///path; correct it (REDIS_URL, if it came from there)"
            ) from None
        return client

    def _note(self, error: Exception, writes: bool) -> None:
        words = " ".join(str(error).rpartition("caused error: ")[2].split())  # before it stands the value
        if words.startswith("WRONGTYPE"):
            return  # somebody else's value under our name: a miss
        if isinstance(error, redis.ReadOnlyError):  # another server may stand at the address by now
            former, self.client = self.client, self._connect()
            former.connection_pool.disconnect(inuse_connections=False)  # those in use end after their answer
        if isinstance(error, _REFUSALS) or (writes and isinstance(error, redis.ResponseError)):
            self._guard.refused(f"Redis at {self.address} refuses writes: {words:.120}")
        else:
            self._guard.failed(f"Redis at {self.address}: {_reason(error)}: {words:.120}")

    def _name(self, part: str, text: str) -> bytes:
        return (self.prefix + part + text).encode(*UTF_8)

    def _unlink(self, names: list[bytes]) -> int:
        chunks = [names[n : n + _CHUNK] for n in range(0, len(names), _CHUNK)]
        return sum(self.attempt(lambda client: int(client.unlink(*chunk)), 0) for chunk in chunks)  # noqa: B023


def _reason(error: Exception) -> str:
    if isinstance(error, redis.AuthenticationError):
        return "it refuses the login"
    if isinstance(error, redis.TimeoutError):
        return "it does not answer in time"
    return "it cannot be reached" if isinstance(error, redis.ConnectionError) else type(error).__name__
