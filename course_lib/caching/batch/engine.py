"""The engine room: a thread with an event loop of its own, which runs items, so many at a time, none twice.

Main path: Engine(...).start() -> admit(jobs) -> each job's future gets its Item, after the journal has it.
It needs no loop of the caller, so it works in a script, in a notebook's running loop, and under `async for`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import dspy

from course_lib.caching.batch.errors import BatchError, BatchStoppedError, JournalError
from course_lib.caching.batch.items import Failure, Item
from course_lib.caching.batch.journal import Journal, duplicate
from course_lib.caching.batch.meter import usage_of


@dataclass(slots=True, eq=False)
class Job:
    """One item on its way."""

    index: int
    key: str
    inputs: Any
    digest: bytes
    future: Future[Item] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # a waiting consumer that is cancelled must not cancel it


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended, as a runner tells it."""

    result: Any
    error: Failure | None
    entries: list[tuple[str, dict[str, Any]]]
    """What each model call used: the model's name, and the usage as DSPy reports it."""


class Runner(Protocol):
    """Runs one item somewhere: in this loop, in a thread, on another machine."""

    can_cancel: bool
    """False when what runs must be waited for."""

    async def run(self, item: Any) -> Outcome:
        """Run it; errors of the program are in the outcome."""

    async def close(self) -> None:
        """Wait for what cannot be cancelled, and free what is held."""


class Engine:
    """Runs jobs. All but start(), admit() and stop() happens in its own thread."""

    def __init__(
        self,
        open_runner: Callable[[], Runner],
        open_journal: Callable[[], Journal | None],
        *,
        concurrency: int,
        stops_at_failure: bool,
        retry_failed: bool,
    ) -> None:
        self._open_runner, self._open_journal = open_runner, open_journal
        self._concurrency = concurrency
        self._stops_at_failure, self._retry_failed = stops_at_failure, retry_failed
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="course-batch", daemon=True)
        self._context = contextvars.copy_context()
        self._ready: Future[None] = Future()
        self._queue: deque[Job] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._places: dict[str, int] = {}  # of what is queued or running, by key
        self._tracker = dspy.settings.usage_tracker
        self._stopping = False
        self._ending: asyncio.Event | None = None
        self.unsaved: list[Item] = []
        """Answered, but not written: the journal failed."""
        self.damaged = 0
        """Rows of the journal that could not be used."""

    def start(self) -> None:
        """Start the thread, and wait until the journal and the runner are open.

        Raises:
            BatchError: the journal cannot be used.
        """
        self._thread.start()
        try:
            self._ready.result()
        except BaseException:
            self.stop()
            raise

    def admit(self, jobs: Sequence[Job]) -> None:
        """Take jobs, from any thread."""
        self.loop.call_soon_threadsafe(self._admit, jobs)

    def drain(self) -> None:
        """Start nothing more, and wait for what runs."""
        asyncio.run_coroutine_threadsafe(self._drain(), self.loop).result()

    def stop(self) -> None:
        """Cancel what can be, and wait until nothing is left. What was written to the journal stays."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # its loop has just ended by itself
                self.loop.call_soon_threadsafe(self._end)
            if self._thread is not threading.current_thread():
                self._thread.join()

    def _live(self) -> None:
        try:
            self._context.run(self.loop.run_until_complete, self._serve())
        except BaseException as error:  # border: carried to the thread that waits in start()
            if not self._ready.done():
                self._ready.set_exception(error)
        finally:
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    async def _serve(self) -> None:
        self._ending = asyncio.Event()
        self._journal = self._open_journal()
        try:
            self._runner = self._open_runner()
            try:
                self._ready.set_result(None)
                await self._ending.wait()
                if self._runner.can_cancel:
                    self._cancel_all()
            finally:
                await self._drain()
                await self._runner.close()
        finally:
            if self._journal is not None:
                self._journal.close()

    def _end(self) -> None:
        self._stopping = True
        if self._ending is not None:
            self._ending.set()

    def _admit(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            try:
                stored = self._stored(job)
            except BatchError as error:
                self._stopping = True
                job.future.set_exception(error)
                continue
            if stored is not None:
                job.future.set_result(stored)
            else:
                self._queue.append(job)
                self._places[job.key] = job.index
        self._start_more()

    def _stored(self, job: Job) -> Item | None:
        if job.key in self._places:
            raise duplicate(job.key, self._places[job.key], job.index)
        if self._journal is None:
            return None
        stored = self._journal.find(job.key, job.digest, job.index)
        self.damaged = self._journal.damaged
        if stored is None or (stored.error is not None and self._retry_failed):
            if stored is not None:
                self._journal.forget(job.key)
            return None
        return Item(
            job.index,
            job.key,
            job.inputs,
            stored.result,
            stored.error,
            stored.usage,
            stored.duration_ms,
            resumed=True,
        )

    def _start_more(self) -> None:
        while self._queue and len(self._running) < self._concurrency and not self._stopping:
            job = self._queue.popleft()
            context = self._context.copy()  # what one item sets, no other sees
            task = self.loop.create_task(self._work(job), context=context)
            self._running.add(task)
            task.add_done_callback(self._ended)
        if self._stopping:
            self._refuse_queued()

    def _refuse_queued(self) -> None:
        while self._queue:
            job = self._queue.popleft()
            job.future.set_exception(BatchError(f"item {job.index} was not started: the batch was ending"))

    async def _work(self, job: Job) -> None:
        begun_s = time.perf_counter()
        try:
            outcome = await self._runner.run(job.inputs)
            self._settle(job, outcome, (time.perf_counter() - begun_s) * 1e3)
        except asyncio.CancelledError:
            job.future.set_exception(BatchError(f"item {job.index} was cancelled: the batch was closed"))
            raise
        except BaseException as error:  # border: an engine's own failure must reach the consumer, not hang it
            self._stopping = True
            job.future.set_exception(error)
        finally:
            del self._places[job.key]

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start_more()

    def _settle(self, job: Job, outcome: Outcome, duration_ms: float) -> None:
        usage = usage_of(outcome.entries)
        item = Item(job.index, job.key, job.inputs, outcome.result, outcome.error, usage, duration_ms)
        if self._tracker is not None:  # the caller's own: what dspy.Parallel would lose
            for model, entry in outcome.entries:
                self._tracker.add_usage(model, entry)
        ends_batch = self._stops_at_failure and not item.ok
        if ends_batch:
            self._stopping = True
            job.future.set_exception(stopped(item))
            return
        if self._journal is not None:
            try:
                self._journal.write(item, job.digest)
            except JournalError as error:
                self._stopping = True
                self.unsaved.append(item)
                job.future.set_exception(error)
                return
        job.future.set_result(item)

    async def _drain(self) -> None:
        self._stopping = True
        self._refuse_queued()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _cancel_all(self) -> None:
        for task in self._running:
            task.cancel()


def stopped(item: Item) -> BatchStoppedError:
    """Return the error that ends a batch which stops at its first failure."""
    assert item.error is not None
    return BatchStoppedError(
        f"item {item.index} (key {item.key!r}) failed with {item.error.kind}: {item.error.message}. "
        "What was done is in the journal, if there is one; this item is not, so a new run tries it again",
        item,
    )
