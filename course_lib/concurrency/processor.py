# mypy: allow-subclassing-any
"""A program that answers although its model fails: its calls are repeated, shared, or go to another model.

Main path: ResilientProcessor(program, large, small, deadline_s=10) is a dspy.Module like the program;
resilient(large, small) is the LM inside it. What stands around each model: recommended(name).
For DSPy an engine makes one attempt (see engines.py); this one makes as many as the policies want, and DSPy's
own retries are off: one retry layer only.

Sync calls go through the same coroutines, each in an event loop that lives in a thread for that call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

import anyio
import dspy
from anyio.from_thread import start_blocking_portal
from dspy._vendor.lm15.serde import request_to_dict
from dspy.clients.call_result import usage_dict
from dspy.clients.engines.stream_guard import achecked_stream
from dspy.clients.errors import error_boundary
from dspy.lm15 import BuiltinTool, Request, Response, Usage

from course_lib.concurrency import tasks
from course_lib.concurrency.policies import (
    Call,
    Coalesce,
    ExponentialBackoff,
    Fallback,
    Hedge,
    Policy,
    Timeout,
    composed,
    guarded_by,
    is_outage,
    limited_by,
    within_deadline,
)
from course_lib.errors import CourseError
from course_lib.measure.engines import Engine, engine_of, with_engines
from course_lib.resilience import Bulkhead, CircuitBreaker, Deadline


class Unanswered(dspy.LMError, CourseError):  # noqa: N818  (says what happened)
    """No model was asked, or none answered in time; `__cause__` is the reason, such as BreakerOpen."""


class HalfAnswer(dspy.LMError, CourseError):  # noqa: N818  (says what happened)
    """A stream broke off after its first token; nothing is repeated, since the reader has seen a part."""


Policies = Callable[..., Sequence[Policy]]
"""Called with a model's name and `is_last`; makes the policies around it, outermost first."""


def recommended(name: str, *, is_last: bool, without: Collection[str] = ()) -> list[Policy]:
    """Return the policies around one model, outermost first; each model has a breaker and places of its own.

    Only the last model is asked again: for the others, the next model is the second attempt. The bulkhead
    stands outside the breaker, which must not take a refusal for a failure, and inside the backoff, which
    would hold a place while it waits.

    Args:
        name: of the model, for errors and logs.
        is_last: whether no other model stands behind it.
        without: names of policies to leave out, to measure what each is worth.

    Raises:
        ValueError: no policy has such a name.
    """
    policies: dict[str, Policy] = {
        "coalescing": Coalesce(key=shared_key, copied=_uncharged),
        "backoff": ExponentialBackoff(attempts=3 if is_last else 1),
        "hedge": Hedge(after_s=1.0, is_idempotent=only_answers),
        "bulkhead": limited_by(Bulkhead(name, limit=32, waiting=64)),
        "breaker": guarded_by(CircuitBreaker(name, threshold=2, is_failure=is_outage)),
        "timeout": Timeout(20.0),
    }
    if unknown := set(without) - policies.keys():
        raise ValueError(f"no policies {sorted(unknown)} to leave out; there are {', '.join(policies)}")
    return [policy for each, policy in policies.items() if each not in without]


def only_answers(request: Request) -> bool:
    """Tell a request that does nothing but answer: none with tools that the provider itself would run."""
    return not any(isinstance(tool, BuiltinTool) for tool in request.tools)


def shared_key(request: Request) -> str | None:
    """Return what two requests have in common that can share an answer; None for one that cannot.

    A stream is its reader's own, and so is a sample: a temperature above 0 asks for another answer each time.
    """
    if _stream.get() is not None or (request.config.temperature or 0) > 0 or not only_answers(request):
        return None
    return json.dumps(request_to_dict(request), sort_keys=True, default=str)


class ResilientProcessor(dspy.Module):
    """Runs a program so that its model calls are repeated, shared, refused and handed to other models.

    `prediction.answered_by` lists the models that answered, one for each call that the program made, and
    `get_lm_usage()` counts what each of them used.
    """

    def __init__(
        self,
        program: dspy.Module,
        *models: dspy.LM,
        deadline_s: float = 30.0,
        policies: Policies = recommended,
    ) -> None:
        """Wrap a program; `models` are the one to ask and those to fall back to, as in resilient().

        Raises:
            ValueError: a predictor of the program has a model of its own, which this would not reach.
        """
        super().__init__()
        if own := [name for name, each in program.named_predictors() if each.lm is not None]:
            raise ValueError(
                f"predictor {own[0]!r} has a model of its own; give it here after program.set_lm(None)"
            )
        self.program, self.deadline_s = program, deadline_s
        self.lm = resilient(*models, policies=policies)

    def forward(self, **inputs: Any) -> Any:
        """Run the program; tools see the deadline as `Deadline.current()`, and model calls end with it."""
        with self._around() as marked:
            return marked(self.program(**inputs))

    async def aforward(self, **inputs: Any) -> Any:
        """Do as forward(), and cancel whatever is under way at the deadline."""

        async def run(inputs: dict[str, Any]) -> Any:
            return await self.program.acall(**inputs)

        with self._around() as marked:
            return marked(await within_deadline(run, inputs))

    @contextmanager
    def _around(self) -> Iterator[Callable[[Any], Any]]:
        """Let the program find our model and the deadline; yield what names the models in its answer."""
        answered_by: list[str] = []

        def marked(prediction: Any) -> Any:
            if isinstance(prediction, dspy.Prediction):
                prediction.answered_by = answered_by
            return prediction

        # settings, since context variables of our own do not reach the threads of dspy.Parallel
        settings = dspy.context(lm=self.lm, course_answered_by=answered_by)
        try:
            with Deadline.after(self.deadline_s).applied(), settings:
                yield marked
        except Unanswered as error:
            raise (error.__cause__ or error) from None


def resilient(*models: dspy.LM, policies: Policies = recommended) -> dspy.LM:
    """Return an LM that asks the first model, and each next one if that cannot answer.

    All get the request that the first one would get. It keeps no cache: an answer of another model must not
    be kept as that of the first. Connection settings stay with the models, `num_retries` of none is used.
    """
    if not models:
        raise ValueError("give at least one model to ask")
    calls = [
        composed(policies(each.model, is_last=each is models[-1]), _asks(each, is_first=each is models[0]))
        for each in models
    ]
    call = reduce(lambda other, asks: partial(Fallback(other), asks), reversed(calls))
    engine = _AsyncEngine(models[0], call)
    return with_engines(models[0], _SyncEngine(models, engine), engine, num_retries=0, cache=False)


# -- one attempt ---------------------------------------------------------------------------------------

_stream: ContextVar[_Stream | None] = ContextVar("course_resilient_stream", default=None)


class _Answer(NamedTuple):
    """What a call returns; of a stream, whose events have gone to the reader, only the model's name."""

    model: str
    response: Response | None = None


def _asks(lm: dspy.LM, *, is_first: bool) -> Call:
    """Return the call that makes one attempt at a model."""

    async def ask(request: Request) -> _Answer:
        with error_boundary(lm.model, unexpected=True):
            backend, request = engine_of(lm, replace(request, model=lm.model), in_task=True)
            if (stream := _stream.get()) is None:
                return _Answer(lm.model, finished(await backend.complete(request)))
            await stream.fill(lambda: achecked_stream(backend.stream(request)), finished)
            return _Answer(lm.model)

    def finished(end: Any) -> Any:
        """Count the usage of another model under its own name, where DSPy would take the first one's."""
        if is_first or end.usage is None:
            return end
        if dspy.settings.usage_tracker:
            dspy.settings.usage_tracker.add_usage(lm.model, usage_dict(end))
        return replace(end, usage=Usage())

    return ask


def _uncharged(answer: _Answer) -> _Answer:
    """Return an answer for those who shared the call: its usage is counted once."""
    return answer._replace(response=answer.response and replace(answer.response, usage=Usage()))


_BROKE_OFF = "the answer broke off after its first token"


class _Stream:
    """The reader's side of a stream: whichever attempt is the first with a token has it for itself."""

    def __init__(self, send: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        self._send = send
        self._owner: object = None

    async def fill(self, source: Callable[[], Any], finished: Callable[[Any], Any]) -> None:
        """Hand over the events of one attempt.

        Raises:
            HalfAnswer: it broke off after its first token, or another attempt had one before.
        """
        me, head = object(), []
        try:
            self._check(me)
            async with aclosing(source()) as events:
                async for event in events:
                    head.append(finished(event) if event.type == "end" else event)
                    if event.type != "start":
                        self._check(me)
                        self._owner = me
                        while head:
                            await self._send(head.pop(0))
        except Exception as error:
            if self._owner is me:
                raise HalfAnswer(f"{_BROKE_OFF}: {error}") from error
            raise

    def _check(self, me: object) -> None:
        if self._owner not in (None, me):
            raise HalfAnswer(f"{_BROKE_OFF}; nothing is repeated after that")


# -- the engines ---------------------------------------------------------------------------------------


class _AsyncEngine(Engine):
    """Makes the composed call."""

    def __init__(self, lm: dspy.LM, call: Call) -> None:
        super().__init__(lm)
        self._call = call

    async def complete(self, request: Request) -> Any:
        try:
            answer = await within_deadline(self._call, request)
        except CourseError as error:
            if isinstance(error, dspy.LMError):
                raise
            raise Unanswered(str(error)) from error
        if (answered_by := dspy.settings.get("course_answered_by")) is not None:
            answered_by.append(answer.model)
        return answer.response

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        """Yield the events that one task writes, so that a policy goes on until the last one."""
        send, receive = anyio.create_memory_object_stream[Any](0)
        context = copy_context()
        context.run(_stream.set, _Stream(send.send))

        async def write() -> None:
            async with send:
                await self.complete(request)

        writing = asyncio.create_task(write(), context=context)
        try:
            async with receive:
                async for event in receive:
                    yield event
            await writing
        finally:
            await tasks.end(writing)
            send.close()


class _SyncEngine(Engine):
    """The sync form: a thread waits while the async one works in an event loop of that call's own."""

    def __init__(self, models: Sequence[dspy.LM], engine: _AsyncEngine) -> None:
        super().__init__(models[0])
        self._models, self._engine = models, engine

    def complete(self, request: Request) -> Any:
        with self._loop() as wait_for:
            return wait_for(self._engine.complete, request)

    def stream(self, request: Request) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(events, None)

        with self._loop() as wait_for:
            events: Any = self._engine.stream(request)
            try:
                while (event := wait_for(following)) is not None:
                    yield event
            finally:
                wait_for(events.aclose)

    @contextmanager
    def _loop(self) -> Iterator[Callable[..., Any]]:
        """Run a loop in a thread; yield what waits for a coroutine in it, and cancels it if interrupted."""
        with start_blocking_portal("asyncio") as portal:

            def wait_for(work: Callable[..., Any], *args: Any) -> Any:
                future = portal.start_task_soon(work, *args)
                try:
                    return future.result()
                finally:
                    future.cancel()  # nothing to do for one that is done

            try:
                yield wait_for
            finally:
                portal.call(self._close_connections)

    async def _close_connections(self) -> None:
        """Close what was opened in this loop; LM.aclose() would close what other threads use, too."""
        loop = asyncio.get_running_loop()
        for store in (each._engine_store for each in self._models):  # noqa: SLF001
            for key in [key for key in list(store) if key[0] is loop]:
                await store.pop(key).aclose()
