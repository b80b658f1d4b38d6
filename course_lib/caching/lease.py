"""Single-flight among processes: whoever holds a key's lease in Redis calls, the others wait for the answer.

Main path: async with leases.held(key, waits): look again, then call. A lease is redis-py's Lock. It runs
out after `ttl_s` unless it is renewed, and a process that was killed renews nothing: another one takes
over. One thread per process renews, and is there only while there is work. With Redis away each process
keeps to itself.
Source: redis.lock.Lock (redis-py 8.1).
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from redis.exceptions import LockError
from redis.lock import Lock

from course_lib.caching.forks import renew_in_children
from course_lib.caching.redis_tier import RedisTier
from course_lib.caching.single_flight import InTask, InThread

TTL_S = 5.0
LONGEST_S = 60.0
POLL_S = 0.02


@dataclass(eq=False, slots=True)
class _Lease:
    lock: Lock
    renewed_until_s: float
    is_over: bool = False


class Leases:
    """The leases of this process.

    Args:
        shared: the Redis tier of the cache; None: every caller has its lease at once.
        ttl_s: how long a killed holder is waited for.
        longest_s: how long a holder may take: then its lease is no longer renewed, nor waited for.
    """

    def __init__(
        self, shared: RedisTier | None, *, ttl_s: float = TTL_S, longest_s: float = LONGEST_S
    ) -> None:
        self.shared, self.ttl_s, self.longest_s = shared, ttl_s, longest_s
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Forget all leases, as a forked child must: they are its parent's."""
        self._lock = threading.Lock()
        self._held: set[_Lease] = set()
        self._renewer: threading.Thread | None = None

    @asynccontextmanager
    async def held(self, key: str, waits: InThread | InTask) -> AsyncIterator[None]:
        """Wait for the lease of `key`, and hold it in this block. Somebody else may have called meanwhile."""
        shared = self.shared
        if shared is None:
            yield
            return
        lock = Lock(shared.client, f"{shared.prefix}lease:{key}", timeout=self.ttl_s, thread_local=False)
        lease = _Lease(lock, time.monotonic() + self.longest_s)
        try:
            while not await waits.call(lambda: self._take(lease, shared)):
                if time.monotonic() > lease.renewed_until_s:
                    break
                await waits.sleep(POLL_S)
            yield
        finally:
            if waits.loop is None:
                self._give_back(lease, shared)
            else:
                lease.is_over = True
                with suppress(RuntimeError):  # the loop closes; the lease runs out by itself
                    waits.loop.run_in_executor(None, self._give_back, lease, shared)

    def _take(self, lease: _Lease, shared: RedisTier) -> bool:
        """Try to take a lease; False while another caller holds it. With Redis away everybody has it."""
        is_taken = shared.attempt(lambda _: bool(lease.lock.acquire(blocking=False)), True, writes=True)
        if lease.is_over:  # the task was cancelled while this thread asked
            self._give_back(lease, shared)
        elif is_taken:
            with self._lock:
                self._held.add(lease)
                if self._renewer is None:
                    self._renewer = threading.Thread(target=self._keep_renewing, args=(shared,), daemon=True)
                    self._renewer.start()
        return is_taken

    def _give_back(self, lease: _Lease, shared: RedisTier) -> None:
        lease.is_over = True
        with self._lock:
            self._held.discard(lease)
        if lease.lock.local.token is not None:
            shared.attempt(lambda _: _quietly(lease.lock.release), None)

    def _keep_renewing(self, shared: RedisTier) -> None:
        while True:
            time.sleep(self.ttl_s / 3)
            with self._lock:
                if not self._held:
                    self._renewer = None
                    return
                held = [each for each in self._held if time.monotonic() < each.renewed_until_s]
            for lease in held:
                shared.attempt(lambda _: _quietly(lease.lock.reacquire), None, writes=True)  # noqa: B023


def _quietly(work: Callable[[], object]) -> None:
    with suppress(LockError):  # it took too long, and another process holds the lease by now
        work()
