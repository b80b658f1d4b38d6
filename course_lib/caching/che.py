"""Che's approximation: an LRU cache's hit rate from how often each answer is asked for and how large it is.

Main path: predict(rates_per_s, sizes_bytes, cache_bytes=..., ttl_s=...) -> Prediction with hit_share.

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

from dataclasses import dataclass
from math import exp, inf, log

import numpy as np
import numpy.typing as npt

from course_lib.errors import CourseError

Floats = npt.NDArray[np.float64]
_MAX_EXPONENT = 600.0


class TrafficError(CourseError):
    """The traffic or the cache cannot be: a negative rate, sizes of another length, no room at all."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the approximation says of one cache under one traffic."""

    hit_share: float
    """Share of requests that find their answer."""
    live_bytes: float
    """Bytes of answers in the cache that have not run out."""
    characteristic_s: float
    """T: how long an answer that nobody asks for stays; infinite when all that is alive has room."""


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
) -> Prediction:
    """Predict the hit rate of an LRU cache.

    Args:
        rates_per_s: requests per second of each answer, each a Poisson process of its own.
        sizes_bytes: of each answer as the cache counts it, or one for all.
        cache_bytes: room in the cache.
        ttl_s: time to live from insertion, not renewed by hits; None: none.

    Raises:
        TrafficError: for a rate or size that is not positive, or lists of different lengths.

    >>> round(predict(zipf(1000, 1.0), 1, cache_bytes=100).hit_share, 3)
    0.577
    """
    rates, sizes = _checked(rates_per_s, sizes_bytes)
    if not cache_bytes > 0 or (ttl_s is not None and not ttl_s > 0):
        raise TrafficError(
            f"cache_bytes={cache_bytes!r} and ttl_s={ttl_s!r} should be above 0; no TTL is None"
        )
    fits = sizes <= cache_bytes  # what is larger than the cache is never kept
    time_s = _characteristic_s(rates[fits], sizes[fits], cache_bytes, ttl_s)
    return _prediction(rates, sizes, np.where(fits, _hit_shares(rates, time_s, ttl_s), 0.0), time_s)


def curve(
    rates_per_s: npt.ArrayLike, sizes_bytes: npt.ArrayLike, *, ttl_s: float | None = None, points: int = 30
) -> list[tuple[float, float]]:
    """Return (cache bytes, hit share) from a cache for almost nothing to one for all that is alive."""
    rates, sizes = _checked(rates_per_s, sizes_bytes)
    last_s = min(12 / rates.min(), ttl_s or inf)
    times_s = np.geomspace(min(0.3 / rates.max(), last_s / 10), last_s, points)
    drawn = [
        _prediction(rates, sizes, _hit_shares(rates, time_s, ttl_s), time_s) for time_s in times_s.tolist()
    ]
    return [(each.live_bytes, each.hit_share) for each in drawn]


def _hit_shares(rates: Floats, time_s: float, ttl_s: float | None) -> Floats:
    hits = np.minimum(_hits_per_stay(rates, time_s, inf if ttl_s is None else ttl_s), 1e300)
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


def _characteristic_s(rates: Floats, sizes: Floats, cache_bytes: float, ttl_s: float | None) -> float:
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


def _prediction(rates: Floats, sizes: Floats, shares: Floats, time_s: float) -> Prediction:
    return Prediction(float(rates @ shares / rates.sum()), float(sizes @ shares), time_s)


def _checked(rates_per_s: npt.ArrayLike, sizes_bytes: npt.ArrayLike) -> tuple[Floats, Floats]:
    rates, sizes = np.asarray(rates_per_s, dtype=np.float64), np.asarray(sizes_bytes, dtype=np.float64)
    if sizes.shape not in ((), rates.shape):
        raise TrafficError(f"{rates.size} rates but {sizes.size} sizes; give a size for each, or one for all")
    if not rates.size or not min(rates.min(), sizes.min()) > 0:
        raise TrafficError("rates_per_s and sizes_bytes should be positive; leave out what nobody asks for")
    return rates, np.broadcast_to(sizes, rates.shape)
