"""stream(program, question=...): what a program writes, as it writes it, for one request.

Main path: `async with stream(program, question=q) as events: async for event in events: ...`. A task runs the
program in the context in which stream() was called and numbers its events; readers follow the numbers.
The task is its own, so that a reader may leave, or be cancelled, in any task and at any moment.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from contextvars import copy_context
from itertools import islice
from typing import Any, Self

import dspy
from dspy.streaming import StatusMessageProvider

from course_lib.concurrency.streaming.events import Done, Error, Event, Heartbeat, error_of, failure
from course_lib.concurrency.streaming.run import Run
from course_lib.resilience import Deadline

KEPT = 1024
"""So many events are kept for readers who come back; a longer answer loses its beginning for them."""
AHEAD = 64
"""So many events a program may be ahead of its reader; then it waits, and so does the model's server."""


def stream(
    program: dspy.Module,
    /,
    *,
    fields: Sequence[str] = ("answer",),
    citations: str | None = None,
    status: StatusMessageProvider | None = None,
    grace_s: float = 0.0,
    **inputs: Any,
) -> Stream:
    """Return the stream of one run of `program`, which begins when somebody reads it.

    Args:
        program: a module; with `aforward` it runs on the event loop, else in a thread of its own, which ends
            at the model's next token when the reader leaves. One program may run in many streams at once.
        fields: output fields to show, of all its predictors; `draft.answer` where two write an `answer`.
        citations: a field that lists sources; each comes as a Citation as soon as it is written.
        status: whose words the Status events have; DSPy's own tell of tools.
        grace_s: so long it goes on when its last reader has left, who may come back; see Stream.follow.
        inputs: the program's.

    Raises:
        UnknownFieldError: a field that no predictor writes, or several.
        ValueError: the program has an input that is named like an option here; streaming_app() takes it.
    """
    if taken := sorted((stream.__kwdefaults__ or {}).keys() & _inputs_of(program)):
        raise ValueError(
            f"{type(program).__name__} has an input {taken[0]!r}, which is an option of stream(): "
            "name it otherwise, or stream a module around it that does"
        )
    return Stream(Run(program, inputs, fields=fields, citations=citations, status=status), grace_s=grace_s)


def _inputs_of(program: dspy.Module) -> set[str]:
    """Return the inputs that a program names; those of its predictors where it takes any."""
    forward = getattr(program, "aforward", None) or getattr(program, "forward", program)
    named = inspect.signature(forward).parameters
    takes_any = any(one.kind is one.VAR_KEYWORD for one in named.values())
    predictors = program.named_predictors() if takes_any else []
    return set(named).union(*(each.signature.input_fields for _, each in predictors))


class Stream:
    """The events of one run, numbered from 1: to be iterated once, or followed by readers who come back.

    When an `async with` is left the run has ended, in whatever way. A plain `async for` that breaks ends it
    soon after. Errors are events; the exception itself is in `Error.cause`.
    """

    def __init__(self, run: Run | None, *, grace_s: float = 0.0) -> None:
        self.id = secrets.token_urlsafe(12)
        """Who knows it can read the stream: it is not to be guessed."""
        self._run, self._grace_s = run, grace_s
        self._context = copy_context()
        self._task: asyncio.Task[None] | None = None
        self._log: deque[Event] = deque(maxlen=KEPT)
        self._count = self._read = self._readers = 0
        self._news = asyncio.Event()
        self._iterators: list[AsyncGenerator[Event, None]] | None = None

    async def __aenter__(self) -> Self:
        self._iterators = []
        return self

    async def __aexit__(self, *_: object) -> None:
        for one in self._iterators or ():  # of a loop that broke; nobody else would close it at once
            await one.aclose()
        await self.aclose()

    def __aiter__(self) -> AsyncGenerator[Event, None]:
        iterator = self._iterate()
        if self._iterators is not None:
            self._iterators.append(iterator)
        return iterator

    async def _iterate(self) -> AsyncGenerator[Event, None]:
        try:
            async with aclosing(self.follow()) as numbered:
                async for _, event in numbered:
                    yield event
        finally:
            await self.aclose()

    @property
    def has_ended(self) -> bool:
        """Whether the last event is there."""
        return bool(self._log) and isinstance(self._log[-1], Done)

    def begin(self) -> None:
        """Start the run, if it has not begun; without a reader it is given up after the grace period."""
        if self._task is None and self._run is not None:
            self._task = asyncio.create_task(self._produce(self._run), context=self._context)
            asyncio.get_running_loop().call_later(self._grace_s, self._abandon)

    async def follow(
        self, after: int = 0, *, heartbeat_s: float | None = None
    ) -> AsyncGenerator[tuple[int, Event], None]:
        """Yield each event after number `after`, with its number, and Heartbeat while nothing comes.

        When the last reader has left, the run is cancelled, unless one comes back within the grace period.
        """
        self.begin()
        self._readers += 1
        try:
            while True:
                try:
                    async with asyncio.timeout(heartbeat_s):
                        while after == self._count and not self.has_ended:
                            await self._news.wait()
                except TimeoutError:
                    yield after, Heartbeat()
                for number, event in self._after(after):
                    after = number
                    self._read = max(self._read, number)
                    self._wake()
                    yield number, event
                    if isinstance(event, Done):
                        return
        finally:
            self._readers -= 1
            if not self._readers and not self.has_ended:
                asyncio.get_running_loop().call_later(self._grace_s, self._abandon)

    async def aclose(self) -> None:
        """Cancel the run, and wait until it has ended: its request to the model is closed then."""
        self.end(error_of("abandoned"))
        if self._task is not None:
            await asyncio.wait([self._task])

    def end(self, error: Error) -> None:
        """Cancel the run if it has not ended, and tell its readers why."""
        if not self.has_ended:
            self._append(error)
            self._append(Done())
            if self._task is not None:
                self._task.cancel()

    def _abandon(self) -> None:
        if not self._readers:
            self.end(error_of("abandoned"))

    async def _produce(self, run: Run) -> None:
        """Run the program into the log, within the deadline of the place where the stream was made."""
        try:
            async with Deadline(math.inf).held(), aclosing(run.events()) as events:
                async for event in events:
                    while self._count - self._read >= AHEAD:
                        await self._news.wait()
                    self._append(event)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # border: every failure becomes an event
            self._append(failure(error, run.partial()))
        finally:
            self._append(Done())

    def _after(self, number: int) -> list[tuple[int, Event]]:
        """Return the events after a number, with theirs; an error if they are not kept, or never were.

        A reader who comes back after the last one is told again that it was the last.
        """
        first = self._count - len(self._log) + 1
        if not first - 1 <= number <= self._count:
            return [(self._count, error_of("gone")), (self._count, Done())]
        if number == self._count and self.has_ended:
            return [(number, Done())]
        return list(enumerate(islice(self._log, number - first + 1, None), start=number + 1))

    def _append(self, event: Event) -> None:
        if not self.has_ended:  # a run that is cancelled has nothing more to say
            self._log.append(event)
            self._count += 1
            self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
