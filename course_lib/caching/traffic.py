"""Seeded traffic against a real cache tier under a clock of its own: the hit rate as it is measured.

Main path: Traffic(skew=1.0, answers=1000, ...) -> measured(traffic, cache_bytes) beside predicted(...).

Requests are Poisson, answers are picked by Zipf's law, sizes are log-normal and have nothing to do with
popularity. Nothing sleeps: the clock jumps from request to request, so a day of traffic takes a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from course_lib.caching import che
from course_lib.caching.che import Floats, Prediction
from course_lib.caching.memory import MemoryTier

SIZE_MEDIAN_BYTES = 900
SIZE_SPREAD = 0.6
"""Standard deviation of the logarithm of an answer's size."""


class Cache(Protocol):
    """What is measured: a tier that counts its bytes."""

    def get(self, key: str) -> Any:
        """Return the value, None when it is not there."""
        ...

    def put(self, key: str, value: Any, *, ttl_s: float | None = None) -> bool:
        """Keep a value."""
        ...

    def size_bytes(self) -> int:
        """Return the bytes of all entries."""
        ...


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


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of a stretch of traffic."""

    hits: int
    requests: int
    """After the warm-up."""
    live_bytes: int
    """What the cache held at the end, as it counts it."""

    @property
    def hit_share(self) -> float:
        """Share of requests that found their answer."""
        return self.hits / self.requests


class ManualClock:
    """A clock that shows what it is set to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        """Return the second it shows."""
        return self.now_s


def predicted(traffic: Traffic, cache_bytes: int) -> Prediction:
    """Return what Che's approximation says."""
    sizes = entry_bytes(traffic.answers, traffic.seed)
    return che.predict(traffic.rates_per_s(), sizes, cache_bytes=cache_bytes, ttl_s=traffic.ttl_s)


def measured(
    traffic: Traffic,
    cache_bytes: int,
    *,
    requests: int = 6_000,
    warm_up: int = 2_000,
    make: Callable[..., Cache] = MemoryTier,
) -> Measured:
    """Send `requests` through a cache that has been in use for long, and count the hits.

    Args:
        traffic: what is asked for.
        cache_bytes: room in the cache.
        requests: how many count.
        warm_up: how many go before them, uncounted.
        make: builds the cache; called as `make(cache_bytes, clock=...)`.
    """
    clock = ManualClock()
    cache = make(cache_bytes, clock=clock)
    keys, values = _answers(traffic.answers, traffic.seed)
    ttl_s = traffic.ttl_s
    _fill(cache, clock, traffic, cache_bytes)
    asked = _asked(traffic, warm_up + requests)
    hits = 0
    for number, (at_s, answer) in enumerate(asked):
        clock.now_s = at_s
        key = keys[answer]
        if cache.get(key) is None:
            cache.put(key, values[answer], ttl_s=ttl_s)
        elif number >= warm_up:
            hits += 1
    return Measured(hits, requests, cache.size_bytes())


@lru_cache(maxsize=8)
def entry_bytes(answers: int, seed: int) -> Floats:
    """Return what each answer takes in a MemoryTier, the key and the table included."""
    keys, values = _answers(answers, seed)
    tier = MemoryTier(1 << 40)
    tier.put(keys[0], values[0])
    beside = tier.size_bytes() - len(values[0])  # the same for all: keys are of one length
    return np.array([len(value) + beside for value in values], dtype=np.float64)


@lru_cache(maxsize=2)
def _answers(answers: int, seed: int) -> tuple[list[str], list[bytes]]:
    rng = np.random.default_rng([seed, answers])
    sizes = rng.lognormal(np.log(SIZE_MEDIAN_BYTES), SIZE_SPREAD, answers).astype(int) + 1
    return [f"answer-{number:08}" for number in range(answers)], [bytes(size) for size in sizes.tolist()]


@lru_cache(maxsize=2)
def _asked(traffic: Traffic, count: int) -> list[tuple[float, int]]:
    """Return (second, answer) of each request, the same for every cache that is measured under it."""
    rng = np.random.default_rng([traffic.seed, 1])
    seconds = rng.exponential(1 / traffic.rate_per_s, count).cumsum()
    steps = che.zipf(traffic.answers, traffic.skew).cumsum()
    answers = np.minimum(steps.searchsorted(rng.random(count)), traffic.answers - 1)
    return list(zip(seconds.tolist(), answers.tolist(), strict=True))


def _fill(cache: Cache, clock: ManualClock, traffic: Traffic, cache_bytes: int) -> None:
    """Bring the cache to what traffic without end would have left, had there been room for all.

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
        cache.put(keys[answer], values[answer], ttl_s=ttl_s)
