"""A token bucket: a steady rate with a burst, fair in the order of arrival.

Main path: await bucket.acquire(); wait_s() and charge() for callers that may not wait.
The bucket may go into debt: a caller takes its tokens at once and waits until the debt is paid. So each wait
is computed once, nobody polls, and who came first goes first.
"""

from __future__ import annotations

import asyncio
import threading
import time

from course_lib.resilience.deadline import Clock, Deadline, DeadlineExceeded


class TokenBucket:
    """Lets `rate_per_s` tokens through per second, and up to `capacity` at once after a pause."""

    def __init__(self, rate_per_s: float, capacity: float, *, clock: Clock = time.monotonic) -> None:
        if rate_per_s <= 0 or capacity <= 0:
            raise ValueError(f"rate_per_s ({rate_per_s!r}) and capacity ({capacity!r}) must be above 0")
        self._rate_per_s = rate_per_s
        self._capacity = capacity
        self._clock = clock
        self._tokens = capacity
        self._counted_at = clock()
        self._lock = threading.Lock()

    def wait_s(self, tokens: float = 1.0) -> float:
        """Return the seconds until the tokens are there, 0 if they are; nothing is taken."""
        with self._lock:
            return max(0.0, (tokens - self._refilled()) / self._rate_per_s)

    def charge(self, tokens: float) -> None:
        """Take tokens that have been used already; for a debt, later callers wait."""
        with self._lock:
            self._tokens -= tokens

    async def acquire(self, tokens: float = 1.0) -> None:
        """Take the tokens and wait until they are there.

        Raises:
            DeadlineExceeded: they will not be there before the current deadline; nothing was taken.
        """
        deadline = Deadline.current()
        with self._lock:
            wait_s = max(0.0, (tokens - self._refilled()) / self._rate_per_s)
            if deadline and wait_s > deadline.remaining_s():
                raise DeadlineExceeded(f"the rate limit asks for {wait_s:.3f} s, beyond the deadline")
            self._tokens -= tokens
        try:
            await asyncio.sleep(wait_s)
        except BaseException:
            self.charge(-tokens)  # who is cut off gives them back
            raise

    def _refilled(self) -> float:
        now_s = self._clock()
        self._tokens = min(self._capacity, self._tokens + (now_s - self._counted_at) * self._rate_per_s)
        self._counted_at = now_s
        return self._tokens
