"""The breaker opens, waits, lets one trial call through, and tells why."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import ANY

import dspy
import pytest

from course_lib.resilience import BreakerOpen, CircuitBreaker


@pytest.fixture
def breaker(clock: Any) -> CircuitBreaker:
    return CircuitBreaker("Redis", threshold=2, first_wait_s=10, longest_wait_s=30, clock=clock)


@pytest.fixture
def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    """A breaker that has just opened."""
    breaker.record_failure("down")
    breaker.record_failure("down")
    return breaker


def test_it_opens_after_failures_in_a_row_and_says_why(breaker):
    class MuteError(Exception):
        def __str__(self) -> str:
            raise TypeError

    def fail(error: Exception | None = None) -> None:
        error = error or dspy.LMServerError("cannot process: a tenant's prompt", status=500)
        with pytest.raises(type(error)), breaker:
            raise error

    fail()
    with breaker:
        pass
    assert breaker.last_error == ""
    fail(MuteError())
    assert breaker.last_error == "MuteError"
    fail()

    with pytest.raises(BreakerOpen, match=r"at the moment; its last error: LMServerError \(status 500\)$"):
        breaker.__enter__()


def test_it_closes_with_a_trial_call_that_succeeds(opened, clock):
    assert not opened.allows()
    clock.advance(10)

    with opened:
        assert opened.state == "half-open"
        assert not opened.allows(), "one trial call at a time"

    assert (opened.state, opened.last_error) == ("closed", "")
    opened.record_failure("down")
    assert opened.allows(), "the count begins anew"


def test_each_failed_trial_call_doubles_the_wait_up_to_the_longest(opened, clock):
    for wait_s in (10, 20, 30, 30):
        clock.advance(wait_s - 1)
        assert not opened.allows()
        clock.advance(1)
        assert opened.allows()
        opened.record_failure("still down")


def test_a_trial_call_never_heard_of_is_followed_by_another(opened, clock):
    for _ in range(2):
        clock.advance(10)
        assert [opened.allows(), opened.allows()] == [True, False]


@pytest.mark.parametrize("end", [None, OSError("late"), asyncio.CancelledError()], ids=repr)
@pytest.mark.parametrize("state", ["open", "half-open", "closed"])
def test_a_call_from_before_the_breaker_opened_changes_nothing(breaker, clock, state, end):
    async def call(may_end: asyncio.Event, error: BaseException | None) -> None:
        with breaker:
            await may_end.wait()
            if error is not None:
                raise error

    async def main() -> None:
        early, trial = asyncio.Event(), asyncio.Event()
        calls = [asyncio.create_task(call(early, end))]
        await asyncio.sleep(0)
        for _ in range(2):
            with contextlib.suppress(OSError), breaker:
                raise OSError("down")
        if state != "open":
            clock.advance(10)
            calls.append(asyncio.create_task(call(trial, None)))
            await asyncio.sleep(0)
        if state == "closed":
            trial.set()
            await calls[1]
            breaker.record_failure("down")  # one more would open it
        before = breaker.state, breaker.last_error
        early.set()
        await asyncio.wait(calls[:1])
        assert before == (breaker.state, breaker.last_error) == (state, ANY)
        assert breaker.allows() is (state == "closed")
        trial.set()
        await asyncio.gather(*calls[1:])
        assert breaker.state == ("open" if state == "open" else "closed")

    asyncio.run(main())


def test_exactly_one_of_many_threads_makes_the_trial_call(opened, clock):
    clock.advance(10)
    barrier = threading.Barrier(16)

    def ask(_number: int) -> bool:
        barrier.wait()
        return opened.allows()

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, range(16))) == 1


def test_a_cancelled_trial_call_leaves_the_trial_to_the_next(opened, clock):
    clock.advance(10)
    with pytest.raises(asyncio.CancelledError), opened:
        raise asyncio.CancelledError

    assert opened.allows()


def test_an_error_that_is_no_failure_is_an_answer(clock):
    breaker = CircuitBreaker("m", threshold=1, is_failure=lambda e: isinstance(e, OSError), clock=clock)

    with pytest.raises(ValueError, match="not mine"), breaker:
        raise ValueError("not mine")
    assert breaker.state == "closed"
    with pytest.raises(OSError, match="mine"), breaker:
        raise OSError("mine")
    assert breaker.state == "open"
