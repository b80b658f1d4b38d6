"""A circuit breaker: stop asking a service that fails, and find out with one trial call when it works again.

Main path: with breaker: call(), or an await; else allows(), then record_success() or record_failure(error).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Self, TypeVar

from course_lib.errors import CourseError
from course_lib.notes import note
from course_lib.resilience.deadline import Clock
from course_lib.resilience.numbers import positive

T = TypeVar("T")


class BreakerOpen(CourseError):  # noqa: N818  (the field's word)
    """The service has failed so often that it is not asked at the moment."""


class CircuitBreaker:
    """Guards one service; for threads and tasks alike, since no method waits.

    After `threshold` failures in a row it stays open for `first_wait_s`, and after each failed trial call
    twice as long as before, up to `longest_wait_s`. A call that began before it opened tells nothing of now:
    `with` knows it by the context in which it began.
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
        positive(threshold=threshold, first_wait_s=first_wait_s, longest_wait_s=longest_wait_s)
        self.name = name
        self.state = "closed"
        """Or "open", or "half-open" while a trial call is under way."""
        self.last_error = ""
        """The last failure: its class and status, for its words may quote a caller; empty after a success."""
        self._threshold, self._first_wait_s, self._longest_wait_s = threshold, first_wait_s, longest_wait_s
        self._is_failure, self._clock = is_failure, clock
        self._failures = 0
        self._wait_s = self._until_s = 0.0
        self._era = 1  # ends when it opens and when a trial begins

    def allows(self) -> bool:
        """Return whether to call now, and tell the breaker afterwards how it went.

        When the wait is over, one caller gets True: its call is the trial. If nothing is heard of it, another
        one may follow after the same wait.
        """
        return self._begin() is not None

    def _begin(self) -> int | None:
        """Return the era in which a call begins now; None if it must not."""
        return self._era if self.state == "closed" else self._changing(self._begin_trial)

    def _begin_trial(self) -> int | None:
        if self.state != "closed" and self._clock() < self._until_s:
            return None
        if self.state != "closed":
            self.state, self._until_s = "half-open", self._clock() + self._wait_s
            self._era += 1
        return self._era

    def record_success(self, *, begun: int | None = None) -> None:
        """Tell that a call was answered; no news while the breaker is open.

        `begun` is the era in which the call began, where it is known: of an earlier one it is no news either.
        """
        self._changing(self._close, begun)

    def _close(self, begun: int | None) -> None:
        if self._is_news(begun):
            self.state, self._failures, self.last_error = "closed", 0, ""

    def record_failure(self, error: Exception | str, *, begun: int | None = None) -> None:
        """Tell that a call failed. Callers are told a text as it is, and of an error its class and status."""
        if isinstance(error, Exception):
            status = vars(error).get("status")
            error = type(error).__name__ + (f" (status {status})" if isinstance(status, int) else "")
        self._changing(self._count_failure, error, begun)

    def _count_failure(self, error: str, begun: int | None) -> None:
        if not self._is_news(begun):
            return
        self.last_error = error
        self._failures += 1
        if self.state == "half-open":
            self._open(min(2 * self._wait_s, self._longest_wait_s))
        elif self._failures >= self._threshold:
            self._open(self._first_wait_s)

    def _changing(self, change: Callable[..., T], *arguments: Any) -> T:
        """Make a change under the lock, and tell of a new state when it is given back."""
        with _lock:
            before = self.state
            result = change(*arguments)
            after = self.state
        if after != before:
            note("breaker", breaker=self.name, state=after)
        return result

    def _is_news(self, begun: int | None) -> bool:
        return self.state != "open" and begun in (None, self._era)

    def _open(self, wait_s: float) -> None:
        self.state, self._wait_s, self._until_s = "open", wait_s, self._clock() + wait_s
        self._era += 1

    def __enter__(self) -> Self:
        """Begin a call.

        Raises:
            BreakerOpen: no call is made at the moment.
        """
        if (era := self._begin()) is None:
            note("breaker.refused", breaker=self.name)
            raise BreakerOpen(f"{self.name} is not asked at the moment; its last error: {self.last_error}")
        under_way = _under_way.get()
        _under_way.set({**under_way, self: (era, under_way.get(self, _NONE)[1] + 1)})
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        begun = self._leave()
        if error is None or (isinstance(error, Exception) and not self._is_failure(error)):
            self.record_success(begun=begun)
        elif isinstance(error, Exception):
            self.record_failure(error, begun=begun)
        elif self.state == "half-open" and self._is_news(begun):  # cancelled, so the next call is the trial
            self._until_s = self._clock()

    def _leave(self) -> int | None:
        """Return the era in which the call of this context began; None if it began in another context."""
        under_way = dict(_under_way.get())
        era, calls = under_way.pop(self, _NONE)
        if calls > 1:
            under_way[self] = era, calls - 1
        _under_way.set(under_way)
        return era


_NONE = None, 0
_under_way: ContextVar[Mapping[CircuitBreaker, tuple[int | None, int]]] = ContextVar(
    "course_breakers", default=MappingProxyType({})
)
_lock = threading.Lock()  # of all breakers; held for a microsecond, and never while the process forks
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)
