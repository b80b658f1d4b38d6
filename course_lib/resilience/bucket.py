"""A token bucket: a steady rate with a burst, fair in the order of arrival.

Main path: await bucket.acquire(); wait_s() and charge() for callers that may not wait.
The bucket may go into debt: a caller takes its tokens at once, which gives it its place in the line, and
waits until all tokens up to that place are there. So who came first goes first, also when the rate changes
or the bucket is held while they wait; who gives up lets those behind move forward, and nobody else.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from course_lib.resilience import forks
from course_lib.resilience.deadline import Clock, Deadline, DeadlineExceeded
from course_lib.resilience.numbers import positive


class TokenBucket:
    """Lets `rate_per_s` tokens through per second, and up to `capacity` at once after a pause."""

    def __init__(self, rate_per_s: float, capacity: float, *, clock: Clock = time.monotonic) -> None:
        positive(rate_per_s=rate_per_s, capacity=capacity)
        self._rate_per_s = rate_per_s
        self._capacity = capacity
        self._clock = clock
        self._taken = 0.0  # all tokens ever taken
        self._filled = capacity  # all that ever came in, without those that found the bucket full
        self._counted_at = clock()
        self._waiting: dict[object, float] = {}  # the places in the line, in their order
        self._left_at: list[float] = []  # places that were given up behind one that still waits
        self._left: list[float] = []  # their tokens
        self._lock = threading.RLock()  # the collector may end a waiting task of a closed loop meanwhile
        forks.things.add(self)

    @property
    def rate_per_s(self) -> float:
        """Tokens per second; may be set while callers wait."""
        return self._rate_per_s

    @rate_per_s.setter
    def rate_per_s(self, rate_per_s: float) -> None:
        positive(rate_per_s=rate_per_s)
        with self._lock:
            self._refill()
            self._rate_per_s = rate_per_s

    def wait_s(self, tokens: float = 1.0) -> float:
        """Return the seconds until the tokens are there, 0 if they are; nothing is taken."""
        with self._lock:
            return self._until_s(self._taken + tokens)

    def charge(self, tokens: float) -> None:
        """Take tokens that have been used already, for which all callers wait; below 0 gives them back."""
        with self._lock:
            self._filled = min(self._filled - tokens, self._taken + self._capacity)

    def hold(self, seconds: float) -> None:
        """Let nobody through for so long, also not those who wait already; nothing comes in meanwhile."""
        with self._lock:
            self._refill()
            self._counted_at = max(self._counted_at, self._clock() + seconds)

    async def acquire(self, tokens: float = 1.0) -> None:
        """Take the tokens and wait until they are there.

        Raises:
            DeadlineExceeded: they will not be there before the current deadline; nothing was taken.
        """
        with self.in_line(tokens) as left_s:
            while wait_s := left_s():  # noqa: ASYNC110  (the rate may have changed meanwhile)
                await asyncio.sleep(wait_s)

    @contextmanager
    def in_line(self, tokens: float = 1.0) -> Iterator[Callable[[], float]]:
        """Take the tokens; yield what tells the seconds left until they are there.

        Who is cut off inside gives them back.
        """
        with self._lock:
            self._taken += tokens
            place, ticket = self._taken, object()
            self._waiting[ticket] = place

        def left_s() -> float:
            with self._lock:
                wait_s = self._until_s(place - sum(self._left[: bisect_left(self._left_at, place)]))
            deadline = Deadline.current()
            if deadline and wait_s > deadline.remaining_s():
                raise DeadlineExceeded(f"the rate limit asks for {wait_s:.3f} s, beyond the deadline")
            return wait_s

        try:
            yield left_s
        except BaseException:
            self._leave(ticket, tokens)
            raise
        self._leave(ticket, 0.0)

    def _leave(self, ticket: object, tokens: float) -> None:
        """Leave the line, and give tokens back to those behind."""
        with self._lock:
            place = self._waiting.pop(ticket, None)
            if tokens and place is not None:
                at = bisect_left(self._left_at, place)
                self._left_at.insert(at, place)
                self._left.insert(at, tokens)
            first = next(iter(self._waiting.values()), math.inf)
            while self._left_at and self._left_at[0] < first:  # then all that wait are behind
                self._filled += self._left.pop(0)
                del self._left_at[0]

    def _begin_anew(self) -> None:
        """Forget who waits: in a forked child they do not."""
        self._waiting, self._left_at, self._left = {}, [], []

    def _until_s(self, place: float) -> float:
        self._refill()
        held_s = max(0.0, self._counted_at - self._clock())
        missing = place - self._filled
        return held_s + missing / self._rate_per_s if missing > 1e-9 else held_s

    def _refill(self) -> None:
        now_s = self._clock()
        if now_s > self._counted_at:  # else it is held
            filled = self._filled + (now_s - self._counted_at) * self._rate_per_s
            self._filled, self._counted_at = min(filled, self._taken + self._capacity), now_s
