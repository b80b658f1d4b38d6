# mypy: allow-subclassing-any, allow-untyped-decorators
"""CachedLM: an LM that asks once for many callers, shows hits as streams, and answers hits of acall at once.

Main path: cache.front(lm) -> CachedLM; a call: peek in memory -> else one leader per key looks further,
takes the lease and lets DSPy's execute() ask the model -> each caller finalizes a result of its own, with
history.
Source: dspy/clients/base_lm.py, __call__ and acall; dspy/clients/execution.py, prepare, execute and finalize
(DSPy 3.4.1). A cache under the model cannot know when the caller in front has failed or was cancelled.

It holds no cache of its own: it works with the TieredCache that is `dspy.cache` at the time of the call,
and is an ordinary dspy.LM under any other. So it may be copied, pickled and saved like one; a saved program
names dspy.LM and loads where this course is not installed. `__call__` and `acall` are one coroutine, which
waits in two ways.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dspy
from dspy.clients import execution
from dspy.clients.backend_selection import CLIENT_KEYS
from dspy.clients.call_result import CACHE_FORMAT, CallResult
from dspy.utils.callback import with_callbacks

from course_lib.caching import keys, replay
from course_lib.caching.single_flight import IN_THREAD, InTask, InThread, run_blocking
from course_lib.caching.wire import copied
from course_lib.errors import CourseError

_CLASS_KEY = "_dspy_lm_class"
_SAVED_AS = "dspy.clients.lm.LM"


class CannotFrontError(CourseError):
    """An LM that would not go through DSPy's cache, so that there is nothing to share."""


@dataclass(frozen=True, slots=True)
class _Answered:
    """What a leader found or the model answered, for itself and for those who wait."""

    record: Any
    """As the cache keeps it."""
    result: CallResult | None = None
    """What the model answered; None when the record was in the cache."""


class CachedLM(dspy.LM):
    """A dspy.LM whose identical calls share one request; see cache.front(lm).

    Calls with `cache=False` are never shared. Callers of other tenants, endpoints or rollouts have other keys
    and never wait for each other. A waiter or a hit uses no tokens, so usage trackers count nothing, and its
    history entry has empty usage.
    """

    max_wait_s: float | None = None
    """How long a caller waits for another one's answer before it asks for itself; None: 120 s.

    After half of it, one of those who wait asks in any case.
    """

    @with_callbacks
    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """Return what dspy.LM returns."""
        call = execution.prepare(self, prompt, messages, kwargs)
        result = run_blocking(self._answer(call, kwargs, IN_THREAD))
        return execution.finalize(self, call, result)

    @with_callbacks
    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        """Return what the acall of dspy.LM returns; an answer in memory costs no change of threads."""
        prepare = partial(execution.prepare, self, prompt, messages, kwargs)
        is_typed = isinstance(prompt, dspy.lm15.Request) or "request" in kwargs
        call = await asyncio.to_thread(prepare) if is_typed else prepare()  # its media may be read from files
        result = await self._answer(call, kwargs, InTask())
        return execution.finalize(self, call, result)

    @property
    def engine(self) -> Any:
        """What dspy.LM says ("auto"), as an object that also knows what the model supports.

        In every call an adapter asks that. For an engine named by a word DSPy derives it anew, in 0.13 ms
        and for acall in another thread; of an engine object it reads attributes (capabilities.py).
        """
        selection = super().engine
        if not isinstance(selection, str):
            return selection
        clients = tuple((name, repr(self.kwargs[name])) for name in sorted(CLIENT_KEYS & self.kwargs.keys()))
        setting = (selection, self.model, self.model_type, clients)
        known = self.__dict__.setdefault("_supported", {})  # shared with copies
        if setting not in known:
            known[setting] = _Supported(self, selection)
        return known[setting]

    def dump_state(self) -> dict[str, Any]:
        """Return the state of an ordinary dspy.LM: the front belongs to this process, like dspy.cache."""
        return {**super().dump_state(), _CLASS_KEY: _SAVED_AS}

    async def _answer(self, call: Any, kwargs: dict[str, Any], waits: InThread | InTask) -> CallResult:
        """Return the result of a prepared call: from memory, from another caller, or from the model."""
        cache = dspy.cache
        if not call.cache or not hasattr(cache, "single_flight"):  # no TieredCache
            return await self._execute(call, waits)
        with keys.calling(self, kwargs) as under_way:
            try:
                key = cache.cache_key(call.key(self, False), execution.IGNORED_CACHE_KEYS)
            except Exception:  # border: what has no key is not shared; the cache counts it when DSPy asks it
                return await self._execute(call, waits)
            under_way.key = key
            record = cache.peek(key)
            if record is not None:
                return await self._shown(_result_of(self, call, record), waits)

            async def ask() -> _Answered:
                return await self._ask(call, cache, key, waits)

            answered, is_shared = await cache.single_flight.run_with(
                waits, self._coalescing_key(cache, key, kwargs), ask, max_wait_s=self.max_wait_s
            )
        if is_shared:
            cache.count_shared(answered.record)
        elif answered.result is not None:
            return answered.result
        record = copied(answered.record) if is_shared else answered.record
        return await self._shown(_result_of(self, call, record), waits)

    async def _ask(self, call: Any, cache: Any, key: str, waits: InThread | InTask) -> _Answered:
        """Look in all tiers; then, with the lease among processes, let DSPy ask the model."""

        async def do(work: Callable[[], Any]) -> Any:
            return work() if waits.loop is None or not cache.is_slow else await waits.call(work)

        record = await do(lambda: cache.lookup(key, counts_miss=cache.shared is None))
        if record is not None:
            return _Answered(record)
        async with cache.leases.held(key, waits):
            if cache.shared is not None:  # another process may have answered since
                record = await do(lambda: cache.lookup(key))
                if record is not None:
                    return _Answered(record)
            stamp = cache.stamp
            result = await self._execute(replace(call, cache=False), waits)
            record = result.dump() if result.responses or result.raw is None else result.raw
            await do(lambda: cache.keep(key, record, stamp))
        return _Answered(record, result)

    async def _execute(self, call: Any, waits: InThread | InTask) -> CallResult:
        """Let DSPy ask the model."""
        if waits.loop is None:
            return execution.execute(self, call)
        return await execution.aexecute(self, call)

    async def _shown(self, result: CallResult, waits: InThread | InTask) -> CallResult:
        """Return a result of the cache, after sending it to the stream of a caller who reads one."""
        if dspy.settings.send_stream is not None:
            await replay.send(result, self.model, in_task=waits.loop is not None)
        return result

    def _coalescing_key(self, cache: Any, key: str, kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Return what callers must have in common to share a call, and its error.

        An error of one must not become that of others who might have succeeded, and a caller that arrives
        after an invalidation starts a new call.
        """
        credential = kwargs.get("api_key", self.kwargs.get("api_key"))
        payer = credential if isinstance(credential, str | None) else id(credential)
        engine = self._engine_spec if isinstance(self._engine_spec, str) else id(self._engine_spec)
        return key, cache.stamp, payer, self.num_retries, engine


_HINTS = ("supports_function_calling", "supports_reasoning", "supports_response_schema", "supported_params")


class _Supported:
    """What a model supports; equal to, and shown as, the word for the engine that it stands for."""

    def __init__(self, lm: dspy.LM, selection: str) -> None:
        self.selection = selection
        plain = dspy.LM.__new__(dspy.LM)
        plain.__dict__.update(lm.__dict__)
        vars(self).update({name: getattr(plain, name) for name in _HINTS})

    def __eq__(self, other: object) -> bool:
        return bool(self.selection == getattr(other, "selection", other))

    def __hash__(self) -> int:
        return hash(self.selection)

    def __repr__(self) -> str:
        return repr(self.selection)


def _result_of(model: dspy.LM, call: Any, record: Any) -> CallResult:
    """Return a record of the cache as DSPy reads it (execution._cached)."""
    if isinstance(record, dict) and record.get("_dspy_format") == CACHE_FORMAT:
        return CallResult.load(record)
    result = CallResult.legacy(model, record, kwargs=call.legacy)
    result.cache_hit, result.usage = True, {}
    return result


def fronted(lm: dspy.LM) -> CachedLM:
    """Return a CachedLM with the settings, engines and callbacks of `lm`; it has a history of its own.

    Raises:
        CannotFrontError: `lm` is no dspy.LM, or of a class that has its own way of calling.
    """
    if type(lm) not in {dspy.LM, CachedLM}:
        raise CannotFrontError(
            f"cannot put a front before {type(lm).__module__}.{type(lm).__qualname__}: it may not ask DSPy's "
            "cache. Pass a dspy.LM, with engine=... for a model of your own"
        )
    new = CachedLM.__new__(CachedLM)
    new.__dict__.update(lm.copy().__dict__, _supported={})
    return new
