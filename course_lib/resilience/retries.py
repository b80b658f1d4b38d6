"""Call again after a wait that grows, while the error is one that may go away by itself.

Main path: retry(is_retryable=...)(function)(...), the same for a plain and an async function.
Source: stamina 26.1 makes the attempts; added here are the deadline and a jitter that grows with the wait.
`stamina.set_testing(True, attempts=9, cap=True)` takes the waits out of tests.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from itertools import count
from typing import Any, ParamSpec, TypeVar, cast

import stamina

from course_lib.notes import note
from course_lib.resilience import forks
from course_lib.resilience.deadline import Clock, Deadline

P = ParamSpec("P")
T = TypeVar("T")
Verdict = Callable[[Exception], bool | float]
"""Whether to repeat a call after this error; a number is the wait in seconds that the server asked for."""

logging.getLogger("stamina").addHandler(logging.NullHandler())  # the caller gets the last error


def retry(
    *,
    is_retryable: Verdict,
    attempts: int | None = 3,
    deadline_s: float = math.inf,
    first_wait_s: float = 0.1,
    longest_wait_s: float = 5.0,
    clock: Clock = time.monotonic,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator that repeats a failed call; the last error is raised.

    Args:
        is_retryable: tells the errors after which the call is repeated.
        attempts: how many in all; None for as many as the deadline allows.
        deadline_s: no wait ends later. An earlier `Deadline` around the call holds too, and the function sees
            whichever is earlier as `Deadline.current()`.
        first_wait_s: the wait before the second attempt; it doubles each time. A random part of each wait, up
            to half, is left out (jitter), so that many callers do not come back at once.
        longest_wait_s: the longest wait.
        clock: where the time comes from.
    """

    @contextmanager
    def verdict_within_deadline() -> Iterator[Verdict]:
        waits, numbers = waits_s(first_wait_s, longest_wait_s), count(2)

        def wait_or_stop(error: Exception) -> bool | float:
            number = next(numbers)
            if attempts is not None and number > attempts:
                return False
            verdict = is_retryable(error)
            if verdict is False:
                return False
            wait_s = next(waits) if verdict is True else max(0.0, verdict)
            if wait_s >= deadline.remaining_s():
                return False
            note("retry", attempt=number, error=type(error).__name__, wait_s=round(wait_s, 3))
            return wait_s

        with Deadline.after(deadline_s, clock=clock).applied() as deadline:
            yield wait_or_stop

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        async def call_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            with verdict_within_deadline() as verdict:
                return await repeat_async(verdict, cast(Any, function), *args, **kwargs)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with verdict_within_deadline() as verdict:
                return repeat(verdict, function, *args, **kwargs)

        return cast("Callable[P, T]", call_async) if iscoroutinefunction(function) else call

    repeat = stamina.RetryingCaller(attempts=attempts, timeout=None)
    repeat_async = stamina.AsyncRetryingCaller(attempts=attempts, timeout=None)
    return decorate


def asked_s(error: BaseException) -> float | None:
    """Return the seconds that a server asked to wait (`retry_after`); None where it named no time to wait."""
    seconds = getattr(error, "retry_after", None)
    return seconds if isinstance(seconds, int | float) and seconds >= 0 else None


def waits_s(first_s: float, longest_s: float) -> Iterator[float]:
    """Yield waits without end: each twice the last, up to the longest, less a random part up to half."""
    wait_s = first_s
    while True:
        yield wait_s * random.uniform(0.5, 1.0)
        wait_s = min(2 * wait_s, longest_s)


class RetryBudget:
    """Bounds repeated calls to a share of all calls, whatever fails: the cure for retry storms.

    When nearly every call fails, three attempts for each are three times the load for a service that is down
    already. With a share of 0.2 it is 1.2 times, and a `burst` of repeats after a quiet time.
    """

    def __init__(self, share: float = 0.2, *, burst: float = 5.0) -> None:
        self._share, self._burst, self._left = share, burst, burst
        self._lock = threading.Lock()
        forks.things.add(self)

    def record_call(self) -> None:
        """Tell of a first attempt: it earns its share of a repeat."""
        with self._lock:
            self._left = min(self._burst, self._left + self._share)

    def allows_repeat(self) -> bool:
        """Return whether one more repeat may be made, and count it."""
        with self._lock:
            self._left -= (is_allowed := self._left >= 1)
            return is_allowed
