"""Calls are repeated while it helps, and no longer than the deadline; plain and async functions alike."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import stamina

from course_lib.resilience import Deadline, RetryBudget, retry
from course_lib.resilience.retries import waits_s


@pytest.fixture(autouse=True)
def _no_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=1000, cap=True):
        yield


def call_plain(decorate: Callable[..., Any], function: Callable[[], object]) -> object:
    return decorate(function)()


def call_async(decorate: Callable[..., Any], function: Callable[[], object]) -> object:
    async def as_coroutine() -> object:
        await asyncio.sleep(0)
        return function()

    return asyncio.run(decorate(as_coroutine)())


BOTH = pytest.mark.parametrize("call", [call_plain, call_async], ids=["plain", "async"])


class Service:
    """Fails `failures` times with `error`, each call taking `takes_s` of the clock's time."""

    def __init__(self, failures: int, error: Exception, *, clock: Any = None, takes_s: float = 0) -> None:
        self.failures, self.error, self.clock, self.takes_s = failures, error, clock, takes_s
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.clock:
            self.clock.advance(self.takes_s)
        if self.calls <= self.failures:
            raise self.error
        return "answer"


def is_oserror(error: Exception) -> bool:
    return isinstance(error, OSError)


@BOTH
@pytest.mark.parametrize(
    ("failures", "error", "calls"),
    [(2, OSError("down"), 3), (9, OSError("still down"), 3), (9, KeyError("wrong input"), 1)],
    ids=["goes away", "lasting", "final"],
)
def test_calls_are_repeated_while_it_helps_and_the_last_error_is_raised_as_it_is(
    call, failures, error, calls
):
    service, answers = Service(failures, error), failures < calls

    with contextlib.nullcontext() if answers else pytest.raises(type(error)) as caught:
        assert call(retry(is_retryable=is_oserror, attempts=3), service) == "answer"

    assert service.calls == calls
    assert answers or caught.value is error


@BOTH
def test_no_call_is_repeated_after_the_deadline(call, clock):
    service = Service(99, OSError("down"), clock=clock, takes_s=4)

    with pytest.raises(OSError, match="down"):
        call(retry(is_retryable=is_oserror, attempts=None, deadline_s=10, clock=clock), service)

    assert service.calls == 3


@BOTH
def test_an_earlier_deadline_around_the_call_holds_and_is_seen_inside(call, clock):
    seen = []

    def fail() -> None:
        current = Deadline.current()
        assert current
        seen.append(current.remaining_s())
        clock.advance(3)
        raise OSError("down")

    with Deadline.after(5, clock=clock).applied(), pytest.raises(OSError, match="down"):
        call(retry(is_retryable=is_oserror, attempts=9, deadline_s=60, clock=clock), fail)

    assert seen == [5, 2]
    assert Deadline.current() is None


@pytest.mark.parametrize(("asked_s", "calls"), [(2.0, 2), (30.0, 1)], ids=["in time", "too late"])
def test_a_wait_that_the_server_asks_for_is_kept_or_not_begun(clock, asked_s, calls):
    service = Service(1, OSError("429"))

    with contextlib.suppress(OSError):
        retry(is_retryable=lambda _: asked_s, deadline_s=10, clock=clock)(service)()

    assert service.calls == calls


def test_waits_double_up_to_the_longest_and_lose_up_to_half_at_random():
    waits = list(islice(waits_s(1, 5), 6))
    again = list(islice(waits_s(1, 5), 6))

    assert all(full / 2 <= wait <= full for wait, full in zip(waits, [1, 2, 4, 5, 5, 5], strict=True))
    assert waits != again


def test_a_budget_allows_a_burst_and_then_a_share_of_all_calls():
    budget = RetryBudget(0.25, burst=2)

    assert [budget.allows_repeat() for _ in range(3)] == [True, True, False]
    allowed = 0
    for _ in range(40):
        budget.record_call()
        allowed += budget.allows_repeat()
    assert allowed == 10
