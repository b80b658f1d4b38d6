"""Single-flight among processes: whoever holds a key's lease in Redis calls, the others wait for the answer.

Main path: async with held(shared, key, waits): look again, then call. A lease is redis-py's Lock, renewed by
a thread as long as the call goes on. A process that was killed renews nothing: TTL_S later another one takes
over. With Redis away each process keeps to itself.
Source: redis.lock.Lock (redis-py 8.1).
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress

from redis.exceptions import LockError
from redis.lock import Lock

from course_lib.caching.redis_tier import RedisTier
from course_lib.caching.single_flight import InTask, InThread

TTL_S = 5.0
LONGEST_S = 60.0
"""A holder that takes longer is neither renewed nor waited for."""
POLL_S = 0.02


@asynccontextmanager
async def held(shared: RedisTier | None, key: str, waits: InThread | InTask) -> AsyncIterator[None]:
    """Wait for the lease of `key`, and hold it in this block; without Redis every caller has it at once.

    Somebody else may have called meanwhile.
    """
    if shared is None:
        yield
        return
    lease, end_s = _Lease(shared, key), time.monotonic() + LONGEST_S
    try:
        while not await waits.call(lease.take) and time.monotonic() < end_s:
            await waits.done(Future(), POLL_S)
        yield
    finally:
        lease.is_over.set()
        if waits.loop is None and lease.is_alive():
            lease.join()


class _Lease(threading.Thread):
    """A lease, and the thread that renews it and at last gives it back, whatever became of the caller."""

    def __init__(self, shared: RedisTier, key: str) -> None:
        super().__init__(daemon=True)
        self.is_over = threading.Event()
        self._shared = shared
        self._lock = Lock(shared.client, f"{shared.prefix}lease:{key}", timeout=TTL_S, thread_local=False)

    def take(self) -> bool:
        """Try to take it; False while another caller holds it. With Redis away everybody has it."""
        is_taken = self._shared.attempt(lambda _: bool(self._lock.acquire(blocking=False)), True, writes=True)
        if self._lock.local.token is not None:
            with suppress(RuntimeError):  # no room for a thread: then it runs out by itself
                self.start()
        return is_taken

    def run(self) -> None:
        """Renew the lease until its time is over, then give it back."""
        end_s = time.monotonic() + LONGEST_S
        while not self.is_over.wait(TTL_S / 3) and time.monotonic() < end_s:
            self._do(self._lock.reacquire)
        self.is_over.wait()
        self._do(self._lock.release)

    def _do(self, work: Callable[[], object]) -> None:
        def quietly(_: object) -> None:
            with suppress(LockError):  # it took too long, and another process holds the lease by now
                work()

        self._shared.attempt(quietly, None, writes=True)
