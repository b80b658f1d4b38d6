"""stream(program, question=...): what a program writes, as it writes it, for one request.

Main path: `async with stream(program, question=q) as events: async for event in events: ...`. A task runs the
program in the context in which stream() was called and numbers its events; readers follow the numbers.
The task is its own, so that a reader may leave, or be cancelled, in any task and at any moment.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import copy_context
from itertools import islice
from typing import Any, Self

import dspy
from dspy.streaming import StatusMessageProvider

from course_lib.concurrency.streaming.events import Done, Error, Event, Heartbeat, error_of, failure
from course_lib.concurrency.streaming.listening import Asked, Run
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
    **inputs: Any,
) -> Stream:
    """Return the stream of one run of `program`, which begins when somebody reads it.

    Args:
        program: a module; with `aforward` it runs on the event loop, else in a thread of its own, which a
            reader who leaves ends at the model's next token. One program may run in many streams at once.
        fields: output fields to show, of all its predictors; `draft.answer` where two write an `answer`.
        citations: a field that lists sources: each comes as a Citation as soon as it is written.
        status: whose words the Status events have; by default they tell of tools.
        inputs: the program's.

    Raises:
        UnknownFieldError: a field that no predictor writes, or several.
    """
    return Stream(Run(program, Asked(fields, citations, status), inputs))


class Stream:
    """The events of one run, numbered from 1: to be iterated once, or followed by readers who come back.

    With `async with` the run has ended, in whatever way, when the block is left. A plain `async for` that
    breaks ends it soon after. Errors are events; the exception itself is in `Error.cause`.
    """

    def __init__(
        self, run: Run, *, grace_s: float = 0.0, on_end: Callable[[Stream], None] | None = None
    ) -> None:
        self.id = secrets.token_urlsafe(12)
        """Who knows it can read the stream: it is not to be guessed."""
        self._run, self._grace_s, self._on_end = run, grace_s, on_end
        self._context = copy_context()
        self._task: asyncio.Task[None] | None = None
        self._log: deque[Event] = deque(maxlen=KEPT)
        self._count = self._read = self._readers = 0
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            async for _, event in self.follow():
                yield event
        finally:
            await self.aclose()

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self._task is not None and self._task.done()

    async def follow(
        self, after: int = 0, *, heartbeat_s: float | None = None
    ) -> AsyncIterator[tuple[int, Event]]:
        """Yield each event after number `after`, with its number, and Heartbeat while nothing comes.

        When the last reader has left, the run is cancelled, unless one comes back within the grace period.
        """
        self._begin()
        self._readers += 1
        try:
            while True:
                try:
                    async with asyncio.timeout(heartbeat_s):
                        await self._until(lambda: self._count > after or self.has_ended)
                except TimeoutError:
                    yield after, Heartbeat()
                    continue
                first = self._count - len(self._log) + 1
                if not 0 <= after <= self._count or after < first - 1:
                    yield self._count, error_of("gone")
                    yield self._count, Done()
                    return
                if after == self._count:
                    return
                for event in list(islice(self._log, after - first + 1, None)):
                    after += 1
                    self._read = max(self._read, after)
                    self._wake()
                    yield after, event
        finally:
            self._readers -= 1
            if not self._readers and not self.has_ended:
                asyncio.get_running_loop().call_later(self._grace_s, self._abandon)

    async def aclose(self) -> None:
        """Cancel the run, and wait until it has ended: its request to the model is closed then."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    def end(self, error: Error) -> None:
        """Cancel the run, and tell its readers why."""
        if not self.has_ended:
            self._begin()
            assert self._task is not None
            self._append(error)
            self._append(Done())
            self._task.cancel()

    def _begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._produce(), context=self._context)
            self._task.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._wake()
        if self._on_end is not None:
            self._on_end(self)

    def _abandon(self) -> None:
        if not self._readers and self._task is not None:
            self._task.cancel()

    async def _produce(self) -> None:
        """Run the program into the log, within the deadline of the place where the stream was made."""
        deadline = Deadline.current()
        try:
            async with asyncio.timeout(deadline and deadline.remaining_s()):
                async for event in self._run.events():
                    await self._until(lambda: self._count - self._read < AHEAD)
                    self._append(event)
        except Exception as error:  # border: every failure becomes an event
            self._append(failure(error, self._run.partial()))
        self._append(Done())

    def _append(self, event: Event) -> None:
        self._log.append(event)
        self._count += 1
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._news.wait()
