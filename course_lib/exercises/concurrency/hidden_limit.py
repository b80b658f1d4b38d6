"""A model's server with a limit that it does not tell, and callers without end, in simulated time.

Main path: against(limiter, limits=[(0, 40)], until_s=60) -> Run; run.shares(20, 60) -> (used, refused).
The server refuses as the course's endpoint does: one second's worth may come at once. After a refusal all
callers wait for a second, since that is what it asks for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

_LATENCY_S, _RETRY_AFTER_S = 0.03, 1.0
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


def against(limiter: Any, limits: Limits, until_s: float, *, begins_at_s: float = 0.0) -> Run:
    """Let callers ask as fast as `limiter.rate_per_s` lets them, and tell it how each request ended.

    `begins_at_s` is what the limiter's clock says at second 0.
    """
    run, under_way = Run(limits), deque[tuple[float, bool]]()
    sent_s, held_until_s, judged_s, left = -math.inf, 0.0, 0.0, math.inf
    while True:
        due_s = max(held_until_s, sent_s + 1 / _rate(limiter))
        if not under_way or due_s < under_way[0][0]:
            if due_s > until_s:
                return run
            under_way.append((due_s + _LATENCY_S, due_s > 0))
            sent_s = due_s
            continue
        now_s, waited = under_way.popleft()
        limit = run.limit_at(now_s)
        left, judged_s = min(max(1.0, limit), left + (now_s - judged_s) * limit), now_s
        run.calls.append((now_s, _rate(limiter), left >= 1))
        if left >= 1:
            left -= 1
            limiter.success(begins_at_s + now_s, waited)
        else:
            held_until_s = now_s + _RETRY_AFTER_S
            limiter.refusal(begins_at_s + now_s)


def _rate(limiter: Any) -> float:
    """Return the limiter's rate as one that callers can have."""
    rate_per_s = float(limiter.rate_per_s)
    return min(max(rate_per_s, 1e-3), 1e4) if math.isfinite(rate_per_s) else 1e4
