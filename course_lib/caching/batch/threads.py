"""Runs jobs in threads: each calls the program, has the books written, and takes the next job itself.

Main path: Threads(books, program, concurrency=...) -> admit(jobs) -> program(...) -> books.settle.
This is the faster way in DSPy 3.4.1: an awaited call goes to another thread and back for its price, and twice
more for the cache. What runs in a thread cannot be cancelled, so a stop waits for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from course_lib.caching.batch.books import Books, Job, Outcome
from course_lib.caching.batch.engine import LoopThread
from course_lib.caching.batch.items import Failure
from course_lib.caching.batch.local import settings_for, with_usage
from course_lib.caching.batch.meter import Meter
from course_lib.caching.batch.plain import call_of


class Threads:
    """An engine of threads."""

    def __init__(self, books: Books, program: Any, *, concurrency: int, keep_history: bool) -> None:
        self._books, self._program = books, program
        self._keep_history = keep_history
        self._context = contextvars.copy_context()
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="course-batch-item")

    @cached_property
    def _reading(self) -> LoopThread:
        return LoopThread()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """A loop for async inputs; its thread starts when it is first asked for."""
        return self._reading.loop

    def admit(self, jobs: Sequence[Job]) -> None:
        """Take jobs."""
        for job in jobs:
            if not self._books.takes(job):
                continue
            if self._books.is_ending:
                self._books.refuse(job)
            else:
                self._pool.submit(self._context.copy().run, self._work, job)

    def drain(self) -> None:
        """Start nothing more, and wait for what runs."""
        self._books.is_ending = True
        self._pool.shutdown()

    def stop(self) -> None:
        """Wait until nothing is left; what is answered meanwhile is written."""
        self.drain()
        if "_reading" in self.__dict__:
            self._reading.stop()

    def _work(self, job: Job) -> None:
        if self._books.is_ending:
            self._books.refuse(job)
            return
        begun_s = time.perf_counter()
        try:
            outcome = self._outcome(job.inputs)
            self._books.settle(job, outcome, (time.perf_counter() - begun_s) * 1e3)
        except BaseException as error:  # border: our own failure must reach the consumer, not hang it
            self._books.end_with(job, error)

    def _outcome(self, item: Any) -> Outcome:
        meter = Meter()
        args, kwargs = call_of(item)
        with settings_for(meter, keep_history=self._keep_history):
            try:
                result = self._program(*args, **kwargs)
            except Exception as error:  # border: one bad item must not end the batch
                return Outcome(None, Failure.of(error), meter.entries)
            return Outcome(with_usage(result, meter), None, meter.entries)
