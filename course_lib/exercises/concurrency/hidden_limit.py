"""A model's server with a limit that it does not tell, and many callers of it, in simulated time.

Main path: against(limiter, limits=[(0, 40)], until_s=60) -> Run; run.shares(20, 60) -> (used, refused).
The server refuses as the course's endpoint does: one second's worth may come at once. After a refusal all
callers wait for a second, since that is what it asks for.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from course_lib.resilience import TokenBucket

_CALLERS, _LATENCY_S, _RETRY_AFTER_S, _MOST_REQUESTS = 40, 0.03, 1.0, 60_000
Limits = Sequence[tuple[float, float]]


@dataclass
class Run:
    """What became of the requests, and the rate at each of them."""

    limits: Limits
    """(from second, requests per second) of the server."""
    calls: list[tuple[float, float, bool]] = field(default_factory=list)
    """(second, the limiter's rate then, whether it was let through) of each request."""

    def limit_at(self, second: float) -> float:
        """Return what the server allowed then."""
        return next(limit for from_s, limit in reversed(self.limits) if from_s <= second)

    def shares(self, from_s: float, until_s: float) -> tuple[float, float]:
        """Return the share of the limit that was let through, and the share of requests that was refused."""
        passed = [is_through for at_s, _, is_through in self.calls if from_s <= at_s < until_s]
        allowed = (until_s - from_s) * self.limit_at(from_s)
        return sum(passed) / allowed, passed.count(False) / max(1, len(passed))


class _Clock:
    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def against(limiter: Any, limits: Limits, until_s: float, *, begins_at_s: float = 0.0) -> Run:
    """Let callers ask as fast as `limiter.rate_per_s` lets them, and tell it how each request ended.

    `begins_at_s` is what the limiter's clock says at second 0.
    """
    clock, run = _Clock(begins_at_s), Run(limits)
    pace = TokenBucket(_rate(limiter), 1.0, clock=clock)
    buckets = {limit: TokenBucket(limit, max(1.0, limit), clock=clock) for _, limit in limits}

    def caller() -> Iterator[float]:
        """Yield the seconds to the next step."""
        while True:
            waited = False
            with pace.in_line() as left_s:
                while wait_s := left_s():
                    waited = True
                    yield wait_s + 1e-6
            yield _LATENCY_S
            now_s = clock() - begins_at_s
            bucket = buckets[run.limit_at(now_s)]
            is_through = bucket.wait_s() == 0
            run.calls.append((now_s, _rate(limiter), is_through))
            if is_through:
                bucket.charge(1)
                limiter.success(clock(), waited)
            else:
                pace.hold(_RETRY_AFTER_S)
                limiter.refusal(clock())
            pace.rate_per_s = _rate(limiter)

    _play([caller() for _ in range(_CALLERS)], clock, begins_at_s + until_s)
    return run


def _play(callers: list[Iterator[float]], clock: _Clock, until_s: float) -> None:
    steps = [(clock(), number, caller) for number, caller in enumerate(callers)]
    for number in itertools.count(len(callers)):
        now_s, _, caller = heapq.heappop(steps)
        if now_s > until_s or number > _MOST_REQUESTS * 4:
            return
        clock.now_s = max(clock.now_s, now_s)
        heapq.heappush(steps, (clock.now_s + next(caller), number, caller))


def _rate(limiter: Any) -> float:
    """Return the limiter's rate as one that a bucket can have."""
    rate_per_s = float(limiter.rate_per_s)
    return min(max(rate_per_s, 1e-3), 1e5) if math.isfinite(rate_per_s) else 1e5
