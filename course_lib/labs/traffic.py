"""An LRU cache's hit rate, predicted by Che's approximation and measured with seeded traffic.

Main path: Traffic(skew=1.0, answers=1000, ...) -> measured(traffic, cache_bytes) beside predicted(...).

Measured: requests are Poisson, answers are picked by Zipf's law, sizes are log-normal. Nothing sleeps: the
clock jumps from request to request of a real MemoryTier.

Predicted: in a large cache, the time from an answer's last use until it is crowded out is nearly the same for
all, the characteristic time T. An answer asked for at rate r is then in the cache with probability
1 - exp(-r T), and T is the time at which the expected bytes just fill the cache.

With a time to live D from insertion and M hits to one miss, the share of hits is M / (1 + M). Without T, M is
r D; without D, exp(r T) - 1. With both, hits come at rate r up to age T; of those that would come later,
1 - exp(-a (age - T)) have come by an age, where a is r (1 - exp(-r T)): half a point off at most.
Source: H. Che, Y. Tung, Z. Wang, "Hierarchical Web caching systems", IEEE JSAC 20(7), 2002; C. Fricker,
P. Robert, J. Roberts, "A versatile and accurate approximation for LRU cache performance", ITC 24, 2012.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import exp, inf
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

from course_lib.caching import MemoryTier

Floats = npt.NDArray[np.float64]
SIZE_MEDIAN_BYTES, SIZE_SPREAD = 900, 0.6
"""Of an answer; the spread is the standard deviation of the logarithm."""
_WARM_UP = 2_000
"""Requests that go before those counted."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Who asks for what, how often, and how long an answer counts."""

    skew: float
    """Exponent of Zipf's law: 0 asks for all alike, 1.2 mostly for a few."""
    answers: int
    """How many different ones are asked for."""
    rate_per_s: float
    """Requests per second, over all answers."""
    ttl_s: float = inf
    """Time to live from insertion."""

    def rates_per_s(self) -> Floats:
        """Return each answer's requests per second, the most popular first."""
        return zipf(self.answers, self.skew) * self.rate_per_s


def measured(traffic: Traffic, cache_bytes: int, *, requests: int = 6_000) -> float:
    """Send `requests` through a MemoryTier that has been in use for long; returns the share of hits."""
    clock = SimpleNamespace(now_s=0.0)  # which nothing but the traffic moves
    tier = MemoryTier(cache_bytes, clock=lambda: float(clock.now_s))
    keys, values = _answers(traffic.answers)
    _fill(tier, clock, traffic)
    hits = 0
    for number, (at_s, answer) in enumerate(_requests(traffic, _WARM_UP + requests)):
        clock.now_s = at_s
        if tier.get(keys[answer]) is None:
            tier.put(keys[answer], values[answer], ttl_s=traffic.ttl_s)
        elif number >= _WARM_UP:
            hits += 1
    return hits / requests


@lru_cache(maxsize=8)
def entry_bytes(answers: int) -> Floats:
    """Return what each answer takes in a MemoryTier, the key and the table included."""
    keys, values = _answers(answers)
    tier = MemoryTier(1 << 40)
    tier.put(keys[0], b"")  # what is taken beside the value is the same for all: keys are of one length
    return np.array([len(value) + tier.size_bytes() for value in values], dtype=np.float64)


@lru_cache(maxsize=2)
def _answers(count: int) -> tuple[list[str], list[bytes]]:
    rng = np.random.default_rng([0, count])
    sizes = rng.lognormal(np.log(SIZE_MEDIAN_BYTES), SIZE_SPREAD, count).astype(int) + 1
    return [f"answer-{number:08}" for number in range(count)], [bytes(size) for size in sizes.tolist()]


@lru_cache(maxsize=2)
def _requests(traffic: Traffic, count: int) -> list[tuple[float, int]]:
    """Return (second, answer) of each request, the same for every cache that is measured under it."""
    rng = np.random.default_rng([0, 1])
    seconds = rng.exponential(1 / traffic.rate_per_s, count).cumsum()
    steps = zipf(traffic.answers, traffic.skew).cumsum()
    answers = np.minimum(steps.searchsorted(rng.random(count)), traffic.answers - 1)
    return list(zip(seconds.tolist(), answers.tolist(), strict=True))


def _fill(tier: MemoryTier, clock: SimpleNamespace, traffic: Traffic) -> None:
    """Bring the tier to what traffic without end would have left.

    Each answer's last request and last insertion are drawn from their exact joint distribution; then all are
    put in the order of their last requests.
    """
    rng = np.random.default_rng([0, 2])
    rates, life_s = traffic.rates_per_s(), min(traffic.ttl_s, 1e300)  # inf times 0 would be no number
    used_s, age_s = rng.exponential(1 / rates), rng.random(traffic.answers) * life_s
    is_there = rng.random(traffic.answers) * (1 + 1 / (rates * life_s)) < 1
    used_s = np.minimum(used_s, age_s)
    keys, values = _answers(traffic.answers)
    for answer in [each for each in np.argsort(-used_s).tolist() if is_there[each]]:
        clock.now_s = -float(used_s[answer])
        tier.put(keys[answer], values[answer], ttl_s=life_s - float(age_s[answer] - used_s[answer]))


# -- Che's approximation ---------------------------------------------------------------------------------


def zipf(count: int, skew: float) -> Floats:
    """Return the shares of traffic of `count` answers: the i-th as 1 / i ** skew, summing to 1.

    >>> [round(float(share), 3) for share in zipf(3, 1.0)]
    [0.545, 0.273, 0.182]
    """
    weights = np.arange(1, count + 1, dtype=np.float64) ** -skew
    shares: Floats = weights / weights.sum()
    return shares


def predicted(traffic: Traffic, cache_bytes: float) -> float:
    """Return the share of requests that find their answer, 0 to 1, by Che's approximation."""
    sizes, rates = entry_bytes(traffic.answers), traffic.rates_per_s()
    fits = sizes <= cache_bytes  # what is larger than the cache is never kept
    time_s = _characteristic_s(rates[fits], sizes[fits], cache_bytes, traffic.ttl_s)
    return float(rates[fits] @ _hit_shares(rates[fits], time_s, traffic.ttl_s) / rates.sum())


def _hit_shares(rates: Floats, time_s: float, ttl_s: float) -> Floats:
    """Return M / (1 + M) of the module's description for each answer."""
    if ttl_s <= time_s:
        hits = rates * ttl_s
        return np.asarray(hits / (1 + hits))
    per_time = np.minimum(rates * time_s, 600.0)  # beyond it, exp is infinite
    later = np.expm1(per_time) - per_time  # hits after T, were there no time to live
    rate_per_s = -rates * np.expm1(-per_time)
    is_within = -np.expm1(-rate_per_s * (ttl_s - time_s) / np.maximum(later, 1e-300))
    hits = per_time + later * is_within
    return np.asarray(hits / (1 + hits))


def _characteristic_s(rates: Floats, sizes: Floats, cache_bytes: float, ttl_s: float) -> float:
    """Find the T at which the expected live bytes fill the cache, by halving an interval of its logarithm."""
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        fills = sizes @ _hit_shares(rates, exp(middle), ttl_s) > cache_bytes
        low, high = (low, middle) if fills else (middle, high)
    return exp(low)
