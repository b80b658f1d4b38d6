"""A batch under way: a bounded window of futures over a pool of threads.

Main path: for item in BatchRun(...) -> the window is filled -> a thread runs a job, writes its row -> Item.
Threads are the faster way in DSPy 3.4.1: an awaited call goes to another thread and back for its price, and
twice more for the cache.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import dspy
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from course_lib.caching.batch.errors import BatchError, BatchStoppedError, InputError, JournalError
from course_lib.caching.batch.execution import FAILURES, Outcome
from course_lib.caching.batch.items import Failure, Item, Totals
from course_lib.caching.batch.journal import Journal
from course_lib.measure import usage_of
from course_lib.resilience import Deadline, DeadlineExceeded

AHEAD = 4
"""Items in the window for each that runs: those that a slow one does not hold up."""


@dataclass(kw_only=True, eq=False, repr=False)
class Options:
    """How a batch runs."""

    concurrency: int = 32
    """How many items run at the same time. Up to four times as many are held in memory."""
    on_error: Literal["keep", "stop"] = "keep"
    """"keep" hands out failed items like others and goes on; "stop" raises BatchStoppedError."""
    deadline_s: float | None = None
    """Time for one item; past it the item has failed. A thread cannot be ended: its place is free when the
    program returns, so give the model a timeout too."""
    retry_failed: bool = False
    """Run items again that the journal has as failed; on_error="stop" does so anyway."""
    progress: bool = True
    """Show a bar where someone looks."""

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise InputError(f"concurrency {self.concurrency!r}; at least one item runs at a time")
        if self.on_error not in ("keep", "stop"):
            raise InputError(f'on_error {self.on_error!r}; give "keep" or "stop"')
        if self.deadline_s is not None and self.deadline_s <= 0:
            raise InputError(f"deadline_s {self.deadline_s!r}; an item needs some time")


@dataclass(slots=True, eq=False)
class Job:
    """One item of the input on its way."""

    index: int
    key: str
    inputs: Any
    digest: bytes = b""
    future: Future[Item] = field(default_factory=Future)
    """Resolved when the item is written; or holds the error that ends the batch."""
    task: Future[None] | None = None
    begun_s: float = 0.0
    deadline: Deadline | None = None
    """From when it runs; None before, and if there is no limit."""


class BatchRun(Iterator[Item]):
    """A batch under way: an iterator of Item in the order of the input.

    It closes itself at its end and at an error. To leave a loop early and be sure that nothing goes on, write
    `with processor.run(items) as run: for item in run: ...`.
    """

    def __init__(
        self,
        jobs: Iterator[Job],
        call: Callable[[Any], Outcome],
        journal: Journal | None,
        options: Options,
        length: int | None,
    ) -> None:
        self.totals = Totals()
        """What was handed out so far, and what it cost."""
        self._jobs, self._call, self._journal, self._options = jobs, call, journal, options
        self._window: deque[Job] = deque()
        self._pool = ThreadPoolExecutor(options.concurrency, thread_name_prefix="course-batch")
        self._tracker = dspy.settings.usage_tracker  # the caller's own, which dspy.Parallel would not reach
        self._completing = threading.Lock()
        self._places: dict[str, int] = {}  # of the items under way, by key
        self._ended: BaseException | None = None  # why nothing more may start
        self._unsaved: list[Item] = []
        self._gave_up = False
        ipython = sys.modules.get("IPython")
        is_notebook = ipython is not None and ipython.get_ipython() is not None
        is_hidden = not options.progress or (False if is_notebook else None)  # None: where no terminal is
        self._bar = tqdm(total=length, unit="item", dynamic_ncols=True, disable=is_hidden)

    def __next__(self) -> Item:
        """Wait for the next item, in order."""
        try:
            self._fill()
            if not self._window:
                raise StopIteration
            self._finish(self._window[0])
            item = self._window.popleft().future.result()
        except BaseException as error:  # border: whatever ends the loop, nothing may go on behind it
            self.close()
            if isinstance(error, BatchError) and self._unsaved:
                error.unsaved = tuple(self._unsaved)
                error.add_note(f"{len(error.unsaved)} answered items could not be written: error.unsaved")
            raise
        self.totals = self.totals.plus(item)
        if not self._bar.disable:
            self._bar.set_postfix_str(self.totals.summary(), refresh=False)
            self._bar.update()
        return item

    def close(self) -> None:
        """Start nothing more. What runs is paid for, so it ends and is written, or reaches its deadline."""
        self._ended = self._ended or BatchError("the batch was closed")
        self._jobs = iter(())
        try:
            while self._window:
                job = self._window.popleft()
                if job.task is not None and not job.task.cancel():
                    self._finish(job)
            self._pool.shutdown(wait=not self._gave_up, cancel_futures=True)
        finally:
            if self._journal is not None:
                self._journal.close()
            with suppress(KeyError):  # dspy.Parallel empties tqdm's list of bars wherever it starts
                self._bar.close()

    def __enter__(self) -> BatchRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fill(self) -> None:
        """Start one job more, and others until the window is full or an item ready: the input may be slow."""
        for job in self._jobs:
            self._window.append(job)
            if not self._start(job):
                self._jobs = iter(())
                break
            if len(self._window) >= AHEAD * self._options.concurrency or self._window[0].future.done():
                break

    def _start(self, job: Job) -> bool:
        """Run a job, or take its item from the journal; returns False if it ends the batch."""
        try:
            stored = None if job.future.done() else self._stored(job)
        except BatchError as error:
            job.future.set_exception(error)
        if job.future.done():
            return False
        if stored is not None:
            job.future.set_result(stored)
        else:
            job.task = self._pool.submit(self._run, job)
        return True

    def _stored(self, job: Job) -> Item | None:
        """Return the item as the journal has it; if it must run, its key is under way from now on."""
        if job.key in self._places:
            first = self._places[job.key]
            raise InputError(f"items {first} and {job.index} have the same key {job.key!r}; keys must differ")
        found = self._journal.find(job.key, job.digest, job.index, job.inputs) if self._journal else None
        if found is not None and (found.ok or not (self._options.retry_failed or self._stops)):
            return found
        self._places[job.key] = job.index
        return None

    @property
    def _stops(self) -> bool:
        return self._options.on_error == "stop"

    def _finish(self, job: Job) -> None:
        """Wait until the job's future is done; past its deadline the job is given up, and has failed."""
        while not job.future.done():
            left_s = job.deadline.remaining_s() if job.deadline else self._options.deadline_s
            if left_s == 0:
                self._gave_up = True
                self._complete(job, Outcome(None, None, []))
            with suppress(TimeoutError):
                job.future.exception(left_s)

    def _run(self, job: Job) -> None:
        if self._ended is not None:
            job.future.set_exception(self._ended)
            return
        job.begun_s = time.perf_counter()
        if self._options.deadline_s is not None:
            job.deadline = Deadline.after(self._options.deadline_s)
        try:
            try:
                outcome = self._call(job.inputs)
            except (
                FAILURES
            ) as error:  # border: the cluster's own failure, such as KilledWorker, is this item's
                outcome = Outcome(None, Failure.of(error), [])
            self._complete(job, outcome)
        except BaseException as error:  # border: our own failure must reach the consumer, not hang it
            self._end(job, error)

    def _complete(self, job: Job, outcome: Outcome) -> None:
        """Write how a job ended, then resolve its future; the late answer of one given up is dropped."""
        with self._completing:
            if job.future.done():
                return
            item = self._item(job, outcome)
            try:
                if self._stops and item.error is not None:
                    raise BatchStoppedError(item, item.error)
                if self._journal is not None:
                    self._journal.write(item, job.digest)
            except BatchError as error:
                self._unsaved += [item] if isinstance(error, JournalError) else []
                self._end(job, error)
            else:
                self._places.pop(job.key, None)
                job.future.set_result(item)

    def _item(self, job: Job, outcome: Outcome) -> Item:
        result, error, entries = outcome
        if job.deadline is not None and job.deadline.remaining_s() == 0:
            late = f"took longer than {self._options.deadline_s:g} s and was given up"
            result, error = None, Failure.of(DeadlineExceeded(late))
        for model, entry in entries if self._tracker is not None else ():
            self._tracker.add_usage(model, entry)
        duration_ms = (time.perf_counter() - job.begun_s) * 1e3
        return Item(job.index, job.key, job.inputs, result, error, usage_of(entries), duration_ms)

    def _end(self, job: Job, error: BaseException) -> None:
        self._ended = self._ended or error
        job.future.set_exception(error)
