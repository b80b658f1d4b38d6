"""The memory tier: who leaves, when, and that its bytes are counted honestly."""

from __future__ import annotations

import sys
import tracemalloc

import pytest

from course_lib.caching import TieredCache, scope
from course_lib.caching.memory import MemoryTier, deep_size_bytes


def test_a_value_larger_than_the_tier_is_not_kept_and_pushes_nobody_out():
    tier, record = MemoryTier(2000), {"outputs": ["x"]}
    tier.put("a", record)

    assert tier.put("b", b"v" * 5000) is False
    assert tier.get("a") is record


@pytest.mark.parametrize("count", [2740, 8000], ids=["its tables have just grown", "more than fit"])
def test_the_bound_is_true_for_small_answers_too(count: int):
    bound = 4 * 2**20
    cache = TieredCache(bound)
    tracemalloc.start()
    try:
        with scope(tenant="acme", customer="C-1", version="2"):
            cache.warm((f"{n:064d}", {"text": str(n)}) for n in range(count))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 0.3 * bound < taken <= cache.memory.size_bytes() <= bound


def test_a_value_that_holds_itself_is_measured():
    knot: list[object] = []
    knot.append(knot)

    assert deep_size_bytes(knot) == sys.getsizeof(knot)
