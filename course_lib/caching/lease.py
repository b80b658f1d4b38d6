"""Single-flight across processes: whoever holds a key's lease in Redis calls, the others wait for the answer.

Main path: lease = Lease(key); leases.take(lease) -> whether; leases.release(lease) tells all processes.
A lease runs out after `ttl_s` unless it is renewed, and a process that was killed renews nothing: another one
takes over. One thread of ours per process renews, listens and looks; it is there only while there is work.
With Redis away each process keeps to itself: one caller in each of them calls.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from course_lib.caching.bells import Bell, forget_in_child

T = TypeVar("T")

TTL_S = 5.0
POLL_S = 0.1
_IDLE_S = 1.0

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return redis.call('PUBLISH', ARGV[2], ARGV[3])
"""
_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""


class Shared(Protocol):
    """What leases need of the Redis tier (see redis_tier.RedisTier)."""

    prefix: str

    def attempt(self, work: Callable[[Any], T], otherwise: T, *, writes: bool = False) -> T:
        """Return what `work` does with the client, or `otherwise` when Redis is in trouble."""
        ...

    def connect(self, *, deadline_s: float | None = None) -> Any:
        """Return a client of its own, to listen with."""
        ...


@dataclass(eq=False, slots=True)
class Lease:
    """The right to call for `key`, once it is taken, as long as Redis holds `token` under it."""

    key: str
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    renewed_until_s: float = 0.0
    """From then on it is left to run out: whoever holds it has taken too long."""
    is_unwanted: bool = False
    """Given back, perhaps before it was quite taken."""


class Leases:
    """This process's leases, and its callers who wait for those of other processes."""

    def __init__(
        self, shared: Shared, *, ttl_s: float = TTL_S, poll_s: float = POLL_S, longest_s: float = 60.0
    ) -> None:
        """Use the Redis of `shared`; nothing is sent yet.

        Args:
            shared: the Redis tier of the cache.
            ttl_s: how long a killed holder is waited for.
            poll_s: how often to look for leases that went without a word.
            longest_s: how long a holder may take before its lease is no longer renewed.
        """
        self._shared = shared
        self._ttl_ms = int(1000 * ttl_s)
        self._poll_s = poll_s
        self._longest_s = longest_s
        self._channel = f"{shared.prefix}landed"
        self.forget()
        forget_in_child(self)

    def forget(self) -> None:
        """Forget all leases and waiters, as a forked child must: they are its parent's."""
        self._changed = threading.Condition()
        self._held: dict[str, Lease] = {}
        self._dropped: list[Lease] = []
        self._bells: dict[str, set[Bell]] = {}
        self._keeper: threading.Thread | None = None

    # Taking and giving back: these ask Redis, so a task calls them in a thread.

    def take(self, lease: Lease) -> bool:
        """Try to take a lease; False while another caller holds it.

        One that this process has held for too long passes to the caller. With Redis away the lease holds
        within this process only.
        """
        lease.renewed_until_s = time.monotonic() + self._longest_s
        with self._changed:
            if (held := self._held.get(lease.key)) is not None:
                if time.monotonic() < held.renewed_until_s:
                    return False
                lease.token = held.token
                self._held[lease.key] = lease
                return True
        name = self._name(lease.key)
        got = self._shared.attempt(
            lambda client: bool(client.set(name, lease.token, nx=True, px=self._ttl_ms)), None, writes=True
        )
        with self._changed:
            if got is False or lease.key in self._held:  # of two who found Redis away, one was quicker
                return False
            self._held[lease.key] = lease
            self._work()
        if lease.is_unwanted:
            self.release(lease)
        return True

    def release(self, lease: Lease) -> None:
        """Give a lease back, if it was taken, and wake those who wait for it in any process."""
        if self._drop(lease):
            self._give_back(lease)

    def release_soon(self, lease: Lease) -> None:
        """Do as release(), without waiting for Redis: for a task that is cancelled, perhaps within take()."""
        lease.is_unwanted = True
        if self._drop(lease):
            with self._changed:
                self._dropped.append(lease)
                self._work()

    def _drop(self, lease: Lease) -> bool:
        """Return whether the lease was ours: not yet given back, nor passed to another of this process."""
        with self._changed:
            is_ours = self._held.get(lease.key) is lease
            if is_ours:
                del self._held[lease.key]
            return is_ours

    # Waiting.

    @contextmanager
    def expecting(self, key: str, bell: Bell) -> Iterator[None]:
        """Ring `bell`, within this block, when the lease of `key` is given back or has run out."""
        with self._changed:
            self._bells.setdefault(key, set()).add(bell)
            self._work()
        try:
            yield
        finally:
            with self._changed:
                self._bells.get(key, set()).discard(bell)
                if not self._bells.get(key):
                    self._bells.pop(key, None)

    # The keeper.

    def _work(self) -> None:
        """Have a keeper, and tell it that there is something new; the caller holds the lock."""
        if self._keeper is None or not self._keeper.is_alive():
            self._keeper = threading.Thread(target=self._keep, name="course-leases", daemon=True)
            self._keeper.start()
        self._changed.notify_all()

    def _keep(self) -> None:
        ears: Any = None
        renew_at_s = look_at_s = 0.0
        try:
            while self._has_work():
                for lease in self._taken_dropped():
                    self._give_back(lease)
                now_s = time.monotonic()
                if now_s >= renew_at_s:
                    self._renew(now_s)
                    renew_at_s = now_s + self._ttl_ms / 3000
                if not self._bells:
                    with self._changed:
                        self._changed.wait(min(_IDLE_S, renew_at_s - now_s))
                    continue
                ears = self._listen(ears)
                if now_s >= look_at_s:
                    self._look()
                    look_at_s = now_s + self._poll_s
        finally:
            _close(ears)

    def _has_work(self) -> bool:
        """Return whether there is anything to do; if not even after a moment, the keeper resigns."""
        with self._changed:
            if not (self._held or self._bells or self._dropped):
                self._changed.wait(_IDLE_S)
            if self._held or self._bells or self._dropped:
                return True
            self._keeper = None
            return False

    def _taken_dropped(self) -> list[Lease]:
        with self._changed:
            dropped, self._dropped = self._dropped, []
        return dropped

    def _renew(self, now_s: float) -> None:
        with self._changed:
            leases = [lease for lease in self._held.values() if now_s < lease.renewed_until_s]
        for lease in leases:
            keys_and_args = (self._name(lease.key), lease.token, self._ttl_ms)
            self._shared.attempt(lambda client: client.eval(_RENEW, 1, *keys_and_args), None, writes=True)  # noqa: B023

    def _listen(self, ears: Any) -> Any:
        """Wait a moment for word of a lease given back; return the subscription to listen with next."""
        try:
            if ears is None:
                ears = self._shared.connect().pubsub(ignore_subscribe_messages=True)
                ears.subscribe(self._channel)
            message = ears.get_message(timeout=self._poll_s)
        except Exception:  # border: without Redis there is nothing to hear; _look() then sends all on
            _close(ears)
            time.sleep(self._poll_s)
            return None
        if message is not None:
            self._ring([message["data"].decode()])
        return ears

    def _look(self) -> None:
        """Ring for leases that are gone; if Redis does not say, ring for all: they go on without it."""
        with self._changed:
            keys = list(self._bells)
        there = self._shared.attempt(lambda client: _exist(client, [self._name(key) for key in keys]), None)
        self._ring([key for n, key in enumerate(keys) if there is None or not there[n]])

    def _ring(self, keys: list[str]) -> None:
        with self._changed:
            bells = [bell for key in keys for bell in self._bells.get(key, ())]
        for bell in bells:
            bell.ring()

    def _give_back(self, lease: Lease) -> None:
        args = (self._name(lease.key), lease.token, self._channel, lease.key)
        self._shared.attempt(lambda client: client.eval(_RELEASE, 1, *args), None)
        self._ring([lease.key])  # those of this process hear it without Redis too

    def _name(self, key: str) -> str:
        return f"{self._shared.prefix}lease:{key}"


def _exist(client: Any, names: list[str]) -> list[int]:
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.exists(name)
    found: list[int] = pipe.execute()
    return found


def _close(ears: Any) -> None:
    """Close a subscription and the connections it listens through."""
    if ears is not None:
        pool = ears.connection_pool
        try:
            ears.close()
            pool.disconnect()
        except Exception:  # noqa: S110  border: what is broken already cannot be closed
            pass
