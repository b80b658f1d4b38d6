"""Each policy alone, around a plain async function: how often it calls, whom, and what is left of it."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import dspy
import pytest

from course_lib.concurrency.policies import (
    Coalesce,
    ExponentialBackoff,
    Fallback,
    Hedge,
    Timeout,
    composed,
    guarded_by,
    is_outage,
    limited_by,
    within_deadline,
)
from course_lib.resilience import (
    BreakerOpen,
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    Deadline,
    DeadlineExceeded,
    RetryBudget,
)
from tests.concurrency.waiting import until

pytestmark = pytest.mark.anyio
DOWN = dspy.LMServerError("down")
REFUSED = dspy.LMInvalidRequestError("bad request")


class Service:
    """Plays a script, one entry for each call: an error is raised, an event waited for, a text answered."""

    def __init__(self, *script: Any) -> None:
        self.script, self.calls, self.cancelled = script, 0, 0

    async def __call__(self, _request: Any) -> Any:
        step = self.script[min(self.calls, len(self.script) - 1)]
        self.calls += 1
        if isinstance(step, Exception):
            raise step
        if isinstance(step, asyncio.Event):
            try:
                await step.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return step


def never() -> asyncio.Event:
    return asyncio.Event()


def quick(attempts: int = 3, **options: Any) -> ExponentialBackoff:
    return ExponentialBackoff(attempts, first_wait_s=0.001, **options)


@pytest.mark.parametrize("number", [0, -1, math.nan, math.inf])
def test_a_setting_that_is_no_time_is_refused_by_its_name(number):
    makers = {
        "limit_s": Timeout,
        "after_s": lambda number: Hedge(number, is_idempotent=bool),
        "first_wait_s": lambda number: ExponentialBackoff(first_wait_s=number),
        "threshold": lambda number: CircuitBreaker("it", threshold=number),
    }
    for name, make in makers.items():
        with pytest.raises(ValueError, match=f"{name} .* must be above 0"):
            make(number)


# -- backoff -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "calls"),
    [((DOWN, DOWN, "yes"), 3), ((DOWN,), 3), ((REFUSED, "yes"), 1), ((DOWN, REFUSED, "yes"), 2)],
    ids=["twice down", "always down", "refused", "down, then refused"],
)
async def test_only_errors_that_may_pass_are_followed_by_another_attempt(script, calls):
    service = Service(*script)

    (outcome,) = await asyncio.gather(quick()(service, "?"), return_exceptions=True)

    assert (service.calls, outcome) == (calls, script[min(calls, len(script)) - 1])


async def test_a_server_is_waited_for_as_long_as_it_asks_unless_that_is_long():
    patient = Service(dspy.LMRateLimitError("busy", retry_after=0.2), "yes")
    begun_s = time.monotonic()
    assert await quick()(patient, "?") == "yes"
    assert time.monotonic() - begun_s >= 0.2

    for nonsense in (math.nan, -1.0, "soon"):
        named = Service(dspy.LMRateLimitError("busy", retry_after=nonsense), "yes")
        assert await quick()(named, "?") == "yes"

    long = Service(dspy.LMRateLimitError("busy", retry_after=3600), "yes")
    with pytest.raises(dspy.LMRateLimitError):
        await quick()(long, "?")
    with pytest.raises(dspy.LMRateLimitError), Deadline.after(1).applied():
        await quick(longest_wait_s=7200)(long := Service(*long.script), "?")
    assert long.calls == 1


async def test_the_budget_bounds_the_repeats_of_many_calls():
    service = Service(DOWN)
    backoff = quick(attempts=5, budget=RetryBudget(0.2, burst=2))

    await asyncio.gather(*(backoff(service, "?") for _ in range(50)), return_exceptions=True)

    assert 50 < service.calls <= 50 + 2 + 10


# -- deadline and timeout ------------------------------------------------------------------------------


async def test_a_deadline_and_a_timeout_cancel_the_call():
    service = Service(never())

    with pytest.raises(DeadlineExceeded), Deadline.after(0.01).applied():
        await within_deadline(service, "?")
    with pytest.raises(dspy.LMTimeoutError, match=r"within 0\.01 s"):
        await Timeout(0.01)(service, "?")

    assert service.cancelled == 2


@pytest.mark.parametrize("policy", [within_deadline, Timeout(20)], ids=["deadline", "timeout"])
async def test_a_timeout_of_the_calls_own_stays_what_it_is(policy):
    with pytest.raises(TimeoutError, match="its own"), Deadline.after(20).applied():
        await policy(Service(TimeoutError("its own")), "?")


# -- breaker, bulkhead, fallback -----------------------------------------------------------------------


async def test_a_breaker_opens_by_outages_and_not_by_refusals():
    breaker = CircuitBreaker("m", threshold=2, is_failure=is_outage)
    busy = dspy.LMRateLimitError("busy")
    service = Service(REFUSED, busy, REFUSED, busy, DOWN, DOWN)
    call = composed([guarded_by(breaker)], service)

    outcomes = await asyncio.gather(*(call("?") for _ in range(8)), return_exceptions=True)

    assert (service.calls, [type(each) for each in outcomes[6:]]) == (6, [BreakerOpen] * 2)


@pytest.mark.parametrize(
    ("error", "answer"),
    [(DOWN, "other"), (BreakerOpen("m"), "other"), (BulkheadFull("m"), "other"), (REFUSED, REFUSED)],
    ids=["down", "open", "full", "refused"],
)
async def test_another_is_asked_by_class_of_error(error, answer):
    fallback = Fallback(other := Service("other"))

    (outcome,) = await asyncio.gather(fallback(Service(error), "?"), return_exceptions=True)

    assert (outcome, other.calls) == (answer, answer == "other")


async def test_the_first_one_leaves_time_for_the_other():
    first, other = Service(never()), Service("other")

    with Deadline.after(0.2).applied():
        assert await Fallback(other, share=0.1)(first, "?") == "other"

    assert first.cancelled == 1


async def test_what_does_not_fit_is_refused_at_once_and_the_rest_waits_its_turn():
    may_end = asyncio.Event()
    service, bulkhead = Service(may_end), Bulkhead("m", limit=2, waiting=3)
    call = composed([limited_by(bulkhead)], service)

    calls = [asyncio.create_task(call("?")) for _ in range(8)]
    await until(lambda: bulkhead.refused == 3)
    assert service.calls == 2
    calls[2].cancel()  # one of those who wait
    may_end.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(each) for each in outcomes if each is not may_end] == [
        asyncio.CancelledError,
        *[BulkheadFull] * 3,
    ]
    assert await call("?") is may_end
    assert service.calls == 5


# -- hedge ---------------------------------------------------------------------------------------------


def hedge(**options: Any) -> Hedge:
    return Hedge(0.01, is_idempotent=lambda request: request == "read", **options)


async def test_a_late_answer_is_asked_for_again_and_the_loser_cancelled():
    service = Service(never(), "second")

    assert await hedge()(service, "read") == "second"

    assert (service.calls, service.cancelled) == (2, 1)


@pytest.mark.parametrize("request_", ["write", "read"])
async def test_what_has_effects_is_sent_once_and_so_is_what_the_budget_forbids(request_):
    service = Service(may_end := asyncio.Event())
    policy = hedge(budget=RetryBudget(0.0, burst=0.5 if request_ == "read" else 5))

    call = asyncio.create_task(policy(service, request_))
    await asyncio.sleep(0.05)
    may_end.set()

    assert (await call, service.calls) == (may_end, 1)


async def test_if_one_of_both_fails_the_other_counts_and_if_both_fail_the_first():
    slow = asyncio.Event()
    service = Service(slow, DOWN)
    call = asyncio.create_task(hedge()(service, "read"))
    await until(lambda: service.calls == 2)
    slow.set()
    assert await call is slow

    async def fails(_request: Any) -> None:
        await asyncio.sleep(0.03)
        raise DOWN

    with pytest.raises(dspy.LMServerError):
        await hedge()(fails, "read")


async def test_a_hedged_call_that_is_cancelled_leaves_nothing_running():
    service = Service(never())
    call = asyncio.create_task(hedge()(service, "read"))
    await until(lambda: service.calls == 2)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert service.cancelled == 2


# -- coalesce ------------------------------------------------------------------------------------------


def coalesce() -> Coalesce:
    return Coalesce(key=lambda request: request, copied=lambda answer: ("shared", answer))


async def test_identical_requests_share_one_call():
    service = Service(may_end := asyncio.Event())
    policy = coalesce()

    calls = [asyncio.create_task(policy(service, request)) for request in ["a"] * 5 + ["b", None, None]]
    await until(lambda: service.calls == 4)
    may_end.set()

    assert (await asyncio.gather(*calls)).count(("shared", may_end)) == 4
    assert service.calls == 4


async def test_one_who_runs_out_of_time_is_alone_in_that():
    service = Service(never(), may_end := asyncio.Event())
    call = composed([within_deadline, coalesce()], service)

    async def hasty() -> Any:
        with Deadline.after(0.05).applied():
            return await call("a")

    calls = [asyncio.create_task(each) for each in (hasty(), call("a"), call("a"))]
    await until(lambda: service.calls == 2)
    may_end.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(outcomes[0]), *outcomes[1:]] == [DeadlineExceeded, may_end, ("shared", may_end)]


async def test_one_whose_time_would_not_suffice_is_alone_in_that_too():
    policy, may_end = coalesce(), asyncio.Event()

    async def limited(_request: Any) -> str:
        await may_end.wait()
        if Deadline.current():
            raise DeadlineExceeded("the rate limit asks for longer")
        return "yes"

    async def hasty() -> Any:
        with Deadline.after(60).applied():
            return await policy(limited, "a")

    calls = [asyncio.create_task(hasty()), asyncio.create_task(policy(limited, "a"))]
    await asyncio.sleep(0.01)
    may_end.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(outcomes[0]), outcomes[1]] == [DeadlineExceeded, "yes"]


async def test_policies_stand_around_the_call_in_their_order():
    told = []

    def telling(name: str) -> Any:
        async def policy(call: Any, request: Any) -> Any:
            told.append(name)
            return await call(request)

        return policy

    assert await composed([telling("outer"), telling("inner")], Service("yes"))("?") == "yes"
    assert told == ["outer", "inner"]
