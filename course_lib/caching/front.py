# mypy: allow-subclassing-any, allow-untyped-decorators
"""CachedLM: an LM that asks once for many callers, shows hits as streams, and answers hits of acall at once.

Main path: cache.front(lm) -> CachedLM; a call: memory -> else one leader per key looks further, takes the
lease and lets DSPy's execute() ask the model -> each caller finalizes a result of its own, with history.
Source: dspy/clients/base_lm.py, execution.py and engines/streaming.py (DSPy 3.4.1). A cache under the model
cannot know when the caller in front has failed or was cancelled.

It works with the TieredCache that is `dspy.cache` at the time of the call, and is an ordinary dspy.LM under
any other cache: it may be copied, pickled and saved like one. `__call__` and `acall` are one coroutine, which
waits in two ways.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import dspy
from dspy.clients import execution
from dspy.clients.call_context import stream_emitted
from dspy.clients.call_result import CACHE_FORMAT, CallResult
from dspy.clients.engines.streaming import ListenerBridge
from dspy.lm15 import response_to_events
from dspy.utils.callback import with_callbacks

from course_lib.caching.calls import calling
from course_lib.caching.wire import copied
from course_lib.errors import CourseError
from course_lib.lm import tokens
from course_lib.resilience.single_flight import IN_THREAD, InTask, InThread, on_event_loop, run_blocking


class CannotFrontError(CourseError):
    """An LM that would not go through DSPy's cache, so that there is nothing to share."""


class CachedLM(dspy.LM):
    """A dspy.LM whose identical calls share one request; see cache.front(lm).

    Calls with `cache=False`, or of other tenants, endpoints or rollouts, are never shared. A waiter or a hit
    uses no tokens: usage trackers count nothing, and its history entry has empty usage.
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
        """Return the state of an ordinary dspy.LM, which loads where this course is not installed."""
        return {**super().dump_state(), "_dspy_lm_class": "dspy.clients.lm.LM"}

    async def _answer(self, call: Any, kwargs: dict[str, Any], waits: InThread | InTask) -> CallResult:
        """Return the result of a prepared call: from memory, from another caller, or from the model."""
        cache = dspy.cache
        if not call.cache or not hasattr(cache, "single_flight"):  # no TieredCache
            return await self._execute(call, waits)
        with calling(self, kwargs) as under_way:
            try:
                key = cache.cache_key(call.key(self, False), execution.IGNORED_CACHE_KEYS)
            except Exception:  # border: what has no key is not shared; the cache counts it when DSPy asks it
                return await self._execute(call, waits)
            under_way.key = key
            hit = cache.find(key, at_once=True)
            if hit is not None:
                return await self._replayed(call, hit.record, waits)

            shared_by = self._coalescing_key(cache, key, kwargs)
            ask = partial(self._ask, call, cache, key, waits)
            (record, result), is_shared = await cache.single_flight.run_with(waits, shared_by, ask)
        if is_shared:
            cache.count_shared(record)
            record, result = copied(record), None
        elif result is not None and not result.cache_hit:
            return result
        return await self._replayed(call, record, waits, result)

    async def _ask(self, call: Any, cache: Any, key: str, waits: InThread | InTask) -> tuple[Any, Any]:
        """Look in all tiers; then, with the lease among processes, let DSPy ask the model.

        Returns the record, as the cache keeps it, and what DSPy made of it, unless nobody has read it yet.
        """

        async def do(work: Callable[[], Any]) -> Any:
            return work() if waits.loop is None or not cache.is_slow else await waits.call(work)

        hit = await do(lambda: cache.find(key, counts_miss=cache.shared is None))
        if hit is not None:
            return hit.record, hit.result
        async with cache.shared.lease(key, waits) if cache.shared else nullcontext():
            if cache.shared is not None:  # another process may have answered since
                hit = await do(lambda: cache.find(key))
                if hit is not None:
                    return hit.record, hit.result
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

    async def _replayed(
        self, call: Any, record: Any, waits: InThread | InTask, result: CallResult | None = None
    ) -> CallResult:
        """Return a record as DSPy reads it (execution._cached), and show it to the reader of a stream."""
        if result is None and isinstance(record, dict) and record.get("_dspy_format") == CACHE_FORMAT:
            result = CallResult.load(record)
        elif result is None:
            result = CallResult.legacy(self, record, kwargs=call.legacy)
            result.cache_hit, result.usage = True, {}
        if dspy.settings.send_stream is not None:
            await _send(result, self.model, in_task=waits.loop is not None)
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


def fronted(lm: dspy.LM, kind: type[CachedLM] = CachedLM) -> CachedLM:
    """Return a CachedLM with the settings, engines and callbacks of `lm`; it has a history of its own.

    Args:
        lm: the model.
        kind: a class of CachedLM's, to be made instead.

    Raises:
        CannotFrontError: `lm` is no dspy.LM, or of a class that has its own way of calling.
    """
    if type(lm) not in {dspy.LM, CachedLM}:
        raise CannotFrontError(
            f"cannot put a front before {type(lm).__module__}.{type(lm).__qualname__}: it may not ask DSPy's "
            "cache. Pass a dspy.LM, with engine=... for a model of your own"
        )
    new = kind.__new__(kind)
    new.__dict__.update(lm.copy().__dict__)
    return new


# -- hits as streams -----------------------------------------------------------------------------------


def pieces_of(result: CallResult, model: str) -> Iterator[Any]:
    """Yield the chunks of an answer as DSPy's engines send them; joined, their text is the answer's.

    Text comes in tokens, never in single characters, over which DSPy's listeners stumble. What has no form
    as a stream (an answer of LiteLLM's, a part without one) yields nothing: the Prediction follows anyway.
    """
    caller = dspy.settings.caller_predict
    for response in result.responses:
        bridge = ListenerBridge(model, id(caller) if caller else None)
        try:
            events = list(response_to_events(response))
        except TypeError:  # lm15's word for a part that no stream can carry
            return
        for event in events:
            yield from filter(None, map(bridge.chunk, _cut(event)))


def _cut(event: Any) -> Iterator[Any]:
    delta = getattr(event, "delta", None)
    if delta is None or delta.type not in {"text", "thinking"} or not delta.text:
        yield event
        return
    first, *rest = tokens.split(delta.text)
    yield replace(event, delta=replace(delta, text=first))
    for piece in rest:  # log-probabilities belong to the whole text: they go out once, with the first piece
        bare = {"logprobs": (), "logprobs_complete": True} if delta.type == "text" else {}
        yield replace(event, delta=replace(delta, text=piece, **bare))


async def _send(result: CallResult, model: str, *, in_task: bool) -> None:
    """Send an answer's pieces to the stream of this call; waits for a slow reader, as a live stream does.

    A sync program of dspy.streamify runs in a worker thread of AnyIO, whose way to the stream's loop is used.
    From another thread, such as one of dspy.Parallel, there is none; a live answer would fail there. This one
    is given without being shown.
    """
    pieces, stream = list(pieces_of(result, model)), dspy.settings.send_stream

    async def send_all() -> None:
        stream_emitted()  # as in a live stream: no second try with another adapter once text was shown
        for piece in pieces:
            await stream.send(piece)

    if in_task and pieces:
        await send_all()
    elif pieces and not on_event_loop():
        with suppress(RuntimeError):  # not a worker thread of AnyIO
            anyio.from_thread.check_cancelled()
            anyio.from_thread.run(send_all)
