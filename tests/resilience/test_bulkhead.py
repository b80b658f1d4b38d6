"""A bulkhead: never more than its limit at once, one for all event loops, and no place lost."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from course_lib.resilience import Bulkhead, BulkheadFull
from tests.resilience.conftest import ended_well, fork


def test_one_bulkhead_holds_for_the_tasks_of_many_loops_also_when_some_are_cancelled():
    bulkhead, lock = Bulkhead("model", limit=3, waiting=1000), threading.Lock()
    at_once: list[int] = [0]
    inside = 0

    async def call() -> None:
        nonlocal inside
        async with bulkhead:
            with lock:
                inside += 1
                at_once.append(inside)
            try:
                await asyncio.sleep(0.001)
            finally:
                with lock:
                    inside -= 1

    async def many(_number: int) -> None:
        tasks = [asyncio.create_task(call()) for _ in range(40)]
        await asyncio.sleep(0.005)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: asyncio.run(many(n)), range(4)))

    assert max(at_once) == 3
    assert asyncio.run(_takes_all(bulkhead)) == 3


async def _takes_all(bulkhead: Bulkhead) -> int:
    """Return how many places there are when all are free."""
    bulkhead.waiting, taken = 0, 0
    try:
        while True:
            await bulkhead.__aenter__()
            taken += 1
    except BulkheadFull:
        return taken


def test_a_closed_loop_takes_no_place_along():
    bulkhead, loop = Bulkhead("model", limit=1, waiting=1), asyncio.new_event_loop()

    async def hold() -> None:
        async with bulkhead:
            await asyncio.sleep(600)

    calls = [loop.create_task(hold()) for _ in range(2)]  # one holds, one waits
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    del calls
    gc.collect()

    assert asyncio.run(_takes_all(bulkhead)) == 1


def test_a_forked_child_has_all_places_and_no_lock_of_the_parent():
    bulkhead = Bulkhead("model", limit=2)

    def in_child() -> bool:
        return asyncio.run(_takes_all(bulkhead)) == 2

    async def full() -> None:
        async with bulkhead, bulkhead:
            with bulkhead._lock:
                pid = fork(in_child)
            assert await asyncio.to_thread(ended_well, pid)

    asyncio.run(full())
    assert bulkhead._free == 2


@pytest.mark.parametrize(("limit", "waiting"), [(0, 1), (1, -1), (1.5, 1), (math.nan, 1), (1, math.nan)])
def test_a_bulkhead_without_places_is_refused(limit, waiting):
    with pytest.raises(ValueError, match="must be 1 or more"):
        Bulkhead("model", limit=limit, waiting=waiting)
