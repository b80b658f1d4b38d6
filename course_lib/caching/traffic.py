"""Seeded traffic against a real cache tier under a clock of its own: the hit rate as it is measured.

Main path: Traffic(skew=1.0, answers=1000, ...) -> measured(traffic, cache_bytes) beside predicted(...).

Requests are Poisson, answers are picked by Zipf's law, sizes are log-normal and have nothing to do with
popularity. Nothing sleeps: the clock jumps from request to request, so a day of traffic takes a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace

import numpy as np

from course_lib.caching import che
from course_lib.caching.che import Floats
from course_lib.caching.memory import MemoryTier

SIZE_MEDIAN_BYTES, SIZE_SPREAD = 900, 0.6
"""Of an answer; the spread is the standard deviation of the logarithm."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who asks for what, how often, and how long an answer counts."""

    skew: float
    """Exponent of Zipf's law: 0 asks for all alike, 1.2 mostly for a few."""
    answers: int
    """How many different ones are asked for."""
    rate_per_s: float
    """Requests per second, over all answers."""
    ttl_s: float | None = None
    """Time to live from insertion; None: none."""
    seed: int = 0

    def rates_per_s(self) -> Floats:
        """Return each answer's requests per second, the most popular first."""
        return che.zipf(self.answers, self.skew) * self.rate_per_s


def predicted(traffic: Traffic, cache_bytes: float) -> float:
    """Return the share of hits by Che's approximation."""
    sizes = entry_bytes(traffic.answers, traffic.seed)
    return che.predict(traffic.rates_per_s(), sizes, cache_bytes=cache_bytes, ttl_s=traffic.ttl_s)


def measured(traffic: Traffic, cache_bytes: int, *, requests: int = 6_000, warm_up: int = 2_000) -> float:
    """Send `requests` through a MemoryTier that has been in use for long; returns the share of hits.

    `warm_up` requests go before them, uncounted.
    """
    clock = SimpleNamespace(now_s=0.0)  # which nothing but the traffic moves
    tier = MemoryTier(cache_bytes, clock=lambda: float(clock.now_s))
    keys, values = _answers(traffic.answers, traffic.seed)
    _fill(tier, clock, traffic, cache_bytes)
    hits = 0
    for number, (at_s, answer) in enumerate(_requests(traffic, warm_up + requests)):
        clock.now_s = at_s
        if tier.get(keys[answer]) is None:
            tier.put(keys[answer], values[answer], ttl_s=traffic.ttl_s)
        elif number >= warm_up:
            hits += 1
    return hits / requests


@lru_cache(maxsize=8)
def entry_bytes(answers: int, seed: int) -> Floats:
    """Return what each answer takes in a MemoryTier, the key and the table included."""
    keys, values = _answers(answers, seed)
    tier = MemoryTier(1 << 40)
    tier.put(keys[0], b"")  # what is taken beside the value is the same for all: keys are of one length
    return np.array([len(value) + tier.size_bytes() for value in values], dtype=np.float64)


@lru_cache(maxsize=2)
def _answers(answers: int, seed: int) -> tuple[list[str], list[bytes]]:
    rng = np.random.default_rng([seed, answers])
    sizes = rng.lognormal(np.log(SIZE_MEDIAN_BYTES), SIZE_SPREAD, answers).astype(int) + 1
    return [f"answer-{number:08}" for number in range(answers)], [bytes(size) for size in sizes.tolist()]


@lru_cache(maxsize=2)
def _requests(traffic: Traffic, count: int) -> list[tuple[float, int]]:
    """Return (second, answer) of each request, the same for every cache that is measured under it."""
    rng = np.random.default_rng([traffic.seed, 1])
    seconds = rng.exponential(1 / traffic.rate_per_s, count).cumsum()
    steps = che.zipf(traffic.answers, traffic.skew).cumsum()
    answers = np.minimum(steps.searchsorted(rng.random(count)), traffic.answers - 1)
    return list(zip(seconds.tolist(), answers.tolist(), strict=True))


def _fill(tier: MemoryTier, clock: SimpleNamespace, traffic: Traffic, cache_bytes: int) -> None:
    """Bring the tier to what traffic without end would have left, had there been room for all.

    Each answer's last request and last insertion are drawn from their exact joint distribution; then all are
    put in the order of their last requests. What would be crowded out again is left out from the start.
    """
    rng = np.random.default_rng([traffic.seed, 2])
    rates = traffic.rates_per_s()
    used_s, left_s = rng.exponential(1 / rates), np.full(traffic.answers, np.inf)
    if traffic.ttl_s is not None:
        age_s = rng.random(traffic.answers) * traffic.ttl_s
        is_there = rng.random(traffic.answers) < rates * traffic.ttl_s / (1 + rates * traffic.ttl_s)
        used_s, left_s = np.minimum(used_s, age_s), np.where(is_there, traffic.ttl_s - age_s, -1.0)
    keys, values = _answers(traffic.answers, traffic.seed)
    latest_first = np.argsort(used_s)
    latest_first = latest_first[left_s[latest_first] > 0]
    before = entry_bytes(traffic.answers, traffic.seed)[latest_first].cumsum()
    for answer in latest_first[before <= cache_bytes][::-1].tolist():
        clock.now_s = -float(used_s[answer])
        ttl_s = None if traffic.ttl_s is None else float(left_s[answer] + used_s[answer])
        tier.put(keys[answer], values[answer], ttl_s=ttl_s)
