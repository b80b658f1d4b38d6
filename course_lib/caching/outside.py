"""The tiers outside this process, Redis and disk: looked through in order, and only what is valid is found.

Main path: Outside.find(key) -> Found -> Outside.fill(key, found) for the tiers before the one that had it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from course_lib.caching.disk import DiskTier
from course_lib.caching.entries import Entry, Sealer
from course_lib.caching.invalidation import InvalidationLog
from course_lib.caching.judgement import is_sound
from course_lib.caching.redis_tier import RedisTier
from course_lib.caching.stats import Tally
from course_lib.caching.tiers import Tier


class Found(NamedTuple):
    """A valid answer, and where it was."""

    tier: Tier
    entry: Entry
    sealed: bytes
    left_s: float | None
    """How long it still counts."""


class Outside:
    """Redis, then disk; either may be missing."""

    def __init__(
        self,
        shared: RedisTier | None,
        disk: DiskTier | None,
        *,
        log: InvalidationLog,
        sealer: Sealer,
        tally: Tally,
        clock: Callable[[], float],
    ) -> None:
        self.tiers: tuple[Tier, ...] = tuple(tier for tier in (shared, disk) if tier is not None)
        self._disk = disk
        self._log = log
        self._sealer = sealer
        self._tally = tally
        self._clock = clock

    def find(self, key: str) -> Found | None:
        """Return the answer from the first tier that has a valid one."""
        for tier in self.tiers:
            found = self._read(tier, key) if tier is not self._disk or self._log.is_known else None
            if found is not None:
                return found
        return None

    def fill(self, key: str, found: Found) -> None:
        """Put what was found into the faster tiers, for the time that it has left."""
        for tier in self.tiers[: self.tiers.index(found.tier)]:
            tier.put(key, found.sealed, ttl_s=found.left_s, tags=found.entry.tags)

    def seal(self, key: str, entry: Entry) -> bytes | None:
        """Return the entry as these tiers take it; None when there are none."""
        return self._sealer.seal(entry, key) if self.tiers else None

    def _read(self, tier: Tier, key: str) -> Found | None:
        sealed = tier.get(key)
        if sealed is None:
            return None
        entry = self._sealer.open(sealed, key)
        if entry is None or not is_sound(entry.record):
            self._tally.refused(tier.name)
            return None
        if self._log.is_outdated(entry.tags, entry.place):
            self._tally.refused(tier.name)
            tier.delete([key])
            return None
        left_s = None if entry.until_s is None else entry.until_s - self._clock()
        return None if left_s is not None and left_s <= 0 else Found(tier, entry, sealed, left_s)
