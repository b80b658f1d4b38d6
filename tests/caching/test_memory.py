"""The memory tier: who leaves, when, and that its bytes are counted honestly."""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Callable

import pytest

from course_lib.caching import TieredCache
from course_lib.caching.memory import MemoryTier, deep_size_bytes


def test_a_value_larger_than_the_tier_is_not_kept_and_pushes_nobody_out():
    tier, record = MemoryTier(2000), {"outputs": ["x"]}
    tier.put("a", record)

    assert tier.put("b", b"v" * 5000) is False
    assert tier.get("a") is record


def full_tier(bound: int) -> MemoryTier:
    """Small entries put twice, when the tables have just grown and the heap holds the former ones too."""
    tier = MemoryTier(bound)
    for n in [*range(2740)] * 2:
        tier.put(f"{n:064d}", os.urandom(20), ttl_s=60 + n / 1000, tags=(f"tag {n}",))
    return tier


def full_cache(bound: int) -> MemoryTier:
    cache = TieredCache(bound)
    cache.warm((f"{n:064d}", {"text": str(n)}) for n in range(5470))
    return cache.memory


@pytest.mark.parametrize("filled", [full_tier, full_cache])
def test_the_bound_is_true_for_small_entries_too(filled: Callable[[int], MemoryTier]):
    bound = 3 * 2**20
    tracemalloc.start()
    try:
        tier = filled(bound)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 0.4 * tier.size_bytes() < taken <= tier.size_bytes() <= bound


def test_a_value_that_holds_itself_is_measured():
    knot: list[object] = []
    knot.append(knot)

    assert deep_size_bytes(knot) == sys.getsizeof(knot)
