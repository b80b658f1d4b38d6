"""The memory tier: who leaves, when, and that its bytes are counted honestly."""

from __future__ import annotations

import os
import random
import sys
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest

from course_lib.caching.memory import MemoryTier, deep_size_bytes
from tests.caching.front_parts import Clock


def entry_bytes(value: object = b"v", key: str = "a") -> int:
    tier = MemoryTier(10**6)
    tier.put(key, value)
    return tier.size_bytes()


def test_a_value_larger_than_the_tier_is_not_kept_and_pushes_nobody_out():
    tier, record = MemoryTier(2 * entry_bytes({"outputs": ["x"]})), {"outputs": ["x"]}
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


def test_it_does_what_a_plain_model_of_it_does():
    """A model with a list for the order, over many random steps."""
    rng, size, clock = random.Random(7), entry_bytes(b"v" * 10, "00"), Clock()
    tier = MemoryTier(8 * size, clock=clock)
    model: OrderedDict[str, float] = OrderedDict()
    for _ in range(5000):
        clock.now_s += rng.random()
        key = f"{rng.randrange(20):02d}"
        alive = key in model and model[key] > clock.now_s
        if rng.random() < 0.5:
            assert (tier.get(key) is not None) == alive
            if alive:
                model.move_to_end(key)
            else:
                model.pop(key, None)
        else:
            model.pop(key, None)
            if len(model) == 8:
                soonest = min(model, key=model.__getitem__)
                model.pop(soonest if model[soonest] <= clock.now_s else next(iter(model)))
            ttl_s = rng.choice([2.0, 5.0, 50.0])
            tier.put(key, b"v" * 10, ttl_s=ttl_s)
            model[key] = clock.now_s + ttl_s
        live = {key for key, until_s in model.items() if until_s > clock.now_s}
        assert {key for key in model if key in tier} == live
        assert tier.size_bytes() == len(live) * size


def test_threads_do_not_upset_the_count():
    tier = MemoryTier(50 * entry_bytes(b"v" * 20, "00"))

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(2000):
            key = f"{rng.randrange(99):02d}"
            if rng.random() < 0.5:
                tier.put(key, b"v" * rng.randrange(30), ttl_s=rng.random(), tags=(key[0],))
            elif rng.random() < 0.9:
                tier.get(key)
            else:
                tier.drop_tag(key[0])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))

    assert 0 <= tier.size_bytes() <= tier.max_bytes
    tier.clear()
    assert tier.size_bytes() == 0
