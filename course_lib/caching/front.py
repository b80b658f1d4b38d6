# mypy: allow-subclassing-any, allow-untyped-decorators
"""CachedLM: an LM that asks once for many callers, shows hits as streams, and answers hits of acall at once.

Main path: cache.front(lm) -> CachedLM; a call: peek in memory -> else one leader per key looks further and
asks the model -> all who waited get its answer -> DSPy's own call hands it out, with history and callbacks.
Source: dspy/clients/base_lm.py, __call__ and acall; dspy/clients/execution.py, prepare, execute and finalize
(DSPy 3.4.1). A cache under the model cannot know when the caller in front has failed or was cancelled.

It holds no cache of its own: it works with the TieredCache that is `dspy.cache` at the time of the call, and
is an ordinary dspy.LM under any other. So it may be copied, pickled and saved like one; a saved program names
dspy.LM and loads where this course is not installed.

A hit of acall is handed out in the task itself, as fast as a sync one. Through a program it still costs one
change of threads, which is not the LM's: in every acall an adapter of DSPy asks a worker thread what the
model supports (dspy/clients/capabilities.py, prepare_async), hit or not. hints.py keeps the answer short.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import dspy
from dspy import LM
from dspy.clients import execution
from dspy.utils.callback import with_callbacks

from course_lib.caching import keys, replay
from course_lib.caching.bells import TaskBell, ThreadBell
from course_lib.caching.flight import MAX_WAIT_S, Flights
from course_lib.caching.hints import known_hints
from course_lib.caching.lease import Lease, Leases
from course_lib.caching.tiered import TieredCache
from course_lib.errors import CourseError

_CLASS_KEY = "_dspy_lm_class"
_SAVED_AS = "dspy.clients.lm.LM"

# DSPy's own calls without their callbacks, which are run around ours.
_call: Callable[..., Any] = LM.__call__.__wrapped__
_acall: Callable[..., Any] = LM.acall.__wrapped__


class CannotFrontError(CourseError):
    """An LM that would not go through DSPy's cache, so that there is nothing to share."""


@dataclass(slots=True)
class _Sharing:
    """What callers of one cache share: the calls under way here, and the leases of this process."""

    flights: Flights
    leases: Leases | None


_sharing: weakref.WeakKeyDictionary[TieredCache, _Sharing] = weakref.WeakKeyDictionary()
_first_use = threading.Lock()


def sharing(cache: TieredCache) -> _Sharing:
    """Return the table of calls under way for a cache; all its CachedLMs use the same."""
    with _first_use:
        found = _sharing.get(cache)
        if found is None:
            leases = None if cache.shared is None else Leases(cache.shared, longest_s=MAX_WAIT_S / 2)
            found = _sharing[cache] = _Sharing(Flights(), leases)
        return found


# What a leader does, as steps: one script, performed by a thread or by a task.


@dataclass(frozen=True, slots=True)
class _Look:
    """Do something that may wait for Redis or the disk."""

    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class _WaitForLease:
    leases: Leases
    for_s: float


class _Ask:
    """Call the model."""


_Steps = Generator[_Look | _WaitForLease | _Ask, Any, Any]


@dataclass(slots=True)
class _Trip:
    """One call on its way to an answer."""

    cache: TieredCache
    key: str
    prepared: execution.PreparedCall
    plain: tuple[tuple[Any, ...], dict[str, Any]]
    outputs: list[Any] = field(default_factory=list)
    """What DSPy's call returned, if this caller made it."""
    counted_as: str | None = "memory"

    @property
    def is_slow(self) -> bool:
        return self.cache.shared is not None or self.cache.disk is not None

    def lead(self, leases: Leases | None, max_wait_s: float) -> _Steps:
        """Look in all tiers, then, as the only one of all processes, ask the model; returns the record."""
        record = yield _Look(self._look_up)
        if record is not None:
            return record
        if leases is None:
            return (yield _Ask())
        until_s = time.monotonic() + max_wait_s
        lease = Lease(self.key)
        try:
            while not (yield _Look(lambda: leases.take(lease))) and time.monotonic() < until_s:
                yield _WaitForLease(leases, until_s - time.monotonic())
                if (yield _Look(self._is_there)):
                    break
            # Another process may have answered between our look and our lease.
            record = (yield _Look(self._look_up)) if (yield _Look(self._is_there)) else None
            if record is None:
                record = yield _Ask()
        except Exception:
            yield _Look(lambda: leases.release(lease))
            raise
        except BaseException:  # cancelled: there may be no further step
            leases.release_soon(lease)
            raise
        yield _Look(lambda: leases.release(lease))
        return record

    def _is_there(self) -> bool:
        return self.key in self.cache

    def _look_up(self) -> Any:
        record = self.cache.lookup(self.key)
        if record is not None:
            self.counted_as = None  # lookup() has
        return record


class CachedLM(dspy.LM):
    """A dspy.LM whose identical calls share one request; see cache.front(lm).

    Calls with `cache=False` are never shared. Callers of other tenants, endpoints or rollouts have other keys
    and never wait for each other. A follower or a hit uses no tokens, so usage trackers count nothing, and
    its history entry has empty usage.
    """

    max_wait_s: float = MAX_WAIT_S
    """How long a caller waits for another one's answer before it asks for itself.

    After `sharing(cache).flights.takeover_s`, a minute, one of those who wait asks in any case.
    """

    @with_callbacks
    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """Return what dspy.LM returns."""
        trip = self._trip(prompt, messages, kwargs)
        if trip is None:
            return _call(self, prompt, messages=messages, **kwargs)
        record = trip.cache.peek(trip.key)
        if record is None:
            shared = sharing(trip.cache)
            trip.counted_as = "flight"
            record = shared.flights.run_in_thread(
                self._mates(trip),
                lambda: self._perform(trip, trip.lead(shared.leases, self.max_wait_s)),
                alone=lambda: self._perform(trip, trip.lead(None, 0.0)),
                max_wait_s=self.max_wait_s,
            )
            if trip.outputs:
                return trip.outputs[0]
        if record is not None and replay.is_streaming():
            replay.send_from_thread(record, self.model)
        return self._hand_out(trip, record)

    @with_callbacks
    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """Return what the acall of dspy.LM returns; an answer in memory costs no change of threads."""
        if isinstance(prompt, dspy.lm15.Request) or "request" in kwargs:  # its media may be read from files
            trip = await asyncio.to_thread(self._trip, prompt, messages, kwargs)
        else:
            trip = self._trip(prompt, messages, kwargs)
        if trip is None:
            return await _acall(self, prompt, messages=messages, **kwargs)
        record = trip.cache.peek(trip.key)
        if record is None:
            shared = sharing(trip.cache)
            trip.counted_as = "flight"
            record = await shared.flights.run_in_task(
                self._mates(trip),
                lambda: self._perform_in_task(trip, trip.lead(shared.leases, self.max_wait_s)),
                alone=lambda: self._perform_in_task(trip, trip.lead(None, 0.0)),
                max_wait_s=self.max_wait_s,
            )
            if trip.outputs:
                return trip.outputs[0]
            if record is None or dspy.cache is not trip.cache:
                return await _acall(self, prompt, messages=messages, **kwargs)
        if replay.is_streaming():
            await replay.send(record, self.model)
        return self._hand_out(trip, record)

    @property
    def engine(self) -> Any:
        """What dspy.LM says ("auto"), as an object that also knows what the model supports (see hints.py)."""
        selection = super().engine
        if not isinstance(selection, str):
            return selection
        # Shared with copies, as are the providers that the answer depends on.
        return known_hints(self, selection, self.__dict__.setdefault("_known_hints", {}))

    def dump_state(self) -> dict[str, Any]:
        """Return the state of an ordinary dspy.LM: the front belongs to this process, like dspy.cache."""
        return {**super().dump_state(), _CLASS_KEY: _SAVED_AS}

    def _trip(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> _Trip | None:
        """Return the trip of a call that may be shared, or None for one that goes its own way."""
        cache = dspy.cache
        if not isinstance(cache, TieredCache):
            return None
        try:
            prepared = execution.prepare(self, prompt, messages, kwargs)
            if not prepared.cache:
                return None
            with keys.calling(self, kwargs):
                key = cache.cache_key(prepared.key(self, False), execution.IGNORED_CACHE_KEYS)
        except Exception:  # border: whatever is wrong with the request, DSPy's own call says it best
            return None
        return _Trip(cache, key, prepared, ((prompt,), {"messages": messages, **kwargs}))

    def _mates(self, trip: _Trip) -> tuple[Any, ...]:
        """Return what callers must have in common to share a call, and its error.

        An error of one must not become that of others who might have succeeded, and who asks after an
        invalidation joins no call from before it.
        """
        credential = trip.plain[1].get("api_key", self.kwargs.get("api_key"))
        who_pays = credential if isinstance(credential, str | None) else id(credential)
        engine = super().engine
        engine = engine if isinstance(engine, str) else id(engine)
        return trip.key, trip.cache.epoch(), who_pays, self.num_retries, engine

    def _hand_out(self, trip: _Trip, record: Any) -> Any:
        """Let DSPy return a record that is at hand; without one, it asks the model.

        These are the steps of the LM's own call, for a call that is prepared already.
        """
        if record is None:
            args, kwargs = trip.plain
            return _call(self, *args, **kwargs)
        with trip.cache.pinned(trip.key, record, counted_as=trip.counted_as):
            result = execution.execute(self, trip.prepared)
        return execution.finalize(self, trip.prepared, result)

    def _perform(self, trip: _Trip, steps: _Steps) -> Any:
        """Perform a leader's steps in this thread."""
        args, kwargs = trip.plain
        answer: Any = None
        failure: BaseException | None = None
        try:
            while True:
                try:
                    step = steps.throw(failure) if failure is not None else steps.send(answer)
                except StopIteration as end:
                    return end.value
                answer = failure = None
                try:
                    match step:
                        case _Look():
                            answer = step.work()
                        case _WaitForLease():
                            bell = ThreadBell()
                            with step.leases.expecting(trip.key, bell):
                                bell.wait(step.for_s)
                        case _Ask():
                            with (
                                trip.cache.captured() as put,
                                trip.cache.pinned(trip.key, None, counted_as=None),
                            ):
                                trip.outputs.append(_call(self, *args, **kwargs))
                            answer = put[-1] if put else None
                except BaseException as error:  # border: the script decides what comes of it
                    failure = error
        finally:
            failure = None  # else its traceback and this frame hold each other

    async def _perform_in_task(self, trip: _Trip, steps: _Steps) -> Any:
        """Perform a leader's steps in this task; looking further than memory is done in a thread."""
        args, kwargs = trip.plain
        answer: Any = None
        failure: BaseException | None = None
        try:
            while True:
                try:
                    step = steps.throw(failure) if failure is not None else steps.send(answer)
                except StopIteration as end:
                    return end.value
                answer = failure = None
                try:
                    match step:
                        case _Look():
                            answer = await asyncio.to_thread(step.work) if trip.is_slow else step.work()
                        case _WaitForLease():
                            bell = TaskBell()
                            with step.leases.expecting(trip.key, bell):
                                await bell.wait(step.for_s)
                        case _Ask():
                            with (
                                trip.cache.captured() as put,
                                trip.cache.pinned(trip.key, None, counted_as=None),
                            ):
                                trip.outputs.append(await _acall(self, *args, **kwargs))
                            answer = put[-1] if put else None
                except BaseException as error:  # border: the script decides what comes of it
                    failure = error
        finally:
            failure = None  # else its traceback and this frame hold each other


def fronted(lm: dspy.LM, cache: TieredCache | None = None) -> CachedLM:  # noqa: ARG001
    """Return a CachedLM with the settings, engines and callbacks of `lm`; it has a history of its own.

    Raises:
        CannotFrontError: `lm` is no dspy.LM, or of a class that has its own way of calling.
    """
    if type(lm) not in {dspy.LM, CachedLM}:
        raise CannotFrontError(
            f"cannot put a front before {type(lm).__module__}.{type(lm).__qualname__}: it may not ask DSPy's "
            "cache. Pass a dspy.LM, with engine=... for a model of your own"
        )
    copied = lm.copy()
    new = CachedLM.__new__(CachedLM)
    new.__dict__.update(copied.__dict__, _known_hints={})
    return new
