"""Single-flight: of many callers who ask the same thing at once, one calls and the others take its answer.

Main path: Flights().run_in_thread(key, call) or await Flights().run_in_task(key, call): the first caller of a
key leads and calls; the rest wait, each in its own thread or task, and get the leader's value.
Threads and tasks of any number of event loops meet in the same table.

What happens when things go wrong, decided once:
- the leader's call raises an Exception: everyone who waits gets that error, as a copy with the first as its
  cause. Calling again for each of them would be the stampede that this module is there to prevent;
- the leader is cancelled or interrupted: its answer is not coming, so the caller who waited longest leads;
- the leader hangs: after `takeover_s` one waiter leads in its place, and the first answer serves all; sooner
  if the leader is a task that gets no thread because those who wait in asyncio's thread pool hold them all;
- nobody answers: after `max_wait_s` a waiter calls for itself, unshared.
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, TypeVar

from course_lib.caching.bells import Bell, TaskBell, ThreadBell, forget_in_child
from course_lib.caching.seats import Answer, Counts, Failure, Flight, Order, Seat, Word

T = TypeVar("T")
Clock = Callable[[], float]

MAX_WAIT_S = 120.0
POOL_PATIENCE_S = 1.0
"""How long a caller in asyncio's thread pool waits for a leader who gets no thread of it."""

_is_leading: ContextVar[bool] = ContextVar("course_is_leading", default=False)


class Flights:
    """The calls under way in this process, by key; a key is in the table only while it is being called.

    The state changes in `board`, `land`, `hand_on`, `leave` and `overdue`, which never block; `run_in_thread`
    and `run_in_task` are the two ways to wait.
    """

    def __init__(
        self,
        *,
        max_wait_s: float = MAX_WAIT_S,
        takeover_s: float | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.max_wait_s = max_wait_s
        self.takeover_s = max_wait_s / 2 if takeover_s is None else takeover_s
        self.counts = Counts()
        self._clock = clock
        self.forget()
        forget_in_child(self)

    def forget(self) -> None:
        """Clear the table, as a forked child must: the leaders are threads of its parent."""
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    # The state machine: none of these waits.

    def board(self, key: Hashable, bell: Bell | None, max_wait_s: float | None = None) -> Seat:
        """Take a seat: `word` is LEAD for the first caller of the key, None for those who have to wait.

        A caller without a bell cannot wait: it is told ALONE when the key has a leader.
        """
        now_s = self._clock()
        seat = Seat(bell, now_s + (self.max_wait_s if max_wait_s is None else max_wait_s))
        with self._lock:
            flight = self._flights.get(key)
            if flight is None:
                seat.flight = self._flights[key] = Flight(key, seat, now_s)
                seat.word = Order.LEAD
                self.counts.led += 1
            elif bell is None:
                seat.word = Order.ALONE
                self.counts.alone += 1
            else:
                seat.flight = flight
                flight.waiting[seat] = None
        return seat

    def land(self, seat: Seat, word: Answer | Failure) -> None:
        """Tell all who wait what the leader of `seat` has got, and take the key off the table.

        A leader who was overtaken still serves everybody with an answer, but nobody with its error.
        """
        with self._lock:
            flight = seat.flight
            if flight is None or self._flights.get(flight.key) is not flight:
                return  # the one who overtook it was quicker
            if flight.leader is not seat and isinstance(word, Failure):
                return
            del self._flights[flight.key]
            told = self._tell(flight, word)
        _ring(told)

    def hand_on(self, seat: Seat) -> None:
        """Give the lead of `seat` to the caller who has waited longest; without one the key is free again."""
        with self._lock:
            flight = seat.flight
            if flight is None or flight.leader is not seat or self._flights.get(flight.key) is not flight:
                return
            heir = next(iter(flight.waiting), None)
            if heir is None:
                del self._flights[flight.key]
                return
            self._promote(flight, heir)
            self.counts.handed_on += 1
        _ring([heir])

    def leave(self, seat: Seat) -> None:
        """Stop waiting; a caller who has just been told to lead hands on."""
        with self._lock:
            if seat.flight is not None:
                seat.flight.waiting.pop(seat, None)
            was_told_to_lead = seat.word is Order.LEAD
        if was_told_to_lead:
            self.hand_on(seat)

    def overdue(self, seat: Seat, held_up: Seat | None = None) -> Word | None:
        """Say what a caller whose patience ended is to do; None: there is a new leader, wait on.

        `held_up` is a leader who is known not to come on, however short its time.
        """
        now_s = self._clock()
        with self._lock:
            flight = seat.flight
            if seat.word is not None or flight is None:
                return seat.word
            if now_s >= flight.led_since_s + self.takeover_s or flight.leader is held_up:
                self._promote(flight, seat)
                seat.has_overtaken = True
                self.counts.overtaken += 1
            elif now_s >= seat.deadline_s:
                flight.waiting.pop(seat, None)
                seat.word = Order.ALONE
                self.counts.alone += 1
            return seat.word

    def patience_s(self, seat: Seat) -> float:
        """Return how long `seat` may wait before it asks `overdue`."""
        assert seat.flight is not None
        until_s = min(seat.deadline_s, seat.flight.led_since_s + self.takeover_s)
        return max(0.001, until_s - self._clock())

    def _promote(self, flight: Flight, seat: Seat) -> None:
        flight.waiting.pop(seat, None)
        flight.leader, flight.led_since_s = seat, self._clock()
        seat.word = Order.LEAD
        self.counts.led += 1

    def _tell(self, flight: Flight, word: Answer | Failure) -> list[Seat]:
        told = list(flight.waiting)
        for seat in told:
            seat.word = word
        flight.waiting.clear()
        if isinstance(word, Answer):
            self.counts.followed += len(told)
        else:
            self.counts.failed += len(told)
        return told

    # The two ways to wait.

    def run_in_thread(
        self,
        key: Hashable,
        call: Callable[[], T],
        *,
        alone: Callable[[], T] | None = None,
        max_wait_s: float | None = None,
    ) -> T:
        """Return call()'s value, or that of the caller who is already calling for the same key.

        `alone` is called instead by one who must not wait, has waited too long, or has overtaken a leader.

        On the thread of a running event loop it never waits, since the loop would stand still and with it,
        perhaps, the leader; nor does it wait inside a leader's call, where two could wait for each other.
        """
        seat = self.board(key, ThreadBell() if _may_block() else None, max_wait_s)
        word = seat.word
        try:
            while word is None and isinstance(seat.bell, ThreadBell):
                word = self._wait_in_pool(seat) if _is_in_pool() else self._wait(seat)
        except BaseException:  # an interrupt while waiting
            self.leave(seat)
            raise
        by_itself = alone or call
        if word is Order.LEAD:
            with self._leading(seat):
                value = by_itself() if seat.has_overtaken else call()
                self.land(seat, Answer(value))
                return value
        return by_itself() if word is Order.ALONE else _outcome(word)

    def _wait(self, seat: Seat) -> Word | None:
        assert isinstance(seat.bell, ThreadBell)
        seat.bell.wait(self.patience_s(seat))
        return self.overdue(seat)

    def _wait_in_pool(self, seat: Seat) -> Word | None:
        """Wait in a thread of asyncio's pool, which a leader that is a task may need to come on."""
        assert isinstance(seat.bell, ThreadBell)
        assert seat.flight is not None
        leader = seat.flight.leader
        spared = leader.bell.probe() if isinstance(leader.bell, TaskBell) else None
        seat.bell.wait(min(self.patience_s(seat), POOL_PATIENCE_S))
        is_held_up = spared is not None and not spared.is_set()
        return self.overdue(seat, leader if is_held_up else None)

    async def run_in_task(
        self,
        key: Hashable,
        call: Callable[[], Awaitable[T]],
        *,
        alone: Callable[[], Awaitable[T]] | None = None,
        max_wait_s: float | None = None,
    ) -> T:
        """Do as run_in_thread, for a task: it waits on a future of its own loop and holds no thread."""
        seat = self.board(key, None if _is_leading.get() else TaskBell(), max_wait_s)
        word = seat.word
        try:
            while word is None and isinstance(seat.bell, TaskBell):
                await seat.bell.wait(self.patience_s(seat))
                word = self.overdue(seat)
        except BaseException:  # the waiting task was cancelled
            self.leave(seat)
            raise
        by_itself = alone or call
        if word is Order.LEAD:
            with self._leading(seat):
                value = await (by_itself() if seat.has_overtaken else call())
                self.land(seat, Answer(value))
                return value
        return await by_itself() if word is Order.ALONE else _outcome(word)

    @contextmanager
    def _leading(self, seat: Seat) -> Iterator[None]:
        token = _is_leading.set(True)
        try:
            yield
        except Exception as error:
            self.land(seat, Failure(error))
            raise
        except BaseException:  # cancelled, interrupted, or closed with its loop: no answer will come
            self.hand_on(seat)
            raise
        finally:
            with suppress(ValueError):  # a task that is closed with its loop is closed in another context
                _is_leading.reset(token)


def _ring(seats: list[Seat]) -> None:
    for seat in seats:
        if seat.bell is not None:
            seat.bell.ring()


def _may_block() -> bool:
    if _is_leading.get():
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def _is_in_pool() -> bool:
    """Return whether this is a thread of asyncio's own pool, by the name that asyncio gives it."""
    return threading.current_thread().name.startswith("asyncio_")


def _outcome(word: Word | None) -> Any:
    if isinstance(word, Answer):
        return word.value
    assert isinstance(word, Failure)
    twin = _twin(word.error)
    raise twin from (word.error if twin is not word.error else word.error.__cause__)


def _twin(error: Exception) -> Exception:
    """Return a copy for one follower: one exception raised in many threads would gather all their frames."""
    try:
        twin = copy.copy(error)
    except Exception:  # border: an exception class of somebody else's, whose copying may do anything
        return error
    return twin if type(twin) is type(error) else error
