"""A bulkhead: so many calls at once, so many that wait, and no more: the rest is refused at once.

Main path: async with bulkhead: await call(). One bulkhead serves the tasks of any event loop.
A call that would wait for long is worth little when it is answered, and a long line is what turns a slow
service into a dead one. Who is refused at once can ask another, or say so.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from typing import Self

from course_lib.errors import CourseError


class BulkheadFull(CourseError):  # noqa: N818  (like BreakerOpen)
    """As many calls are under way, and as many wait, as may: this one was not made (load shedding)."""


class Bulkhead:
    """Lets `limit` calls through at once and `waiting` more wait, first come first served."""

    def __init__(self, name: str, *, limit: int, waiting: int = 0) -> None:
        if limit < 1 or waiting < 0:
            raise ValueError(f"limit ({limit!r}) must be 1 or more, and waiting ({waiting!r}) 0 or more")
        self.name, self.limit, self.waiting = name, limit, waiting
        self.refused = 0
        """How many calls were not made."""
        self._free = limit
        self._line: deque[Future[None]] = deque()
        self._lock = threading.Lock()

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
                    if turn in self._line:
                        self._line.remove(turn)
                    else:  # the place was handed over meanwhile
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
            if len(self._line) >= self.waiting:
                self.refused += 1
                raise BulkheadFull(f"{self.name} has {self.limit} calls under way and {self.waiting} waiting")
            turn: Future[None] = Future()
            turn.set_running_or_notify_cancel()  # so that to cancel the task does not cancel it
            self._line.append(turn)
            return turn

    def _hand_over(self) -> None:
        if self._line:
            self._line.popleft().set_result(None)
        else:
            self._free += 1
