"""The shared tier: answers that every process sees, in Redis, which may fail at any time without harm.

Main path: get(key) -> one GETRANGE within `deadline_s`; put(...) -> one transaction: the value with its
time to live, and its key in a set per tag. An error is a miss; then Redis is left alone for a moment.
async with lease(key, waits) -> single-flight among processes: one calls, the others wait for its answer.
Source: redis-py 8.1; any server that speaks Redis 5 or later, but no cluster (a transaction has several
keys).

Down, restarted or slow: one deadline lost, then misses without delay and a try now and then. Full, and so
refusing writes: reads go on. Made a replica: the connections are dropped, so that the next one reaches who
now stands at the address. Evicting: an entry is a miss; the entries of a set of keys that is gone stay until
they expire, though they are never served (see invalidation.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import LockError, MasterDownError, NoPermissionError, OutOfMemoryError
from redis.lock import Lock
from redis.retry import Retry

from course_lib.caching.tiers import LARGEST_BYTES, UTF_8, Guard
from course_lib.resilience.single_flight import InTask, InThread
from course_lib.services import ServerError, shown

T = TypeVar("T")
TAG_TTL_S = 30 * 86_400
"""How long the keys of a tag are remembered after its last put."""
LEASE_S = 5.0
LONGEST_LEASE_S = 60.0
_POLL_S = 0.02
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
            ServerError: the address is malformed.
        """
        self.prefix, self.address = prefix, shown(url)
        self._guard = Guard(f"Redis at {self.address}", first_wait_s=first_wait_s, diagnose=self._diagnose)
        self._is_closed = False
        self._url, self._deadline_s = url, deadline_s
        self.client = self._connect()

    @property
    def last_error(self) -> str:
        """What is wrong, in one line; empty when nothing is."""
        return self._guard.last_error

    def attempt(self, work: Callable[[redis.Redis], T], otherwise: T, *, writes: bool = False) -> T:
        """Return what `work` does with the client; `otherwise` when it fails, or Redis is not asked now.

        `writes` leaves it while Redis refuses writes, though it can be read.
        """

        def work_here() -> T:
            try:
                return work(self.client)
            except (redis.ReadOnlyError, MasterDownError):  # another server may stand at the address by now
                former, self.client = self.client, self._connect()
                former.connection_pool.disconnect(inuse_connections=False)  # others end after their answer
                return work(self.client)

        return otherwise if self._is_closed else self._guard.attempt(work_here, otherwise, writes=writes)

    def get(self, key: str) -> bytes | None:
        """Return the value; None when it is not there, has expired, or Redis does not give it in time."""
        name = self._name("e:", key)
        value: Any = self.attempt(lambda client: _first_bytes(client, name), None)
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

    @asynccontextmanager
    async def lease(self, key: str, waits: InThread | InTask) -> AsyncIterator[None]:
        """Wait until no other process holds the lease of `key`, and hold it in this block.

        A process that was killed is waited for LEASE_S, one that lives LONGEST_LEASE_S.
        """
        lease, end_s = _Lease(self, key), time.monotonic() + LONGEST_LEASE_S
        try:
            while not await waits.call(lease.take) and time.monotonic() < end_s:
                await waits.done(Future(), _POLL_S)
            yield
        finally:
            lease.is_over.set()
            if waits.loop is None and lease.is_alive():
                lease.join()

    def _connect(self) -> redis.Redis:
        waits = {"socket_timeout": self._deadline_s, "socket_connect_timeout": self._deadline_s}
        try:
            client = redis.Redis.from_url(
                self._url, retry=Retry(NoBackoff(), 0), driver_info=None, protocol=2, **waits
            )
            pool = client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # tells of an unknown option now
        except (ValueError, TypeError, AttributeError):  # whose words may hold the password
            raise ServerError(
                f"the Redis address ({self.address}) is not of the form redis://:password@host:6379/0, "
                "rediss://... or unix:///path; correct it (REDIS_URL, if it came from there)"
            ) from None
        return client

    def _diagnose(self, error: Exception, writes: bool) -> tuple[str, bool]:
        words = " ".join(str(error).rpartition("caused error: ")[2].split())  # before it stands the value
        if words.startswith("WRONGTYPE") or isinstance(error, LockError):
            return "", False  # somebody else's value under our name: a miss; or somebody else's lease by now
        if isinstance(error, _REFUSALS) or (writes and isinstance(error, redis.ResponseError)):
            return f"Redis at {self.address} refuses writes: {words:.120}", True
        return f"Redis at {self.address}: {_reason(error)}: {words:.120}", False

    def _name(self, part: str, text: str) -> bytes:
        return (self.prefix + part + text).encode(*UTF_8)

    def _unlink(self, names: list[bytes]) -> int:
        chunks = [names[n : n + _CHUNK] for n in range(0, len(names), _CHUNK)]
        return sum(self.attempt(lambda client: int(client.unlink(*chunk)), 0) for chunk in chunks)  # noqa: B023


class _Lease(threading.Thread):
    """A lock of redis-py, and the thread that renews it and gives it back, whatever became of the caller."""

    def __init__(self, shared: RedisTier, key: str) -> None:
        super().__init__(daemon=True)
        self.is_over = threading.Event()
        self._shared = shared
        self._lock = Lock(shared.client, f"{shared.prefix}lease:{key}", timeout=LEASE_S, thread_local=False)

    def take(self) -> bool:
        """Try to take it; False while another caller holds it. With Redis away everybody has it."""
        is_taken = self._shared.attempt(lambda _: bool(self._lock.acquire(blocking=False)), True, writes=True)
        if self._lock.local.token is not None:
            with suppress(RuntimeError):  # no room for a thread: then it runs out by itself
                self.start()
        return is_taken

    def run(self) -> None:
        """Renew it until its time is over, then give it back."""
        end_s = time.monotonic() + LONGEST_LEASE_S
        while not self.is_over.wait(LEASE_S / 3) and time.monotonic() < end_s:
            self._shared.attempt(lambda _: self._lock.reacquire(), False)
        self.is_over.wait()
        self._shared.attempt(lambda _: self._lock.release(), None)


def _first_bytes(client: redis.Redis, name: bytes) -> Any:
    """Return what client.getrange() does, in half of its time: without its observers, retries and timers.

    A range, so that a giant that somebody else stored is not read to its end.
    """
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_command("GETRANGE", name, 0, LARGEST_BYTES)  # type: ignore[no-untyped-call]
        return connection.read_response()
    except BaseException:  # half an answer may be on its way, and must not become another caller's
        connection.disconnect()  # type: ignore[no-untyped-call]
        raise
    finally:
        pool.release(connection)


def _reason(error: Exception) -> str:
    if isinstance(error, redis.AuthenticationError):
        return "it refuses the login"
    if isinstance(error, redis.TimeoutError):
        return "it does not answer in time"
    return "it cannot be reached" if isinstance(error, redis.ConnectionError) else type(error).__name__
