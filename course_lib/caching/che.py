"""Che's approximation: an LRU cache's hit rate from how often each answer is asked for and how large it is.

Main path: predict(rates_per_s, sizes_bytes, cache_bytes=..., ttl_s=...) -> hit share.

In a large cache, the time from an answer's last use until it is crowded out is nearly the same for all, the
characteristic time T. An answer asked for at rate r (a Poisson process) is then in the cache with probability
1 - exp(-r T), and T is the time at which the expected bytes just fill the cache.

With a time to live D counted from insertion, a stay ends at the first gap longer than T or at age D. With M
hits to one miss, the share of hits is M / (1 + M). Without T, M is r D; without D, it is exp(r T) - 1. With
both, hits come at rate r up to age T; of those that would come later, 1 - exp(-a (age - T)) have come by an
age, where a follows from the rate r (1 - exp(-r T)) just after T. That is within half a point of the exact
value.
Source: H. Che, Y. Tung, Z. Wang, "Hierarchical Web caching systems", IEEE JSAC 20(7), 2002 (the idea);
C. Fricker, P. Robert, J. Roberts, "A versatile and accurate approximation for LRU cache performance", ITC 24,
2012 (why it works, and sizes); D. Berger, P. Gland, S. Singla, F. Ciucu, "Exact analysis of TTL cache
networks", Performance Evaluation 79, 2014 (the exact value with both).
"""

from __future__ import annotations

from math import exp, inf, log

import numpy as np
import numpy.typing as npt

from course_lib.errors import CourseError

Floats = npt.NDArray[np.float64]
_MAX_EXPONENT = 600.0


class TrafficError(CourseError):
    """The traffic or the cache cannot be: a negative rate, sizes of another length, no room at all."""


def zipf(count: int, skew: float) -> Floats:
    """Return the shares of traffic of `count` answers: the i-th as 1 / i ** skew, summing to 1.

    >>> [round(float(share), 3) for share in zipf(3, 1.0)]
    [0.545, 0.273, 0.182]
    """
    weights = np.arange(1, count + 1, dtype=np.float64) ** -skew
    shares: Floats = weights / weights.sum()
    return shares


def predict(
    rates_per_s: npt.ArrayLike, sizes_bytes: npt.ArrayLike, *, cache_bytes: float, ttl_s: float | None = None
) -> float:
    """Predict the hit rate of an LRU cache: the share of requests that find their answer, from 0 to 1.

    Args:
        rates_per_s: requests per second of each answer, each a Poisson process of its own.
        sizes_bytes: of each answer as the cache counts it, or one for all.
        cache_bytes: room in the cache.
        ttl_s: time to live from insertion, not renewed by hits; None: none.

    Raises:
        TrafficError: for a rate, size or time that is not positive, or lists of different lengths.

    >>> round(predict(zipf(1000, 1.0), 1, cache_bytes=100), 3)
    0.577
    """
    rates, sizes = np.asarray(rates_per_s, dtype=np.float64), np.asarray(sizes_bytes, dtype=np.float64)
    if sizes.shape not in ((), rates.shape):
        raise TrafficError(f"{rates.size} rates but {sizes.size} sizes; give a size for each, or one for all")
    life_s = inf if ttl_s is None else ttl_s
    if not rates.size or not min(rates.min(), sizes.min(), cache_bytes, life_s) > 0:
        raise TrafficError("rates, sizes, cache_bytes and ttl_s should be above 0; no time to live is None")
    fits = np.broadcast_to(sizes <= cache_bytes, rates.shape)  # what is larger than the cache is never kept
    sizes = np.broadcast_to(sizes, rates.shape)[fits]
    time_s = _characteristic_s(rates[fits], sizes, cache_bytes, life_s)
    return float(rates[fits] @ _hit_shares(rates[fits], time_s, life_s) / rates.sum())


def _hit_shares(rates: Floats, time_s: float, ttl_s: float) -> Floats:
    hits = np.minimum(_hits_per_stay(rates, time_s, ttl_s), 1e300)
    return np.asarray(hits / (1 + hits))


def _hits_per_stay(rates: Floats, time_s: float, ttl_s: float) -> Floats:
    """Return M of the module's description: the expected hits between two misses of each answer."""
    if ttl_s <= time_s:
        return rates * ttl_s
    per_time = np.minimum(rates * time_s, _MAX_EXPONENT)
    later = np.expm1(per_time) - per_time  # hits after T, were there no time to live
    rate_per_s = -rates * np.expm1(-per_time)
    is_within = -np.expm1(-rate_per_s * (ttl_s - time_s) / np.maximum(later, 1e-300))
    return np.asarray(per_time + later * is_within)


def _characteristic_s(rates: Floats, sizes: Floats, cache_bytes: float, ttl_s: float) -> float:
    """Find the T at which the expected live bytes fill the cache, by halving an interval of its logarithm."""

    def fills(time_s: float) -> bool:
        return bool(sizes @ _hit_shares(rates, time_s, ttl_s) > cache_bytes)

    if not fills(inf):
        return inf
    low = log(cache_bytes / float(rates @ sizes))  # nothing is in there more often than it is asked for
    high = low + 1.0
    while not fills(exp(high)):
        high += 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if fills(exp(middle)) else (middle, high)
    return exp(low)
