"""A circuit breaker: stop asking a service that fails, and find out with one trial call when it works again.

Main path: with breaker: call(); or allows(), then record_success() or record_failure(error).
The states are data and the transitions are functions of them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

from course_lib.errors import CourseError
from course_lib.resilience.deadline import Clock


class BreakerOpen(CourseError):  # noqa: N818  (the field's word)
    """The service has failed so often that it is not asked at the moment."""


@dataclass(frozen=True, slots=True)
class Closed:
    """Calls go through; so many failed in a row."""

    failures: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """No call goes through before `until_s`."""

    until_s: float
    wait_s: float


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """One trial call is under way; if nothing is heard of it, another may follow at `until_s`."""

    until_s: float
    wait_s: float


State = Closed | Open | HalfOpen


def before_call(state: State, now_s: float) -> tuple[State, bool]:
    """Return the next state, and whether this call goes through."""
    if isinstance(state, Closed):
        return state, True
    if now_s < state.until_s:
        return state, False
    return HalfOpen(now_s + state.wait_s, state.wait_s), True


def after_success(state: State) -> State:
    """Close the breaker; the late success of a call from before it opened changes nothing."""
    return state if isinstance(state, Open) else Closed()


def after_failure(
    state: State, now_s: float, *, threshold: int, first_wait_s: float, longest_wait_s: float
) -> State:
    """Count a failure; a failed trial call doubles the wait, a late failure does not lengthen it."""
    match state:
        case Closed(failures) if failures + 1 < threshold:
            return Closed(failures + 1)
        case Closed():
            return Open(now_s + first_wait_s, first_wait_s)
        case HalfOpen():
            wait_s = min(2 * state.wait_s, longest_wait_s)
            return Open(now_s + wait_s, wait_s)
        case Open():
            return state


def after_cancel(state: State, now_s: float) -> State:
    """Let the next call be the trial call, when this one was cancelled and showed nothing."""
    return Open(now_s, state.wait_s) if isinstance(state, HalfOpen) else state


class CircuitBreaker:
    """Guards one service; for threads and tasks alike, since no method waits.

    After `threshold` failures in a row it stays open for `first_wait_s`, and after each failed trial call
    twice as long as before, up to `longest_wait_s`. In `with`, an error that is no failure by `is_failure`
    (a refused input, say) shows that the service answers.
    """

    def __init__(
        self,
        name: str,
        *,
        threshold: int = 5,
        first_wait_s: float = 1.0,
        longest_wait_s: float = 30.0,
        is_failure: Callable[[Exception], bool] = lambda _: True,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name = name
        self.state: State = Closed()
        self.last_error = ""
        """The last failure, in one line; empty once a call has succeeded."""
        self._after_failure = partial(
            after_failure, threshold=threshold, first_wait_s=first_wait_s, longest_wait_s=longest_wait_s
        )
        self._is_failure = is_failure
        self._clock = clock

    def allows(self) -> bool:
        """Return whether to call now, and tell the breaker afterwards how it went.

        When the wait is over, one caller gets True: its call is the trial.
        """
        if isinstance(self.state, Closed):
            return True
        with _lock:
            self.state, is_allowed = before_call(self.state, self._clock())
            return is_allowed

    def record_success(self) -> None:
        """Tell that a call was answered."""
        with _lock:
            self.state = after_success(self.state)
            if isinstance(self.state, Closed):
                self.last_error = ""

    def record_failure(self, error: Exception | str) -> None:
        """Tell that a call failed; of an error its type and first line are kept, a text as it is."""
        if isinstance(error, Exception):
            error = f"{type(error).__name__}: {error}".split("\n")[0]
        with _lock:
            self.state = self._after_failure(self.state, self._clock())
            self.last_error = error

    def __enter__(self) -> Self:
        """Begin a call.

        Raises:
            BreakerOpen: no call is made at the moment.
        """
        if not self.allows():
            raise BreakerOpen(f"{self.name} is not asked at the moment; its last error: {self.last_error}")
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or (isinstance(error, Exception) and not self._is_failure(error)):
            self.record_success()
        elif isinstance(error, Exception):
            self.record_failure(error)
        else:  # cancelled, or interrupted
            with _lock:
                self.state = after_cancel(self.state, self._clock())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)


_lock = threading.Lock()  # of all breakers, so that it is renewed in one place; held for a microsecond


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread may have held it when this process was forked


os.register_at_fork(after_in_child=_after_fork)
