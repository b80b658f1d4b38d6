"""Exercises of lesson 02, Caching and performance.

Main path: EXERCISES -> registry.exercises(); each exercise has a module of its own, with its checks.
"""

from __future__ import annotations

from course_lib.exercises import (
    caching_batch,
    caching_flight,
    caching_lru,
    caching_misses,
    caching_redis,
    caching_semantic,
)

EXERCISES = (
    caching_misses.EXERCISE,
    caching_lru.EXERCISE,
    caching_redis.EXERCISE,
    caching_flight.EXERCISE,
    caching_semantic.EXERCISE,
    caching_batch.EXERCISE,
)
