"""Che's approximation: an LRU cache's hit rate from how often each answer is asked for and how large it is.

Main path: predict(rates_per_s, sizes_bytes, cache_bytes=..., ttl_s=...) -> Prediction with hit_share.

The idea: in a large cache, the time from an answer's last use until it is crowded out is nearly the same for
all, the characteristic time T. An answer asked for at rate r (a Poisson process) is then in the cache with
probability 1 - exp(-r T), and T is the time at which the expected bytes just fill the cache.

With a time to live D counted from insertion, a stay ends at the first gap longer than T or at age D,
whichever comes first. The hits of a stay are renewals of a process whose gaps are exponential, but cut off at
T; their rate m(t) is r up to T, falls by a = r exp(-r T) there, and obeys m'(t) = -a m(t - T) after it.
The expected hits M are its integral up to D, and the hit probability is M / (1 + M): one miss, then M hits.
T -> infinity gives r D / (1 + r D), a cache bounded by time alone; D -> infinity gives 1 - exp(-r T) again.
What has run out makes room before what has not, as in MemoryTier; else dead answers would take room as well.

Source: H. Che, Y. Tung, Z. Wang, "Hierarchical Web caching systems", IEEE JSAC 20(7), 2002 (the idea);
C. Fricker, P. Robert, J. Roberts, "A versatile and accurate approximation for LRU cache performance", ITC 24,
2012 (why it works, and sizes); J. Jung, A. Berger, H. Balakrishnan, "Modeling TTL-based Internet caches",
INFOCOM 2003 (r D / (1 + r D)); N. Choungmo Fofack, P. Nain, G. Neglia, D. Towsley, "Performance evaluation of
hierarchical TTL-based cache networks", Computer Networks 65, 2014, and D. Berger, P. Gland, S. Singla and
F. Ciucu, "Exact analysis of TTL cache networks", Performance Evaluation 79, 2014 (LRU as a TTL that each hit
renews, and the minimum of both kinds). The series for m is worked out here, from the renewal equation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, inf
from typing import Any

import numpy as np
import numpy.typing as npt

from course_lib.errors import CourseError

Floats = npt.NDArray[np.float64]

_SERIES_STEPS = 12
"""Up to here (in units of T) the series is summed; beyond, m(t) has become a single exponential."""
_MAX_EXPONENT = 600.0


class TrafficError(CourseError):
    """The traffic or the cache cannot be: a negative rate, sizes of another length, no room at all."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the approximation says of one cache under one traffic."""

    hit_share: float
    """Share of requests that find their answer."""
    byte_hit_share: float
    """Share of requested bytes that are found."""
    characteristic_s: float
    """T: how long an answer that nobody asks for stays; infinite when all that is alive has room."""
    live_bytes: float
    """Bytes of answers in the cache that have not run out."""
    hit_shares: Floats
    """Each answer's own."""


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
    rates, sizes = _checked(rates_per_s, sizes_bytes, cache_bytes, ttl_s)
    fits = sizes <= cache_bytes  # what is larger than the cache is never kept
    kept_rates, kept_sizes = rates[fits], sizes[fits]
    time_s = _characteristic_s(kept_rates, kept_sizes, cache_bytes, ttl_s) if fits.any() else 0.0
    return _told(rates, sizes, np.where(fits, _hit_shares(rates, time_s, ttl_s), 0.0), time_s)


def curve(
    rates_per_s: npt.ArrayLike, sizes_bytes: npt.ArrayLike, *, ttl_s: float | None = None, points: int = 30
) -> list[tuple[float, float]]:
    """Return (cache bytes, hit share) from a cache for almost nothing to one for all that is alive."""
    rates, sizes = _checked(rates_per_s, sizes_bytes, 1.0, ttl_s)
    first_s, last_s = 0.3 / rates.max(), (min(12 / rates.min(), ttl_s) if ttl_s else 12 / rates.min())
    drawn = []
    for time_s in np.geomspace(min(first_s, last_s / 10), last_s, points):
        told = _told(rates, sizes, _hit_shares(rates, float(time_s), ttl_s), float(time_s))
        drawn.append((told.live_bytes, told.hit_share))
    return drawn


def hits_per_stay(rates_per_s: Floats, characteristic_s: float, ttl_s: float | None) -> Floats:
    """Return the expected hits between two misses of an answer: M in the module's description."""
    asked = np.minimum(rates_per_s * characteristic_s, _MAX_EXPONENT)  # requests per T
    if characteristic_s == 0.0:
        return np.zeros_like(rates_per_s)
    if ttl_s is None:
        return np.asarray(np.expm1(asked))
    if ttl_s <= characteristic_s:
        return rates_per_s * ttl_s
    age = ttl_s / characteristic_s
    begun = _renewals(asked, min(age, float(_SERIES_STEPS)))
    if age <= _SERIES_STEPS:
        return begun
    left = np.maximum(np.expm1(asked) - begun, 0.0)  # would still come without a time to live
    later: Floats = left * np.expm1(-_decay(asked) * (age - _SERIES_STEPS))
    return begun - later


def _renewals(asked: Floats, age: float) -> Floats:
    """Return M for a time to live of `age` times T, by the series; `asked` is requests per T."""
    fading = -asked * np.exp(-asked)
    total = asked * age
    power = np.ones_like(asked)
    for step in range(1, int(age) + 1):
        power = power * fading
        left = age - step
        total = total + power * left**step * (asked * left / (step + 1) + 1.0) / factorial(step)
    return np.maximum(total, 0.0)


def _decay(asked: Floats) -> Floats:
    """Return how fast m(t) fades per T in the end: the root y < 1 of y exp(-y) = x exp(-x) for x > 1."""
    start = asked * np.exp(-asked)
    root = start
    for _ in range(40):
        root = start * np.exp(root)
    return np.where(asked > 1.0, root, 1.0)  # for x <= 1 nothing worth counting is left by then


def _hit_shares(rates: Floats, time_s: float, ttl_s: float | None) -> Floats:
    if time_s == inf:
        return np.ones_like(rates) if ttl_s is None else rates * ttl_s / (1 + rates * ttl_s)
    hits = hits_per_stay(rates, time_s, ttl_s)
    return hits / (1 + hits)


def _told(rates: Floats, sizes: Floats, shares: Floats, time_s: float) -> Prediction:
    return Prediction(
        hit_share=float(rates @ shares / rates.sum()),
        byte_hit_share=float((rates * sizes) @ shares / (rates @ sizes)),
        characteristic_s=time_s,
        live_bytes=float(sizes @ shares),
        hit_shares=shares,
    )


def _characteristic_s(rates: Floats, sizes: Floats, cache_bytes: float, ttl_s: float | None) -> float:
    """Find the T at which the expected live bytes fill the cache, in the logarithm, by regula falsi."""

    def too_many(log_s: float) -> float:
        return float(sizes @ _hit_shares(rates, float(np.exp(log_s)), ttl_s)) - cache_bytes

    if float(sizes @ _hit_shares(rates, inf, ttl_s)) <= cache_bytes:
        return inf
    low = float(np.log(cache_bytes / float(rates @ sizes)))  # nothing is in there more often than asked for
    high, at_low = low + 1.0, too_many(low)
    while (at_high := too_many(high)) < 0:
        low, at_low, high = high, at_high, high + 1.0
        if high - low > _MAX_EXPONENT:
            return inf
    middle = low
    for _ in range(60):
        middle = low - at_low * (high - low) / (at_high - at_low)
        found = too_many(middle)
        if abs(found) <= 1e-6 * cache_bytes:
            break
        if found < 0:
            low, at_low, at_high = middle, found, at_high / 2  # Illinois: the end that stays counts less
        else:
            high, at_high, at_low = middle, found, at_low / 2
    return float(np.exp(middle))


def _checked(rates: Any, sizes: Any, cache_bytes: float, ttl_s: float | None) -> tuple[Floats, Floats]:
    asked = np.atleast_1d(np.asarray(rates, dtype=np.float64))
    try:
        large = np.broadcast_to(np.asarray(sizes, dtype=np.float64), asked.shape)
    except ValueError:
        raise TrafficError(
            f"{asked.size} rates but {np.size(sizes)} sizes; give a size for each, or one for all"
        ) from None
    for name, values in (("rates_per_s", asked), ("sizes_bytes", large)):
        if not (values.size and np.isfinite(values).all() and (values > 0).all()):
            raise TrafficError(
                f"{name} should be positive numbers, at least one; leave out what nobody asks for"
            )
    if not cache_bytes > 0 or (ttl_s is not None and not ttl_s > 0):
        raise TrafficError(
            f"cache_bytes={cache_bytes!r} and ttl_s={ttl_s!r} should be above 0; no TTL is None"
        )
    return asked, large
