"""A consumer: handles the events of a stream, several at a time, each at least once.

Main path: consumer = Consumer(stream, handle); await consumer.run(), until consumer.stop() from anywhere:
`loop.add_signal_handler(signal.SIGTERM, consumer.stop)`.

An event is acknowledged when its handler has returned. A consumer that lives renews what it has under way;
what a dead one held is claimed by another. So an event may be handled twice, even at the same time, and the
handler has to be idempotent (`Effects.once`). If it raises, the event is delivered again later; after
`most_deliveries`, or an EventError, it is a dead letter; one in which it waited for room in a stream to the
end is not counted. That is the one retry of events: a model inside retries briefly, or not at all.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import KW_ONLY
from typing import Any
from uuid import uuid4

from pydantic import Field, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked_dataclass

from course_lib.concurrency import tasks
from course_lib.concurrency.events.stream import DELIVERY, Entry, Event, EventError, EventStream
from course_lib.resilience import Deadline
from course_lib.services import ServerError

_ASK_AGAIN_S = 0.1
_ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit)  # of the process, or of the loop


@checked_dataclass(eq=False, config={"arbitrary_types_allowed": True})
class Consumer:
    """One of a stream's consumers; as many as are needed, in any processes, share its events."""

    stream: EventStream
    handle: Callable[[Event], Awaitable[object]]
    """Called in a task for each event, in the context of the place where run() was called."""
    _: KW_ONLY
    limit: PositiveInt = 8
    """How many are under way at a time; no more are read."""
    idle_s: float = Field(30.0, gt=0, le=1e9)
    """How long after its consumer's last sign of life an event is claimed."""
    retry_s: PositiveFloat = 1.0
    """How long after a failure an event is delivered again; doubles each time, up to `idle_s`."""
    most_deliveries: PositiveInt = 5
    """After so many, an event that still fails is given up."""
    deadline_s: PositiveFloat = 60.0
    """How long one handler may take; it sees this as `Deadline.current()`."""
    scope: Callable[[str], AbstractContextManager[Any]] = nullcontext
    """Called with the event's tenant, for a block around its handler: `lambda t: caching.scope(tenant=t)`."""

    def __post_init__(self) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:6]}"
        self.last_error = ""  # the last problem in one line: a handler's, or Redis being away or refusing
        self._in_flight: dict[bytes, asyncio.Task[None]] = {}
        self._claim_at_s = 0.0
        self._is_stopping = False

    def stop(self) -> None:
        """Let run() end: it reads nothing more, finishes and acknowledges what is under way, and returns."""
        self._is_stopping = True

    async def run(self) -> None:
        """Handle events until stop(). Cancelled, it drops what is under way, for others to claim."""
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(self._renew())
            async with asyncio.TaskGroup() as handlers:
                while not self._is_stopping:
                    await self._start_next(handlers)
            renewing.cancel()
        with suppress(ServerError):
            await self.stream.forget_names()

    async def _start_next(self, handlers: asyncio.TaskGroup) -> None:
        """Wait for a free slot or for events, and start those that came."""
        free = self.limit - len(self._in_flight)
        if not free:
            await asyncio.wait(self._in_flight.values(), return_when=asyncio.FIRST_COMPLETED)
            return
        try:
            claimed = await self._claim(free)
            entries = claimed or await self.stream.read(self.name, free)
        except ServerError as error:  # whatever it refuses: asked again, as long as it takes
            self.last_error = str(error)
            await asyncio.sleep(_ASK_AGAIN_S)
            return
        for entry in entries:
            if entry.id not in self._in_flight:
                task = handlers.create_task(self._settle(entry, is_first=not claimed))
                self._in_flight[entry.id] = task

    async def _claim(self, count: int) -> list[Entry]:
        """Return events of dead consumers, and those that failed; they are looked for now and then."""
        if time.monotonic() < self._claim_at_s:
            return []
        claimed = await self.stream.claim(self.name, self.idle_s, count)
        if len(claimed) < count:
            self._claim_at_s = time.monotonic() + min(self.idle_s, self.retry_s) / 2
        return claimed

    async def _settle(self, entry: Entry, *, is_first: bool) -> None:
        """Handle an event, and acknowledge it, leave it for later, or give it up."""
        task = asyncio.current_task()
        try:
            deliveries = 1 if is_first else await self.stream.deliveries(entry)
            try:
                await self._handle(entry, deliveries)
            except BaseException as error:  # border: one event must not stop the others
                is_cancelled = isinstance(error, asyncio.CancelledError) and tasks.is_cancelled()
                if is_cancelled or isinstance(error, _ENDS):
                    raise
                await self._fail(entry, deliveries, error)
            else:
                await self.stream.acknowledge(entry)
        except ServerError as error:  # the event comes again
            self.last_error = str(error)
        finally:
            if self._in_flight.get(entry.id) is task:
                del self._in_flight[entry.id]

    async def _handle(self, entry: Entry, deliveries: int) -> None:
        event = entry.event()
        if deliveries > self.most_deliveries:
            raise EventError(f"delivered {deliveries} times, and its consumer died or was lost each time")
        DELIVERY.set({})
        with self.scope(event.tenant):
            async with Deadline.after(self.deadline_s).held():
                await self.handle(event)

    async def _fail(self, entry: Entry, deliveries: int, error: BaseException) -> None:
        self.last_error = _line(error)
        is_held_up = DELIVERY.get({}).get("waits_for_room", False)  # it comes again until there is room
        if isinstance(error, EventError) or (deliveries >= self.most_deliveries and not is_held_up):
            await self.stream.bury(entry, self.last_error)
        else:
            del self._in_flight[entry.id]  # it is renewed no more, and may come again before this task ends
            wait_s = min(self.retry_s * 2.0 ** min(deliveries - 1, 99), self.idle_s)
            idle_s, counted = self.idle_s - wait_s, deliveries - is_held_up
            await self.stream.renew(self.name, [entry.id], idle_s=idle_s, deliveries=counted)

    async def _renew(self) -> None:
        """Say again and again that what is under way is under way."""
        while True:
            await asyncio.sleep(self.idle_s / 3)
            try:
                if self._in_flight:
                    await self.stream.renew(self.name, list(self._in_flight))
                await self.stream.forget_names()  # of those that died or were cancelled
            except ServerError as error:
                self.last_error = str(error)


def _line(error: BaseException) -> str:
    """Return an error's kind and first line, whatever its text is, so that it can be written anywhere."""
    line = type(error).__name__
    with suppress(Exception):  # border: the error, and how it becomes a text, are a handler's
        line = f"{line}: {error}".splitlines()[0].strip(": ")
    return line[:500].encode(errors="replace").decode()


@asynccontextmanager
async def consuming(
    stream: EventStream, handle: Callable[[Event], Awaitable[object]], **options: Any
) -> AsyncIterator[Consumer]:
    """Run a consumer beside the block, and stop it gracefully at its end; `options` are the Consumer's."""
    consumer = Consumer(stream, handle, **options)
    running = asyncio.create_task(consumer.run())
    try:
        yield consumer
    finally:
        consumer.stop()
        await running
