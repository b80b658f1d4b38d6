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

from course_lib.caching.forks import renew_in_children
from course_lib.caching.tiers import UTF_8, Guard
from course_lib.services import RedisServerError, shown

T = TypeVar("T")

LARGEST_BYTES = 8 * 1024 * 1024
TAG_TTL_S = 30 * 86_400
"""How long the keys of a tag are remembered after its last put."""
_MOST_CONNECTIONS = 64
_MOST_AT_HAND = 8
_CHUNK = 500
_FOR_EVER_S = 10 * 365 * 86_400
_ALL_BUSY = "No connection available"
_REFUSALS = (OutOfMemoryError, redis.ReadOnlyError, NoPermissionError)


class RedisTier:
    """Answers in Redis under `prefix`. Threads may share it, and a forked child may go on using it."""

    name = "redis"

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "course:",
        deadline_s: float = 0.25,
        first_wait_s: float = 0.25,
        max_value_bytes: int = LARGEST_BYTES,
    ) -> None:
        """Take an address; nothing is sent yet.

        Args:
            url: redis://, rediss:// or unix://. A password in it is shown nowhere.
            prefix: begins every key of this tier; nothing else in Redis is touched.
            deadline_s: how long connecting or one answer may take. Looking up a host's name is not included.
            first_wait_s: how long Redis is left alone after a first failure; doubles up to eight times that.
            max_value_bytes: larger values are neither kept nor read.

        Raises:
            RedisServerError: the address is malformed.
        """
        self.prefix, self.address = prefix, shown(url)
        self._url, self._deadline_s, self._max_bytes = url, deadline_s, max_value_bytes
        self._guard = Guard(f"Redis at {self.address}", first_wait_s=first_wait_s)
        self._is_closed = False
        self.client = self._connect()
        renew_in_children(self)

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
        return self._guard.attempt(lambda: work(self.client), otherwise, writes=writes, note=self._note)

    def get(self, key: str) -> bytes | None:
        """Return the value; None when it is not there, has expired, or Redis does not give it in time."""
        name = self._name("e:", key)
        pool: Any = self.client.connection_pool
        value = self.attempt(lambda _: pool.first_bytes(name, self._max_bytes), None)
        return value if isinstance(value, bytes) and 0 < len(value) <= self._max_bytes else None

    def put(self, key: str, value: bytes, *, ttl_s: float | None, tags: tuple[str, ...] = ()) -> bool:
        """Store a value for `ttl_s` seconds; None leaves it there until Redis evicts it."""
        if not value or len(value) > self._max_bytes or (ttl_s is not None and ttl_s <= 0):
            self.delete([key])  # what was there before must not outlive what was to replace it
            return False
        ttl_ms = None if ttl_s is None or ttl_s > _FOR_EVER_S else max(1, int(1000 * ttl_s))
        sets = [self._name("t:", tag) for tag in tags]

        def work(client: redis.Redis) -> bool:
            pipe = client.pipeline(transaction=True)
            pipe.set(self._name("e:", key), value, px=ttl_ms)
            for name in sets:
                pipe.sadd(name, key.encode(*UTF_8))
                pipe.expire(name, TAG_TTL_S)
            done = pipe.execute(raise_on_error=False)
            foreign = [
                name for name, reply in zip(sets, done[1::2], strict=True) if isinstance(reply, Exception)
            ]
            if foreign:  # somebody else's values under the names of our sets
                client.unlink(*foreign)
            return done[0] is True

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
        for part in ("e:", "t:"):
            self._unlink(self._matching(f"{self.prefix}{part}".translate(special) + "*"))

    def size_bytes(self) -> int:
        """Return the memory that the whole server uses; 0 when it does not say."""
        return self.attempt(lambda client: int(client.info("memory")["used_memory"]), 0)

    def close(self) -> None:
        """Give the connections back; every get is a miss from then on."""
        self._is_closed = True
        self.client.close()

    def renew(self) -> None:
        """Go on with new connections, as a forked child must; those in use are left to whoever uses them."""
        _former.append(
            self.client
        )  # in a child its pool may be locked for ever, and closing it takes the lock
        self.client = self._connect()

    def _connect(self) -> redis.Redis:
        try:
            pool = _Pool.from_url(
                self._url,
                max_connections=_MOST_CONNECTIONS,
                timeout=self._deadline_s,
                socket_timeout=self._deadline_s,
                socket_connect_timeout=self._deadline_s,
                retry=Retry(NoBackoff(), 0),
                driver_info=None,
                protocol=2,
            )
            pool.connection_class(
                **pool.connection_kwargs
            )  # tells of an unknown option now, not at the first get
        except (ValueError, TypeError, AttributeError):  # whose words may hold the password
            raise RedisServerError(
                f"the Redis address ({self.address}) is not of the form redis://:password@host:6379/0, "
                "rediss://... or unix:///path; correct it (REDIS_URL, if it came from there)"
            ) from None
        client = redis.Redis(connection_pool=pool)
        client.auto_close_connection_pool = True
        return client

    def _note(self, error: Exception, writes: bool) -> None:
        words = " ".join(str(error).rpartition("caused error: ")[2].split())  # before it stands the value
        if words.startswith(("WRONGTYPE", _ALL_BUSY)):
            return  # somebody else's value under our name, or so many callers at once: a miss
        if isinstance(error, redis.ReadOnlyError):
            former, self.client = self.client, self._connect()
            former.connection_pool.disconnect(inuse_connections=False)
        if isinstance(error, _REFUSALS) or (writes and isinstance(error, redis.ResponseError)):
            self._guard.refused(f"Redis at {self.address} refuses writes: {words:.120}")
        else:
            self._guard.failed(f"Redis at {self.address}: {_reason(error)}: {words:.120}")

    def _name(self, part: str, text: str) -> bytes:
        return (self.prefix + part + text).encode(*UTF_8)

    def _matching(self, pattern: str) -> list[bytes]:
        nothing: list[bytes] = []
        return self.attempt(lambda client: list(client.scan_iter(pattern, count=_CHUNK)), nothing)

    def _unlink(self, names: list[bytes]) -> int:
        chunks = [names[n : n + _CHUNK] for n in range(0, len(names), _CHUNK)]
        return sum(self.attempt(lambda client: int(client.unlink(*chunk)), 0) for chunk in chunks)  # noqa: B023


class _Pool(redis.BlockingConnectionPool):
    """A pool that keeps some connections at hand between two reads, which takes half of the time of a hit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._at_hand: list[Any] = []

    def first_bytes(self, name: bytes, count: int) -> Any:
        """Return what client.getrange(name, 0, count) does.

        A range, so that a giant that somebody else stored here is not read to its end.
        """
        try:
            connection, is_examined = self._at_hand.pop(), False
        except IndexError:
            connection, is_examined = self.get_connection(), True  # type: ignore[no-untyped-call]
        try:
            connection.send_command("GETRANGE", name, 0, count)
            value = connection.read_response()
        except BaseException as error:  # half an answer may be on its way, and must not become another's
            connection.disconnect()
            self.release(connection)  # type: ignore[no-untyped-call]
            if isinstance(error, redis.ConnectionError) and not is_examined:  # closed since its last use
                return self.first_bytes(name, count)
            raise
        if len(self._at_hand) < _MOST_AT_HAND:
            self._at_hand.append(connection)
        else:
            self.release(connection)  # type: ignore[no-untyped-call]
        return value


def _reason(error: Exception) -> str:
    if isinstance(error, redis.AuthenticationError):
        return "it refuses the login"
    if isinstance(error, redis.TimeoutError):
        return "it does not answer in time"
    return "it cannot be reached" if isinstance(error, redis.ConnectionError) else type(error).__name__


_former: list[redis.Redis] = []
