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
from dataclasses import replace
from functools import partial
from typing import Any

import dspy
from dspy.clients import execution
from dspy.clients.call_result import CACHE_FORMAT, CallResult
from dspy.utils.callback import with_callbacks

from course_lib.caching import keys, replay
from course_lib.caching.lease import held
from course_lib.caching.single_flight import IN_THREAD, InTask, InThread, run_blocking
from course_lib.caching.wire import copied
from course_lib.errors import CourseError

_CLASS_KEY = "_dspy_lm_class"
_SAVED_AS = "dspy.clients.lm.LM"


class CannotFrontError(CourseError):
    """An LM that would not go through DSPy's cache, so that there is nothing to share."""


class CachedLM(dspy.LM):
    """A dspy.LM whose identical calls share one request; see cache.front(lm).

    Calls with `cache=False` are never shared. Callers of other tenants, endpoints or rollouts have other keys
    and never wait for each other. A waiter or a hit uses no tokens, so usage trackers count nothing, and its
    history entry has empty usage.
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
            record = cache.lookup(key, at_once=True)
            if record is not None:
                return await self._shown(_result_of(self, call, record), waits)

            async def ask() -> tuple[Any, CallResult | None]:
                return await self._ask(call, cache, key, waits)

            (record, result), is_shared = await cache.single_flight.run_with(
                waits, self._coalescing_key(cache, key, kwargs), ask
            )
        if is_shared:
            cache.count_shared(record)
            record = copied(record)
        elif result is not None:
            return result
        return await self._shown(_result_of(self, call, record), waits)

    async def _ask(
        self, call: Any, cache: Any, key: str, waits: InThread | InTask
    ) -> tuple[Any, CallResult | None]:
        """Look in all tiers; then, with the lease among processes, let DSPy ask the model.

        Returns the record, as the cache keeps it, and what the model answered (None: it was in the cache).
        """

        async def do(work: Callable[[], Any]) -> Any:
            return work() if waits.loop is None or not cache.is_slow else await waits.call(work)

        record = await do(lambda: cache.lookup(key, counts_miss=cache.shared is None))
        if record is not None:
            return record, None
        async with held(cache.shared, key, waits):
            if cache.shared is not None:  # another process may have answered since
                record = await do(lambda: cache.lookup(key))
                if record is not None:
                    return record, None
            stamp = cache.stamp
            result = await self._execute(replace(call, cache=False), waits)
            record = result.dump() if result.responses or result.raw is None else result.raw
            await do(lambda: cache.keep(key, record, stamp))
        return record, result

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
    new.__dict__.update(lm.copy().__dict__)
    return new
