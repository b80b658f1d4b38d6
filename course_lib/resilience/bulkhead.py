"""A bulkhead: so many calls at once, so many that wait, and no more: the rest is refused at once.

Main path: async with bulkhead: await call(). One bulkhead serves the tasks of any event loop.
A call that would wait for long is worth little when it is answered, and a long line is what turns a slow
service into a dead one. Who is refused at once can ask another, or say so.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Self

from course_lib.errors import CourseError
from course_lib.resilience import forks


class BulkheadFull(CourseError):  # noqa: N818  (like BreakerOpen)
    """As many calls are under way, and as many wait, as may: this one was not made (load shedding)."""


class Bulkhead:
    """Lets `limit` calls through at once and `waiting` more wait, first come first served."""

    def __init__(self, name: str, *, limit: int, waiting: int = 0) -> None:
        if not (isinstance(limit, int) and limit >= 1 and waiting >= 0):
            raise ValueError(f"limit ({limit!r}) must be 1 or more, and waiting ({waiting!r}) 0 or more")
        self.name, self.limit, self.waiting = name, limit, waiting
        self.refused = 0
        """How many calls were not made."""
        self._lock = threading.RLock()  # a dead caller may be collected, and end, while it is held
        self._begin_anew()
        forks.things.add(self)

    def _begin_anew(self) -> None:
        self._free = self.limit
        self._line: dict[Future[None], asyncio.AbstractEventLoop] = {}

    async def __aenter__(self) -> Self:
        """Take a place, or wait for one.

        Raises:
            BulkheadFull: too many wait already.
        """
        if (turn := self._take_place()) is not None:
            try:
                await asyncio.wrap_future(turn)
            except BaseException:
                with self._lock:
                    self._line.pop(turn, None)
                    if turn.done():  # the place was handed over meanwhile
                        self._hand_over()
                raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        with self._lock:
            self._hand_over()

    def _take_place(self) -> Future[None] | None:
        """Return None if a place was free, or else what is done when there is one."""
        with self._lock:
            if self._free:
                self._free -= 1
                return None
            self._drop_the_dead()
            if len(self._line) >= self.waiting:
                self.refused += 1
                raise BulkheadFull(f"{self.name} has {self.limit} calls under way and {self.waiting} waiting")
            turn: Future[None] = Future()
            turn.set_running_or_notify_cancel()  # so that to cancel the task does not cancel it
            self._line[turn] = asyncio.get_running_loop()
            return turn

    def _hand_over(self) -> None:
        self._drop_the_dead()
        if turn := next(iter(self._line), None):
            self._line.pop(turn)
            turn.set_result(None)
        else:
            self._free = min(self._free + 1, self.limit)  # a forked child may end a call of the parent

    def _drop_the_dead(self) -> None:
        """Let nobody wait whose event loop was closed: a place would be lost on them."""
        for turn, loop in tuple(self._line.items()):
            if loop.is_closed():
                self._line.pop(turn, None)
