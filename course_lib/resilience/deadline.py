"""A deadline that travels with the call: whoever is called sees how much time is left.

Main path: with Deadline.after(2.0).applied(): ... Deadline.current().remaining_s() anywhere below; in a task
`async with Deadline.after(2.0).held()` also ends what is late. Deadline(math.inf) is no deadline of its own.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from course_lib.errors import CourseError
from course_lib.resilience.blocks import opener

Clock = Callable[[], float]
"""Seconds since any fixed moment; never runs backwards."""


class DeadlineExceeded(CourseError, TimeoutError):  # noqa: N818  (the field's word)
    """The time in which an answer is due is over, or will be before there can be one."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment at which an answer is due, in seconds of `clock`."""

    at_s: float
    clock: Clock = time.monotonic

    def __post_init__(self) -> None:
        if math.isnan(self.at_s):
            raise ValueError("a deadline cannot be at nan; give seconds, or math.inf for none")

    @classmethod
    def after(cls, limit_s: float, *, clock: Clock = time.monotonic) -> Deadline:
        """Return the deadline that lies `limit_s` seconds from now."""
        return cls(clock() + limit_s, clock)

    @classmethod
    def current(cls) -> Deadline | None:
        """Return the earliest deadline of the calls around this one; None when there is none.

        Tasks, `asyncio.to_thread` and DSPy's threads (Parallel, batch) inherit it; your own threads do not.
        """
        return _dspy_settings().get().get(_NAME) or _current.get().get(_NAME)

    def remaining_s(self) -> float:
        """Return the seconds left, 0 when the deadline has passed."""
        return max(0.0, self.at_s - self.clock())

    @contextmanager
    def applied(self) -> Iterator[Deadline]:
        """Let the calls inside see this deadline, or the one around it where that is earlier; yield which.

        In a generator it would hold for the reader, too; that is refused with RuntimeError.
        """
        generator, _ = opener(sys._getframe(1))  # noqa: SLF001
        if generator:
            message = "would hold for whoever reads it; apply it in a function that the generator calls"
            raise RuntimeError(f"a deadline in the generator {generator}() {message}")
        outer, settings = self.current(), _dspy_settings()
        effective = outer if outer and outer.remaining_s() < self.remaining_s() else self
        token = settings.set(type(settings.get())({**settings.get(), _NAME: effective}))
        try:
            yield effective
        finally:
            with suppress(ValueError):  # a task that is closed with its loop is closed in another context
                settings.reset(token)

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


_NAME = "course_deadline"
_current: ContextVar[dict[str, Any]] = ContextVar(_NAME, default={})  # noqa: B039  (it is never changed)


def _dspy_settings() -> ContextVar[dict[str, Any]]:
    """Return what travels to DSPy's threads; a variable of ours where DSPy is not loaded (model's server)."""
    return getattr(sys.modules.get("dspy.dsp.utils.settings"), "thread_local_overrides", _current)
