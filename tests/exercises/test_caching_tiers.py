"""Exercises 2.2 and 2.3: the library's own parts pass the learner's checks."""

from __future__ import annotations

from course_lib.caching import MemoryTier, TieredCache
from course_lib.exercises.caching import lru as caching_lru
from course_lib.exercises.caching import redis as caching_redis
from course_lib.exercises.engine.checking import judge
from course_lib.exercises.engine.checks import CheckFailed


def tiered(url, ttl_s):
    return TieredCache(redis_url=url, ttl_s=ttl_s)


class CountedByBytes:
    """The memory tier with room for so many entries of the size that the check puts in."""

    def __init__(self, max_entries, ttl_s, clock):
        self.tier = MemoryTier(max_entries * 1000, clock=clock)
        self.ttl_s = ttl_s

    def get(self, key):
        return self.tier.get(key)

    def put(self, key, value):
        self.tier.put(key, value, ttl_s=self.ttl_s, size_bytes=1000 - self._overhead(key))

    @staticmethod
    def _overhead(key):
        measuring = MemoryTier()
        measuring.put(key, None, size_bytes=0)
        return measuring.size_bytes()


def test_the_memory_tier_forgets_as_the_learner_s_cache_does():
    assert judge(caching_lru.EXERCISE, CountedByBytes).line == "2.2 passed: 6 of 6 checks"


def test_the_tiered_cache_passes_the_checks_of_the_redis_tier():
    problems = []
    for check in caching_redis.EXERCISE.checks:
        try:
            check(tiered)
        except CheckFailed as error:
            problems.append(str(error))

    assert problems == []
