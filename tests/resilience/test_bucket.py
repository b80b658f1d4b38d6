"""A burst, then a steady rate, first come first served; no test waits longer than a few milliseconds."""

from __future__ import annotations

import asyncio
import math

import pytest

from course_lib.resilience import Deadline, DeadlineExceeded, TokenBucket


def burst(bucket: TokenBucket) -> int:
    count = 0
    while bucket.wait_s() == 0:
        bucket.charge(1)
        count += 1
    return count


def test_a_burst_up_to_the_capacity_then_the_rate(clock):
    bucket = TokenBucket(2, 5, clock=clock)

    assert burst(bucket) == 5
    clock.advance(1.5)
    assert burst(bucket) == 3
    clock.advance(3600)
    assert burst(bucket) == 5

    bucket.charge(3)
    assert bucket.wait_s() == 2, "a debt is paid at the same rate"


def test_tasks_pass_in_the_order_in_which_they_came_also_with_more_than_the_capacity():
    bucket, passed = TokenBucket(1000, 1), []

    async def ask(number: int) -> None:
        await bucket.acquire(2)
        passed.append(number)

    async def main() -> None:
        await asyncio.gather(*(ask(number) for number in range(4)))

    asyncio.run(main())
    assert passed == [0, 1, 2, 3]


def test_who_is_cancelled_gives_the_tokens_back(clock):
    bucket = TokenBucket(0.001, 1, clock=clock)

    async def main() -> None:
        await bucket.acquire()
        waiting = asyncio.create_task(bucket.acquire(1))
        await asyncio.sleep(0)
        assert bucket.wait_s() == 2000
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(main())
    assert bucket.wait_s() == 1000


async def _in_line(bucket: TokenBucket, count: int) -> list[asyncio.Task[None]]:
    line = [asyncio.create_task(bucket.acquire()) for _ in range(count)]
    await asyncio.sleep(0.002)
    return line


def test_when_callers_in_front_give_up_those_behind_move_forward_and_nobody_passes_early():
    async def main() -> tuple[float, list[float]]:
        bucket, came_s = TokenBucket(100, 1), []
        line = await _in_line(bucket, 20)
        kept = [task for task in line if not task.done()][::6]
        for task in line:
            if task not in kept:
                task.cancel()
        others = await _in_line(bucket, 3)
        began_s = asyncio.get_running_loop().time()
        for task in (*kept, *others):
            task.add_done_callback(lambda _: came_s.append(asyncio.get_running_loop().time() - began_s))
        await asyncio.wait((*kept, *others), timeout=5)
        return len(kept) + len(others), came_s

    count, came_s = asyncio.run(main())
    assert len(came_s) == count, "all have passed"
    assert came_s[-1] >= (count - 1) / 100 - 0.01, "and none of them early"


def test_after_callers_gave_up_the_rate_is_what_it_was(clock):
    bucket = TokenBucket(10, 1, clock=clock)

    async def main() -> None:
        for _ in range(15):
            for task in await _in_line(bucket, 20):
                task.cancel()
            await asyncio.sleep(0)

    asyncio.run(main())
    assert bucket.wait_s() == pytest.approx(0.1), "the first one passed, and nobody else"
    clock.advance(0.1)
    assert burst(bucket) == 1


def test_what_the_collector_ends_meanwhile_freezes_nobody():
    bucket = TokenBucket(1, 1)
    bucket.charge(5)
    with bucket._lock:  # as in a method of the bucket, when the collector begins
        waiting = bucket.acquire()
        loop = asyncio.new_event_loop()
        task = loop.create_task(waiting)
        loop.call_soon(loop.stop)
        loop.run_forever()
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()
    assert bucket.wait_s() == pytest.approx(5, abs=0.5)


def test_a_wait_beyond_the_deadline_is_refused_at_once(clock):
    bucket = TokenBucket(1, 1, clock=clock)
    bucket.charge(1)

    with Deadline.after(0.5, clock=clock).applied(), pytest.raises(DeadlineExceeded):
        asyncio.run(bucket.acquire())

    clock.advance(1)
    assert bucket.wait_s() == 0, "nothing was taken"


@pytest.mark.parametrize(
    ("rate_per_s", "capacity"), [(0, 1), (1, 0), (-1, 1), (math.nan, 1), (1, math.nan), (math.inf, 1)]
)
def test_a_bucket_that_lets_nothing_through_is_refused(rate_per_s, capacity):
    with pytest.raises(ValueError, match="must be above 0"):
        TokenBucket(rate_per_s, capacity)
    if capacity == 1:
        with pytest.raises(ValueError, match="must be above 0"):
            TokenBucket(1, 1).rate_per_s = rate_per_s


def test_a_new_rate_and_a_hold_count_for_those_who_wait_already(clock):
    bucket = TokenBucket(2, 1, clock=clock)
    bucket.charge(1)

    with bucket.in_line(2) as left_s:
        assert left_s() == 1
        bucket.rate_per_s = 4
        assert left_s() == 0.5
        bucket.hold(10)
        bucket.hold(3)
        assert left_s() == 10.5
        clock.advance(10.25)
        assert left_s() == 0.25
        clock.advance(0.25)
        assert left_s() == 0
