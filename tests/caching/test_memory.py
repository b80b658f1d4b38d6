"""The memory tier: who leaves, when, and that its bytes are counted honestly."""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Callable

import orjson
import pytest

from course_lib.caching.memory import MemoryTier, deep_size_bytes


def test_a_value_larger_than_the_tier_is_not_kept_and_pushes_nobody_out():
    tier, record = MemoryTier(2000), {"outputs": ["x"]}
    tier.put("a", record)

    assert tier.put("b", b"v" * 5000) is False
    assert tier.get("a") is record


@pytest.mark.parametrize(
    ("times", "count", "value"),
    [
        (1, 2740, lambda n: os.urandom(20)),
        (2, 2740, lambda n: os.urandom(20)),
        (1, 5000, lambda n: os.urandom(20)),
        (1, 3000, lambda n: orjson.loads(b'{"outputs": ["%d"], "n": [1.5]}' % n)),
    ],
    ids=["once", "twice", "many more than fit", "records"],
)
def test_the_bound_is_true(times: int, count: int, value: Callable[[int], object]):
    """Small entries, where what keeping them takes is most of it, and the tables at their worst."""
    bound = 3 * 2**20
    tracemalloc.start()
    try:
        tier = MemoryTier(bound)
        for n in [*range(count)] * times:
            tier.put(f"{n:064d}", value(n), ttl_s=60 + n / 1000, tags=(f"tag {n}",))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 0.4 * tier.size_bytes() < taken <= tier.size_bytes() <= bound


def test_a_value_that_holds_itself_is_measured():
    knot: list[object] = []
    knot.append(knot)

    assert deep_size_bytes(knot) == sys.getsizeof(knot)
