"""Runs jobs in tasks: a thread with an event loop of its own, so many items at a time, none twice.

Main path: Tasks(books, runner, concurrency=...) -> admit(jobs) -> the runner's outcome -> books.settle.
It needs no loop of the caller, so it works in a script, in a notebook's running loop, and under `async for`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

from course_lib.caching.batch.books import Books, Job, Outcome


class Engine(Protocol):
    """Runs jobs somewhere."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """A running loop that is not the caller's, to read async inputs in."""

    def admit(self, jobs: Sequence[Job]) -> None:
        """Take jobs, from any thread."""

    def drain(self) -> None:
        """Start nothing more, and wait for what runs."""

    def stop(self) -> None:
        """Cancel what can be, and wait until nothing is left."""


class Runner(Protocol):
    """Runs one item: in the loop that awaits it, or on another machine."""

    async def run(self, item: Any) -> Outcome:
        """Run it; errors of the program are in the outcome."""

    async def close(self) -> None:
        """Wait for what cannot be cancelled, and free what is held."""


class LoopThread:
    """A daemon thread with a running event loop, in the context of who made it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._live,), name="course-batch", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the loop, and wait for its thread."""
        with contextlib.suppress(RuntimeError):  # it has ended already
            self.loop.call_soon_threadsafe(self.loop.stop)
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _live(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(_end_all(self.loop))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()


async def _end_all(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left: a task that waits for more input."""
    left = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


class Tasks:
    """An engine of tasks."""

    def __init__(self, books: Books, runner: Runner, *, concurrency: int) -> None:
        self._books, self._runner, self._concurrency = books, runner, concurrency
        self._context = contextvars.copy_context()
        self._queue: deque[Job] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._home = LoopThread()
        self._is_stopped = False
        self.loop = self._home.loop

    def admit(self, jobs: Sequence[Job]) -> None:
        """Take jobs, from any thread."""
        if wanted := [job for job in jobs if self._books.takes(job)]:
            self.loop.call_soon_threadsafe(self._start, wanted)

    def drain(self) -> None:
        """Start nothing more, and wait for what runs."""
        self._books.is_ending = True
        asyncio.run_coroutine_threadsafe(self._drain(), self.loop).result()

    def stop(self) -> None:
        """Cancel what runs, and wait until nothing is left."""
        if self._is_stopped:
            return
        self._is_stopped = self._books.is_ending = True
        asyncio.run_coroutine_threadsafe(self._close(), self.loop).result()
        self._home.stop()

    def _start(self, jobs: Sequence[Job]) -> None:
        self._queue.extend(jobs)
        self._start_more()

    def _start_more(self) -> None:
        while self._queue and (self._books.is_ending or len(self._running) < self._concurrency):
            job = self._queue.popleft()
            if self._books.is_ending:
                self._books.refuse(job)
                continue
            context = self._context.copy()  # what one item sets, no other sees
            task = self.loop.create_task(self._work(job), context=context)
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start_more()

    async def _work(self, job: Job) -> None:
        begun_s = time.perf_counter()
        try:
            outcome = await self._runner.run(job.inputs)
            self._books.settle(job, outcome, (time.perf_counter() - begun_s) * 1e3)
        except asyncio.CancelledError:
            self._books.refuse(job)
            raise
        except BaseException as error:  # border: our own failure must reach the consumer, not hang it
            self._books.end_with(job, error)

    async def _drain(self) -> None:
        self._start_more()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _close(self) -> None:
        for task in self._running:
            task.cancel()
        await self._drain()
        await self._runner.close()
