"""Single-flight: of many callers who ask the same thing at once, one calls and the others take its answer.

Main path: SingleFlight().run(key, call), or await run_async(key, call): the first caller of a key leads and
calls; the rest wait, each in its own thread or task, and get (value, True). Threads and tasks of any number
of event loops share one table: a dict of futures. Both forms are one coroutine, in which only the ways to
wait differ.

What happens when things go wrong, decided once:
- the call raises an Exception: all who wait get that error, as a copy with the first as its cause.
  Calling again for each of them would be the stampede that this module is there to prevent;
- the leader is cancelled or interrupted: its answer is not coming, so one of those who wait leads;
- the call takes long: after half of `max_wait_s` one of those who wait calls too, and the first answer serves
  all; sooner if the leader is a task that gets no thread, because callers who wait in asyncio's thread pool
  hold them all. After `max_wait_s` a caller calls for itself.
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from course_lib.caching.forks import renew_in_children

T = TypeVar("T")

MAX_WAIT_S = 120.0
POOL_PATIENCE_S = 1.0
"""How long a caller in asyncio's thread pool waits for a leader that gets no thread of it."""

_is_leading: ContextVar[bool] = ContextVar("course_is_leading", default=False)


# -- ways to wait --------------------------------------------------------------------------------------


class InThread:
    """Blocks the thread; a coroutine that waits so never suspends, and run_blocking() runs it."""

    loop = None

    async def call(self, work: Callable[[], T]) -> T:
        """Call `work` here."""
        return work()

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)  # noqa: ASYNC251  (it blocks by intent)

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

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

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
    raise RuntimeError(
        "the coroutine waits for an event loop; run_blocking() takes only one that waits InThread"
    )


# -- the calls under way -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any = None
    error: Exception | None = None
    is_left: bool = False
    """The leader was cancelled or interrupted: no answer will come."""


@dataclass(eq=False, slots=True)
class _InFlight:
    """A call under way."""

    outcome: Future[_Outcome]
    leader: object
    led_since_s: float
    loop: asyncio.AbstractEventLoop | None
    """Of a leader that is a task."""


class SingleFlight:
    """The calls under way in this process, by key; a key is in the table only while it is being called."""

    def __init__(self, *, max_wait_s: float = MAX_WAIT_S) -> None:
        self.max_wait_s = max_wait_s
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Forget the calls under way, as a forked child must: the leaders are threads of its parent."""
        self._calls: dict[Hashable, _InFlight] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._calls)

    def run(self, key: Hashable, call: Callable[[], T], *, max_wait_s: float | None = None) -> tuple[T, bool]:
        """Return call()'s value, or that of the caller who is already calling, and whether it is another's.

        On the thread of a running event loop it never waits, since the loop would stand still and with it,
        perhaps, the leader; nor does it wait inside a leader's call, where two could wait for each other.
        """

        async def asynchronous() -> T:
            return call()

        return run_blocking(self.run_with(IN_THREAD, key, asynchronous, max_wait_s=max_wait_s))

    async def run_async(
        self, key: Hashable, call: Callable[[], Awaitable[T]], *, max_wait_s: float | None = None
    ) -> tuple[T, bool]:
        """Do as run(), for a task: it waits on a future of its own loop and holds no thread."""
        return await self.run_with(InTask(), key, call, max_wait_s=max_wait_s)

    async def run_with(
        self,
        waits: InThread | InTask,
        key: Hashable,
        call: Callable[[], Awaitable[T]],
        *,
        max_wait_s: float | None = None,
    ) -> tuple[T, bool]:
        """Do as run(), in the given way of waiting."""
        me, patience_s = object(), self.max_wait_s if max_wait_s is None else max_wait_s
        deadline_s = time.monotonic() + patience_s
        may_wait = not _is_leading.get() and not (waits.loop is None and on_event_loop())
        while True:
            in_flight = self._join(key, me, waits.loop)
            if in_flight.leader is not me:
                if not may_wait:
                    return await call(), False
                outcome = await self._wait(waits, in_flight, me, deadline_s, patience_s / 2)
                if outcome is not None:
                    if outcome.is_left:
                        continue
                    return _received(outcome), True
                if in_flight.leader is not me:
                    return await call(), False
            with self._leading(key, in_flight, me):
                value = await call()
                self._resolve(key, in_flight, _Outcome(value))
                return value, False

    def _join(self, key: Hashable, me: object, loop: asyncio.AbstractEventLoop | None) -> _InFlight:
        """Return the call under way for a key; one that is led by the caller if there was none."""
        with self._lock:
            in_flight = self._calls.get(key)
            if in_flight is None:
                in_flight = self._calls[key] = _InFlight(Future(), me, time.monotonic(), loop)
                in_flight.outcome.set_running_or_notify_cancel()  # so that no waiter's end cancels it
            return in_flight

    async def _wait(
        self, waits: InThread | InTask, in_flight: _InFlight, me: object, deadline_s: float, takeover_s: float
    ) -> _Outcome | None:
        """Return the outcome; None when the caller is to call: as the next leader, or else for itself."""
        in_pool = waits.loop is None and threading.current_thread().name.startswith("asyncio_")
        while True:
            leader, loop = in_flight.leader, in_flight.loop
            left_s = min(deadline_s, in_flight.led_since_s + takeover_s) - time.monotonic()
            may_starve = in_pool and loop is not None
            if await waits.done(
                in_flight.outcome, max(0.0, min(left_s, POOL_PATIENCE_S) if may_starve else left_s)
            ):
                return in_flight.outcome.result()
            is_starved = may_starve and loop is not None and not _has_thread_to_spare(loop)
            with self._lock:
                now_s = time.monotonic()
                is_overdue = now_s >= in_flight.led_since_s + takeover_s
                if in_flight.leader is leader and (is_overdue or is_starved):
                    in_flight.leader, in_flight.led_since_s, in_flight.loop = me, now_s, waits.loop
                    return None
            if now_s >= deadline_s:
                return None

    @contextmanager
    def _leading(self, key: Hashable, in_flight: _InFlight, me: object) -> Iterator[None]:
        token = _is_leading.set(True)
        try:
            yield
        except BaseException as error:
            if in_flight.leader is me:  # the failure of a leader whose place was taken reaches nobody
                outcome = _Outcome(error=error) if isinstance(error, Exception) else _Outcome(is_left=True)
                self._resolve(key, in_flight, outcome)
            raise
        finally:
            with suppress(ValueError):  # a task that is closed with its loop is closed in another context
                _is_leading.reset(token)

    def _resolve(self, key: Hashable, in_flight: _InFlight, outcome: _Outcome) -> None:
        """Tell all who wait, and take the key off the table; of two leaders the first one's word counts."""
        with self._lock:
            if in_flight.outcome.done():
                return
            if self._calls.get(key) is in_flight:
                del self._calls[key]
            in_flight.outcome.set_result(outcome)


def _received(outcome: _Outcome) -> Any:
    """Return a waiter's value, or raise an error of its own: a copy of the leader's."""
    if outcome.error is None:
        return outcome.value
    try:
        error = copy.copy(outcome.error)
    except Exception:  # border: an exception class of somebody else's, whose copying may do anything
        error = outcome.error
    if type(error) is not type(outcome.error) or error is outcome.error:
        raise outcome.error
    raise error from outcome.error


def _has_thread_to_spare(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the loop's own thread pool gets to new work within a moment."""
    spared = threading.Event()

    def ask() -> None:
        with suppress(RuntimeError):  # the pool has shut down
            loop.run_in_executor(None, spared.set)

    with suppress(RuntimeError):  # the loop has closed
        loop.call_soon_threadsafe(ask)
    return spared.wait(POOL_PATIENCE_S)


def on_event_loop() -> bool:
    """Return whether this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
