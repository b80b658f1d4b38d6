"""Single-flight: of many callers who ask the same thing at once, one calls and the others take its answer.

Main path: SingleFlight().run(key, call), or await run_async(key, call): the first caller of a key leads and
calls; the rest wait, each in its own thread or task, and get (value, True). Threads and tasks of any event
loop share one dict of futures. Both forms are one coroutine, in which only the ways to wait differ.

- The call raises an Exception: all who wait get that error, as a copy with the first as its cause; without
  what the leader was handling when it called.
- The leader is cancelled or interrupted: one of those who wait leads.
- The call takes longer than `max_wait_s`: one of those who wait calls too, and the first answer serves all;
  after POOL_PATIENCE_S already if it waits in asyncio's thread pool for a task, which may need that thread.
"""

from __future__ import annotations

import asyncio
import copy
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from course_lib.resilience import forks

T = TypeVar("T")

MAX_WAIT_S = 60.0
POOL_PATIENCE_S = 5.0

_is_leading: ContextVar[bool] = ContextVar("course_is_leading", default=False)
_LEFT: Any = object()
"""Stands for the answer of a leader who was cancelled or interrupted: none will come."""


# -- ways to wait --------------------------------------------------------------------------------------


class InThread:
    """Blocks the thread; a coroutine that waits so never suspends, and run_blocking() runs it."""

    loop = None

    async def call(self, work: Callable[[], T]) -> T:
        """Call `work` here."""
        return work()

    async def done(self, future: Future[Any], seconds: float) -> bool:
        """Block until the future is done."""
        with suppress(TimeoutError):
            future.exception(seconds)
        return future.done()


class InTask:
    """Lets the event loop go on; holds a thread only while `call` does something that may block."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    async def call(self, work: Callable[[], T]) -> T:
        """Call `work` in a thread."""
        return await asyncio.to_thread(work)

    async def done(self, future: Future[Any], seconds: float) -> bool:
        """Wait on a future of this loop."""
        waiting = asyncio.wrap_future(future)
        try:
            await asyncio.wait({waiting}, timeout=seconds)
        finally:
            waiting.cancel()  # else it is woken in a loop that may have closed by then
        return future.done()


IN_THREAD = InThread()


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the value of a coroutine that waits InThread, and so never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("the coroutine waits for an event loop; run_blocking() takes one that waits InThread")


# -- the calls under way -------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _InFlight:
    """A call under way; its outcome is a value, or else an error."""

    outcome: Future[tuple[Any, Exception | None]]
    leader: object
    led_since_s: float
    is_led_by_task: bool


class SingleFlight:
    """The calls under way in this process, by key; a key is in the table only while it is being called."""

    def __init__(self, *, max_wait_s: float = MAX_WAIT_S) -> None:
        self.max_wait_s = max_wait_s
        self._lock = threading.RLock()  # a dead leader may be collected, and end, while it is held
        self._begin_anew()
        forks.things.add(self)

    def _begin_anew(self) -> None:
        self._calls: dict[Hashable, _InFlight] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def run(self, key: Hashable, call: Callable[[], T]) -> tuple[T, bool]:
        """Return call()'s value, or that of the caller who is already calling, and whether it is another's.

        It never waits on the thread of a running event loop, which would stand still and perhaps the leader
        with it; nor inside a leader's call, where two could wait for each other.
        """

        async def asynchronous() -> T:
            return call()

        return run_blocking(self.run_with(IN_THREAD, key, asynchronous))

    async def run_async(self, key: Hashable, call: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """Do as run(), for a task: it waits on a future of its own loop and holds no thread."""
        return await self.run_with(InTask(), key, call)

    async def run_with(
        self, waits: InThread | InTask, key: Hashable, call: Callable[[], Awaitable[T]]
    ) -> tuple[T, bool]:
        """Do as run(), in the given way of waiting."""
        me = object()
        may_wait = not _is_leading.get() and not (waits.loop is None and on_event_loop())
        while True:
            in_flight = self._join(key, me, is_task=waits.loop is not None)
            while in_flight.leader is not me:
                if not may_wait:
                    return await call(), False
                left_s = self._overdue_s(in_flight, waits) - time.monotonic()
                if await waits.done(in_flight.outcome, max(0.0, left_s)):
                    break
                self._take_over(in_flight, me, waits)
            if in_flight.leader is me:
                with self._leading(key, in_flight, me):
                    value = await call()
                    self._resolve(key, in_flight, value=value)
                    return value, False
            value, error = in_flight.outcome.result()
            if error is not None:
                _raise_own(error)
            if value is not _LEFT:
                return value, True

    def _join(self, key: Hashable, me: object, *, is_task: bool) -> _InFlight:
        """Return the call under way for a key; one that is led by the caller if there was none."""
        with self._lock:
            in_flight = self._calls.get(key)
            if in_flight is None:
                in_flight = self._calls[key] = _InFlight(Future(), me, time.monotonic(), is_task)
                in_flight.outcome.set_running_or_notify_cancel()  # so that no waiter's end cancels it
            return in_flight

    def _overdue_s(self, in_flight: _InFlight, waits: InThread | InTask) -> float:
        """Return when one who waits in this way is to call too."""
        in_pool = waits.loop is None and threading.current_thread().name.startswith("asyncio_")
        patience_s = POOL_PATIENCE_S if in_pool and in_flight.is_led_by_task else self.max_wait_s
        return in_flight.led_since_s + min(patience_s, self.max_wait_s)

    def _take_over(self, in_flight: _InFlight, me: object, waits: InThread | InTask) -> None:
        """Become the leader, if the present one has taken too long."""
        with self._lock:
            now_s = time.monotonic()
            if now_s >= self._overdue_s(in_flight, waits):
                in_flight.leader, in_flight.led_since_s = me, now_s
                in_flight.is_led_by_task = waits.loop is not None

    @contextmanager
    def _leading(self, key: Hashable, in_flight: _InFlight, me: object) -> Iterator[None]:
        token, handled = _is_leading.set(True), sys.exception()
        try:
            yield
        except BaseException as error:
            _cut_off(handled, error)
            if in_flight.leader is me:  # the failure of a leader whose place was taken reaches nobody
                self._resolve(key, in_flight, error=error)
            raise
        finally:
            with suppress(ValueError):  # a task that is closed with its loop is closed in another context
                _is_leading.reset(token)

    def _resolve(
        self, key: Hashable, in_flight: _InFlight, *, value: Any = _LEFT, error: BaseException | None = None
    ) -> None:
        """Tell all who wait, and take the key off the table; of two leaders the first one's word counts."""
        with self._lock:
            if in_flight.outcome.done():
                return
            if self._calls.get(key) is in_flight:  # not so in a child that was forked inside the call
                del self._calls[key]
            in_flight.outcome.set_result((value, error if isinstance(error, Exception) else None))


def _raise_own(first: Exception) -> NoReturn:
    """Raise an error of the caller's own: a copy of the leader's."""
    try:
        error = copy.copy(first)
    except Exception:  # border: an exception class of somebody else's, whose copying may do anything
        error = first
    if type(error) is not type(first) or error is first:
        error = type(first).__new__(type(first), *first.args)
        vars(error).update(vars(first))
    raise error from first


def _cut_off(handled: BaseException | None, error: BaseException | None) -> None:
    """Take out of an error's chain what its caller was handling when it began the call."""
    for _ in range(99):  # a chain may be a ring
        if handled is None or error is None:
            return
        if error.__context__ is handled:
            error.__context__ = None
        error = error.__context__


def on_event_loop() -> bool:
    """Return whether this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
