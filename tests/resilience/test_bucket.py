"""A burst, then a steady rate, first come first served; no test waits longer than a few milliseconds."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from course_lib.resilience import Deadline, DeadlineExceeded, TokenBucket


def burst(bucket: TokenBucket) -> int:
    count = 0
    while bucket.try_acquire():
        count += 1
    return count


def test_a_burst_up_to_the_capacity_then_the_rate(clock):
    bucket = TokenBucket(2, 5, clock=clock)

    assert burst(bucket) == 5
    clock.advance(1.5)
    assert burst(bucket) == 3
    clock.advance(3600)
    assert burst(bucket) == 5


def test_waits_are_computed_and_grow_with_the_line(clock):
    bucket = TokenBucket(2, 1, clock=clock)
    with contextlib.ExitStack() as line:
        waits = [line.enter_context(bucket._reserved(1)) for _ in range(4)]

    assert waits == [0, 0.5, 1, 1.5]
    assert not bucket.try_acquire(), "those who wait have taken theirs"


def test_a_request_larger_than_the_capacity_waits_and_passes(clock):
    with TokenBucket(100, 10, clock=clock)._reserved(210) as wait_s:
        assert wait_s == 2


def test_who_is_cancelled_gives_the_tokens_back():
    bucket = TokenBucket(0.001, 1)

    async def main() -> None:
        await bucket.acquire()
        waiting = asyncio.create_task(bucket.acquire(1))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(main())
    assert bucket._tokens == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("how", ["async", "blocking"])
def test_a_wait_beyond_the_deadline_is_refused_at_once(clock, how):
    bucket = TokenBucket(1, 1, clock=clock)
    assert bucket.try_acquire()

    with Deadline.after(0.5, clock=clock).applied(), pytest.raises(DeadlineExceeded):
        asyncio.run(bucket.acquire()) if how == "async" else bucket.acquire_blocking()

    clock.advance(1)
    assert bucket.try_acquire(), "nothing was taken"


def test_both_forms_wait_and_pass():
    bucket = TokenBucket(1000, 1)

    bucket.acquire_blocking(2)
    asyncio.run(bucket.acquire(2))

    assert bucket._tokens <= 1


@pytest.mark.parametrize(("rate_per_s", "capacity"), [(0, 1), (1, 0), (-1, 1)])
def test_a_bucket_that_lets_nothing_through_is_refused(rate_per_s, capacity):
    with pytest.raises(ValueError, match="must be above 0"):
        TokenBucket(rate_per_s, capacity)
