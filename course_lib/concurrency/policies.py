"""What to do when a model fails, is slow or has too much to do: one small policy for each, to be combined.

Main path: await policy(call, request), where `call` is any async function of one argument; composed([p, q],
call) is a call again, with p around q around `call`.
Source: dspy.utils.exceptions (DSPy 3.4.1) names the errors; the mechanisms are course_lib.resilience.

A policy may call once, again, elsewhere or not at all, and knows nothing of the others. The order matters:
see `recommended` in processor.py.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Any

import dspy

from course_lib.concurrency import tasks
from course_lib.notes import note
from course_lib.resilience import (
    BreakerOpen,
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    Deadline,
    DeadlineExceeded,
    RetryBudget,
    SingleFlight,
    retry,
)
from course_lib.resilience.numbers import positive
from course_lib.resilience.retries import asked_s

Call = Callable[[Any], Awaitable[Any]]
"""An async function of one argument, the request."""
Policy = Callable[[Call, Any], Awaitable[Any]]
"""An async function of a call and its request, that returns what the call returns."""


def composed(policies: Sequence[Policy], call: Call) -> Call:
    """Return `call` with the policies around it, the first one outermost."""
    for policy in reversed(policies):
        call = partial(policy, call)
    return call


async def within_deadline(call: Call, request: Any) -> Any:
    """End the call when the current `Deadline` has passed; the model's server sees the client leave.

    Raises:
        DeadlineExceeded: it has.
    """
    async with Deadline(math.inf).held():
        return await call(request)


class Timeout:
    """Gives up one attempt after `limit_s`, early enough for another; a stream counts to its end."""

    def __init__(self, limit_s: float) -> None:
        positive(limit_s=limit_s)
        self.limit_s = limit_s

    async def __call__(self, call: Call, request: Any) -> Any:
        """Call; an attempt that takes too long is cancelled and fails with dspy.LMTimeoutError."""
        try:
            async with asyncio.timeout(self.limit_s) as timeout:
                return await call(request)
        except TimeoutError as error:
            if not timeout.expired() or isinstance(error, DeadlineExceeded):
                raise
            raise dspy.LMTimeoutError(f"no answer within {self.limit_s:g} s") from None


class ExponentialBackoff:
    """Calls again after a wait that doubles, with jitter; as long as a server asks for, if that is not long.

    A server that asks for more than `longest_wait_s` is not waited for, nor one that would be back after the
    deadline: the error is raised at once, so that another model may be asked. The budget bounds all repeats
    of this policy; one `RetryBudget` may serve several.
    """

    def __init__(
        self,
        attempts: int = 3,
        *,
        first_wait_s: float = 0.1,
        longest_wait_s: float = 5.0,
        is_retryable: Callable[[Exception], bool] = dspy.is_retryable_lm_error,
        budget: RetryBudget | None = None,
    ) -> None:
        positive(attempts=attempts, first_wait_s=first_wait_s)
        self.attempts, self.longest_wait_s = attempts, longest_wait_s
        self._is_retryable, self._budget = is_retryable, budget or RetryBudget()
        self._retry = partial(retry, attempts=None, first_wait_s=first_wait_s, longest_wait_s=longest_wait_s)

    async def __call__(self, call: Call, request: Any) -> Any:
        """Call until it succeeds; the last error is raised."""
        made = 0

        async def attempt() -> Any:
            nonlocal made
            made += 1
            return await call(request)

        def verdict(error: Exception) -> bool | float:
            return made < self.attempts and self._wait(error)

        self._budget.record_call()
        return await self._retry(is_retryable=verdict)(attempt)()

    def _wait(self, error: Exception) -> bool | float:
        """Return False for no repeat, True for the usual wait, or the seconds that the server asked for."""
        seconds = asked_s(error)
        if not self._is_retryable(error) or (seconds or 0.0) > self.longest_wait_s:
            return False
        if not self._budget.allows_repeat():
            return False
        return True if seconds is None else seconds * random.uniform(1.0, 1.1)


def guarded_by(breaker: CircuitBreaker) -> Policy:
    """Return the policy that asks a breaker first, and tells it how the call went."""

    async def policy(call: Call, request: Any) -> Any:
        with breaker:
            return await call(request)

    return policy


def limited_by(bulkhead: Bulkhead) -> Policy:
    """Return the policy that takes a place in a bulkhead for the time of the call."""

    async def policy(call: Call, request: Any) -> Any:
        async with bulkhead:
            return await call(request)

    return policy


def is_outage(error: Exception) -> bool:
    """Tell the errors by which a breaker should open; a 429 or a bad request comes from a service at work."""
    return dspy.is_retryable_lm_error(error) and not isinstance(error, dspy.LMRateLimitError)


def is_unavailable(error: Exception) -> bool:
    """Tell the errors after which another model may well answer; a bad request or a wrong key is none."""
    refused = isinstance(error, BreakerOpen | BulkheadFull | DeadlineExceeded)
    return refused or dspy.is_retryable_lm_error(error)


class Fallback:
    """Asks another model when the first one cannot answer, by class of error.

    Of the time until the deadline the first one gets `share`, so that there is some left for the other.
    """

    def __init__(
        self, other: Call, *, on: Callable[[Exception], bool] = is_unavailable, share: float = 0.6
    ) -> None:
        self.other, self.on, self.share = other, on, share

    async def __call__(self, call: Call, request: Any) -> Any:
        """Call; after an error of such a class, call the other one with the same request."""
        deadline = Deadline.current() or Deadline(math.inf)
        try:
            async with Deadline.after(self.share * deadline.remaining_s(), clock=deadline.clock).held():
                return await call(request)
        except Exception as error:  # border: the predicate decides
            if not self.on(error) or not deadline.remaining_s():
                raise
            note("fallback", error=type(error).__name__)
            return await self.other(request)


class Hedge:
    """Sends an idempotent request a second time when the answer is late, and takes the first answer.

    Against the rare slow answer: with `after_s` near the 95th percentile of the latency, one call in twenty
    is sent twice. The loser is cancelled. Where all are slow because the server has too much to do, it makes
    things worse; so the budget lets one call in twenty be sent twice, and no more.
    """

    def __init__(
        self, after_s: float, *, is_idempotent: Callable[[Any], bool], budget: RetryBudget | None = None
    ) -> None:
        positive(after_s=after_s)
        self.after_s, self._is_idempotent = after_s, is_idempotent
        self._budget = budget or RetryBudget(0.05)

    async def __call__(self, call: Call, request: Any) -> Any:
        """Call, and after a while perhaps once more; if both fail, the first one's error is raised."""
        self._budget.record_call()
        if not self._is_idempotent(request):
            return await call(request)
        asked = [asyncio.ensure_future(call(request))]
        try:
            done, _ = await asyncio.wait(asked, timeout=self.after_s)
            if not done and self._budget.allows_repeat():
                asked.append(asyncio.ensure_future(call(request)))
            return await _first_answer(asked)
        finally:
            await tasks.end(*asked)


async def _first_answer(asked: Sequence[asyncio.Future[Any]]) -> Any:
    pending = set(asked)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if not task.cancelled() and not task.exception():
                return task.result()
    return asked[0].result()


class Coalesce:
    """Lets identical requests under way share one call.

    All get its answer, or its error. Who is cancelled, or runs out of time, is alone in that: when it was the
    one whose call the others waited for, one of those calls.
    """

    def __init__(
        self, *, key: Callable[[Any], Hashable | None], copied: Callable[[Any], Any] = lambda answer: answer
    ) -> None:
        """Share among requests with the same key; a request with key None is its own call.

        `copied` makes of the answer what those get who did not call.
        """
        self._key, self._copied = key, copied
        self._flight = SingleFlight()

    async def __call__(self, call: Call, request: Any) -> Any:
        """Call, or wait for the identical call under way."""
        key = self._key(request)
        if key is None:
            return await call(request)
        while True:
            led: list[bool] = []

            async def lead(led: list[bool] = led) -> Any:
                led.append(True)
                return await call(request)

            try:
                answer, is_shared = await self._flight.run_async(key, lead)
            except DeadlineExceeded:
                if led:
                    raise
            else:
                return self._copied(answer) if is_shared else answer
