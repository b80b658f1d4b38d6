"""The breaker opens, waits, lets one trial call through, and tells why."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from course_lib.resilience import BreakerOpen, CircuitBreaker
from course_lib.resilience.breaker import (
    Closed,
    HalfOpen,
    Open,
    after_cancel,
    after_failure,
    after_success,
    before_call,
)

POLICY = {"threshold": 3, "first_wait_s": 10, "longest_wait_s": 30}


@pytest.fixture
def breaker(clock: Any) -> CircuitBreaker:
    return CircuitBreaker("Redis", threshold=2, first_wait_s=10, longest_wait_s=30, clock=clock)


def fail(breaker: CircuitBreaker, error: BaseException) -> None:
    with pytest.raises(type(error)), breaker:
        raise error


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (Closed(1), Closed(2)),
        (Closed(2), Open(110, 10)),
        (HalfOpen(105, 10), Open(120, 20)),
        (HalfOpen(105, 20), Open(130, 30)),
        (Open(105, 10), Open(105, 10)),
    ],
    ids=["one more", "opens", "failed trial", "longest wait", "late failure"],
)
def test_a_failure(state, after):
    assert after_failure(state, 100, **POLICY) == after


def test_a_late_success_does_not_close_it():
    assert after_success(Open(105, 10)) == Open(105, 10)


@pytest.mark.parametrize(
    ("state", "after", "goes_through"),
    [
        (Closed(1), Closed(1), True),
        (Open(101, 10), Open(101, 10), False),
        (Open(100, 10), HalfOpen(110, 10), True),
        (HalfOpen(101, 10), HalfOpen(101, 10), False),
        (HalfOpen(100, 10), HalfOpen(110, 10), True),
    ],
    ids=["closed", "open", "trial", "trial under way", "trial lost"],
)
def test_a_call(state, after, goes_through):
    assert before_call(state, 100) == (after, goes_through)


def test_it_opens_after_failures_in_a_row_and_says_why(breaker):
    fail(breaker, OSError("no route\nto host"))
    with breaker:
        pass
    assert breaker.last_error == ""
    fail(breaker, OSError("no route\nto host"))
    fail(breaker, OSError("no route\nto host"))

    with pytest.raises(BreakerOpen, match="at the moment; its last error: OSError: no route"):
        breaker.__enter__()


def test_it_closes_with_a_trial_call_that_succeeds(breaker, clock):
    breaker.record_failure("down")
    breaker.record_failure("down")
    assert not breaker.allows()
    clock.advance(10)

    with breaker:
        assert not breaker.allows(), "one trial call at a time"

    assert breaker.allows()
    assert breaker.last_error == ""


def test_exactly_one_of_many_threads_makes_the_trial_call(breaker, clock):
    breaker.record_failure("down")
    breaker.record_failure("down")
    clock.advance(10)
    allowed: list[bool] = []
    barrier = threading.Barrier(16)

    def ask() -> None:
        barrier.wait()
        allowed.append(breaker.allows())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(allowed) == 1


def test_a_cancelled_trial_call_leaves_the_trial_to_the_next(breaker, clock):
    breaker.record_failure("down")
    breaker.record_failure("down")
    clock.advance(10)

    fail(breaker, asyncio.CancelledError())

    assert breaker.allows()
    assert after_cancel(Closed(1), 100) == Closed(1)


def test_an_error_that_is_no_failure_shows_that_the_service_answers(clock):
    def is_failure(error: Exception) -> bool:
        return isinstance(error, OSError)

    breaker = CircuitBreaker("shop", threshold=1, is_failure=is_failure, clock=clock)
    fail(breaker, ValueError("no such order"))
    assert breaker.allows()

    fail(breaker, OSError("gone"))
    assert not breaker.allows()


def test_tasks_use_the_same_breaker(breaker):
    async def ask() -> None:
        async with breaker:
            await asyncio.sleep(0)
            raise OSError("down")

    async def main() -> list[BaseException | None]:
        return await asyncio.gather(*[ask() for _ in range(3)], return_exceptions=True)

    assert [type(error) for error in asyncio.run(main())] == [OSError] * 3
    assert not breaker.allows()
