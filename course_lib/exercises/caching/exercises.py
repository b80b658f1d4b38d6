"""Exercises of lesson 02, Caching and performance.

Main path: EXERCISES -> registry.exercises(); each exercise has a module of its own, with its checks.
"""

from __future__ import annotations

from course_lib.exercises.caching import batch as caching_batch
from course_lib.exercises.caching import flight as caching_flight
from course_lib.exercises.caching import lru as caching_lru
from course_lib.exercises.caching import misses as caching_misses
from course_lib.exercises.caching import redis as caching_redis
from course_lib.exercises.caching import semantic as caching_semantic

EXERCISES = (
    caching_misses.EXERCISE,
    caching_lru.EXERCISE,
    caching_redis.EXERCISE,
    caching_flight.EXERCISE,
    caching_semantic.EXERCISE,
    caching_batch.EXERCISE,
)
