"""A circuit breaker: stop asking a service that fails, and find out with one trial call when it works again.

Main path: with breaker: call(), or an await; else allows(), then record_success() or record_failure(error).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Self

from course_lib.errors import CourseError
from course_lib.resilience.deadline import Clock


class BreakerOpen(CourseError):  # noqa: N818  (the field's word)
    """The service has failed so often that it is not asked at the moment."""


class CircuitBreaker:
    """Guards one service; for threads and tasks alike, since no method waits.

    After `threshold` failures in a row it stays open for `first_wait_s`, and after each failed trial call
    twice as long as before, up to `longest_wait_s`.
    """

    def __init__(
        self,
        name: str,
        *,
        threshold: int = 5,
        first_wait_s: float = 1.0,
        longest_wait_s: float = 30.0,
        is_failure: Callable[[Exception], bool] = lambda _error: True,
        clock: Clock = time.monotonic,
    ) -> None:
        """Begin closed; an error that is no failure (`with` only) is an answer: the service works."""
        self.name = name
        self.state = "closed"
        """Or "open", or "half-open" while a trial call is under way."""
        self.last_error = ""
        """The last failure, in one line; empty once a call has succeeded."""
        self._threshold, self._first_wait_s, self._longest_wait_s = threshold, first_wait_s, longest_wait_s
        self._is_failure, self._clock = is_failure, clock
        self._failures = 0
        self._wait_s = 0.0
        self._until_s = 0.0

    def allows(self) -> bool:
        """Return whether to call now, and tell the breaker afterwards how it went.

        When the wait is over, one caller gets True: its call is the trial. If nothing is heard of it, another
        one may follow after the same wait.
        """
        if self.state == "closed":
            return True
        with _lock:
            if self.state != "closed" and self._clock() < self._until_s:
                return False
            if self.state != "closed":
                self.state, self._until_s = "half-open", self._clock() + self._wait_s
            return True

    def record_success(self) -> None:
        """Tell that a call was answered; one from before the breaker opened does not close it."""
        with _lock:
            if self.state != "open":
                self.state, self._failures, self.last_error = "closed", 0, ""

    def record_failure(self, error: Exception | str) -> None:
        """Tell that a call failed; of an error its type and first line are kept, a text as it is.

        One from before the breaker opened does not lengthen the wait.
        """
        if isinstance(error, Exception):
            error = f"{type(error).__name__}: {error}".split("\n")[0]
        with _lock:
            self.last_error = error
            self._failures += 1
            if self.state == "half-open":
                self._open(min(2 * self._wait_s, self._longest_wait_s))
            elif self.state == "closed" and self._failures >= self._threshold:
                self._open(self._first_wait_s)

    def _open(self, wait_s: float) -> None:
        self.state, self._wait_s, self._until_s = "open", wait_s, self._clock() + wait_s

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
        elif self.state == "half-open":  # cancelled or interrupted, so the next call is the trial
            self._until_s = self._clock()


_lock = threading.Lock()  # of all breakers; held for a microsecond, and never while the process forks
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
