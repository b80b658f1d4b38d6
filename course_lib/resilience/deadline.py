"""A deadline that travels with the call: whoever is called sees how much time is left.

Main path: with Deadline.after(2.0).applied(): ... Deadline.current().remaining_s() anywhere below; in a task
`async with Deadline.after(2.0).held()` also ends what is late. Deadline(math.inf) is no deadline of its own.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from course_lib.errors import CourseError

Clock = Callable[[], float]
"""Seconds since any fixed moment; never runs backwards."""


class DeadlineExceeded(CourseError, TimeoutError):  # noqa: N818  (the field's word)
    """The time in which an answer is due is over, or will be before there can be one."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment at which an answer is due, in seconds of `clock`."""

    at_s: float
    clock: Clock = time.monotonic

    @classmethod
    def after(cls, limit_s: float, *, clock: Clock = time.monotonic) -> Deadline:
        """Return the deadline that lies `limit_s` seconds from now."""
        return cls(clock() + limit_s, clock)

    @classmethod
    def current(cls) -> Deadline | None:
        """Return the earliest deadline of the calls around this one; None when there is none.

        Tasks and `asyncio.to_thread` inherit it; a thread started by hand does not.
        """
        return _current.get()

    def remaining_s(self) -> float:
        """Return the seconds left, 0 when the deadline has passed."""
        return max(0.0, self.at_s - self.clock())

    @contextmanager
    def applied(self) -> Iterator[Deadline]:
        """Let the calls inside see this deadline, or the one around it where that is earlier; yield which."""
        outer = _current.get()
        effective = outer if outer and outer.remaining_s() < self.remaining_s() else self
        _current.set(effective)
        try:
            yield effective
        finally:
            _current.set(outer)  # not reset(token): a generator may be closed in another context

    @asynccontextmanager
    async def held(self) -> AsyncIterator[Deadline]:
        """Apply the deadline, and cancel what the task does inside when it, or an earlier one, passes.

        Raises:
            DeadlineExceeded: it has passed.
        """
        with self.applied() as earliest:
            left_s = earliest.remaining_s()
            try:
                async with asyncio.timeout(None if math.isinf(left_s) else left_s) as timeout:
                    yield earliest
            except TimeoutError as error:
                if not timeout.expired() or isinstance(error, DeadlineExceeded):
                    raise  # from inside
                raise DeadlineExceeded(f"cancelled after {left_s:.3g} s, when its deadline passed") from error


_current: ContextVar[Deadline | None] = ContextVar("course_deadline", default=None)
