"""Latencies in bounded memory: exact percentiles of the first few thousand, within one percent after that.

Main path: Latencies().add(ms) ...; latencies.percentile(99) -> milliseconds.
Source: past `exact_limit` samples a histogram with logarithmic buckets takes over, as in DDSketch (Masson,
Rim and Lee 2019, VLDB): a reservoir would keep the median and lose the tail, and the tail is what we ask for.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter

ERROR_SHARE = 0.01
"""How far a percentile read from the buckets may lie from the sample it stands for."""

_GROWTH = (1 + ERROR_SHARE) / (1 - ERROR_SHARE)  # each bucket's upper end over its lower one
_LOG_GROWTH = math.log(_GROWTH)
_LEAST_MS, _MOST_MS = 1e-3, 1e9  # one microsecond to eleven days: 1,400 buckets at most


class Latencies:
    """Durations in milliseconds. Not locked: the owner is."""

    def __init__(self, exact_limit: int = 4096) -> None:
        """Keep up to `exact_limit` samples as they are (32 KB for 4096), then only counts per bucket."""
        self._exact_limit = exact_limit
        self._kept = array("d")
        self._sorted: list[float] | None = None
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.sum_ms = 0.0
        self.max_ms = 0.0

    @property
    def is_exact(self) -> bool:
        """True while every sample is kept."""
        return not self._buckets

    @property
    def mean_ms(self) -> float:
        """Return the mean of all samples, NaN without any."""
        return self.sum_ms / self.count if self.count else math.nan

    def add(self, ms: float) -> None:
        """Take one sample."""
        self.count += 1
        self.sum_ms += ms
        self.max_ms = max(self.max_ms, ms)
        if self._buckets:
            self._buckets[_bucket(ms)] += 1
            return
        self._kept.append(ms)
        self._sorted = None
        if len(self._kept) > self._exact_limit:
            self._buckets.update(map(_bucket, self._kept))
            self._kept = array("d")

    def percentile(self, percent: float) -> float:
        """Return the latency that `percent` of the samples do not exceed; NaN without samples.

        Exact ones are interpolated between neighbours, as numpy.percentile does; from buckets, the sample
        at that rank is met within ERROR_SHARE.

        >>> latencies = Latencies()
        >>> for ms in (10, 20, 30, 40): latencies.add(ms)
        >>> latencies.percentile(50), latencies.percentile(100)
        (25.0, 40.0)
        """
        if not self.count:
            return math.nan
        rank = percent / 100 * (self.count - 1)
        return self._from_buckets(rank) if self._buckets else self._from_samples(rank)

    def _from_samples(self, rank: float) -> float:
        if self._sorted is None:
            self._sorted = sorted(self._kept)
        below, above = math.floor(rank), math.ceil(rank)
        low, high = self._sorted[below], self._sorted[above]
        return low + (high - low) * (rank - below)

    def _from_buckets(self, rank: float) -> float:
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen > rank:
                return min(_middle(bucket), self.max_ms)
        return self.max_ms

    def copy(self) -> Latencies:
        """Return the same samples, apart from what is added from now on."""
        twin = Latencies(self._exact_limit)
        twin._kept, twin._buckets = self._kept[:], self._buckets.copy()
        twin.count, twin.sum_ms, twin.max_ms = self.count, self.sum_ms, self.max_ms
        return twin


def _bucket(ms: float) -> int:
    return math.ceil(math.log(min(max(ms, _LEAST_MS), _MOST_MS)) / _LOG_GROWTH)


def _middle(bucket: int) -> float:
    """Return the value of which no value in the bucket is further off than ERROR_SHARE."""
    return float(2 * _GROWTH**bucket / (_GROWTH + 1))
