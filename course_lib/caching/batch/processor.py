"""BatchProcessor: a program over an input of any length, in order, in bounded memory, paid for once.

Main path: BatchProcessor(program, journal=path).run(items) -> BatchRun, an iterator of Item: a bounded window
of jobs is filled, a thread runs a job and writes its row, the job's future has the Item.
Threads are the faster way in DSPy 3.4.1: an awaited call goes to another thread and back for its price, and
twice more for the cache.
Source: dspy.Parallel and dspy.utils.parallelizer (DSPy 3.4.1) hold every item and result at once, run an item
that is slow a second time, give None for an error, and lose what their threads used.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from dataclasses import KW_ONLY
from pathlib import Path
from typing import Any, Literal

import dspy
from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from course_lib.caching.batch.inputs import FAILURES, Job, Outcome, fingerprint_of, local_call, rows_of
from course_lib.caching.batch.items import BatchError, BatchStoppedError, Failure, Item, Totals
from course_lib.caching.batch.journal import Journal
from course_lib.caching.batch.on_dask import remote_call
from course_lib.measure import usage_of
from course_lib.resilience import DeadlineExceeded

_AHEAD = 4
"""Items in the window for each that runs: those that a slow one does not hold up."""


@dataclass(frozen=True, eq=False, repr=False)
class BatchProcessor:
    """Runs a program over many items: `BatchProcessor(program, journal=path, concurrency=32, ...)`.

    An item is a dspy.Example or a dict (handed over by name), a tuple (by place) or any other single value.
    No item is started twice in a run (but for those that a killed dask worker had in hand), nor in a later
    run with the same journal once its result was written; a kill costs only what was under way.

    Raises:
        ValidationError: for an option that cannot work.
        BatchError: the program is async.
    """

    program: Callable[..., Any]
    """A dspy.Module or a function; one that is async is wrapped first, by dspy.syncify."""
    _: KW_ONLY
    journal: Path | None = None
    """A file that remembers what is done, so that a later run goes on; None to remember nothing."""
    concurrency: PositiveInt = 32
    """How many items run at the same time. Up to four times as many are held in memory."""
    on_error: Literal["keep", "stop"] = "keep"
    """"keep" hands out failed items like others, in a later run too; "stop" raises BatchStoppedError, and
    a later run tries them again. A result that the journal cannot give back is a failure too: it is handed
    out beside a JournalError, and a later run asks for it again."""
    deadline_s: PositiveFloat | None = None
    """Time for one item; past it the item has failed. A thread cannot be ended: its place is free when the
    program returns, so give the model a timeout too."""
    progress: bool = True
    """Show a bar where someone looks."""
    client: Any = None
    """A distributed.Client: items run on its workers instead (see on_dask.py)."""

    def __post_init__(self) -> None:
        kind = type(self.program)
        call = self.program if inspect.isroutine(self.program) else kind.__call__
        has_no_forward = isinstance(self.program, dspy.Module) and not hasattr(kind, "forward")
        if has_no_forward or inspect.iscoroutinefunction(call):
            raise BatchError(f"program {self.program!r:.60} is async; threads run dspy.syncify(program)")

    def run(self, items: Iterable[Any] | Path) -> BatchRun:
        """Start the batch; iterate over what is returned.

        Settings of dspy.context that hold here hold for every item (on dask: model, adapter, cache scope).

        Args:
            items: any iterable, of any length, or the Path of a JSONL file of objects. A later run with the
                same journal is given the same ones, and may be given more behind them.

        Raises:
            BatchError: `items` is a text.
            JournalError: the journal cannot be used, or belongs to another batch.
        """
        if isinstance(items, str | bytes):
            raise BatchError(f"items {items!r:.60} is a text; give a list, a generator or a file's Path")
        return BatchRun(self, items)


class BatchRun(Iterator[Item], AbstractContextManager["BatchRun"]):
    """A batch under way: an iterator of Item in the order of the input.

    It closes itself at its end and at an error; `with processor.run(items) as run:` closes it in any case.
    """

    def __init__(self, processor: BatchProcessor, items: Iterable[Any] | Path) -> None:
        program, path, client = processor.program, processor.journal, processor.client
        self._inputs = enumerate(rows_of(items) if isinstance(items, Path) else items)
        self._call = local_call(program) if client is None else remote_call(program, client)
        self._journal = Journal(path, program) if path is not None else None
        self.totals = Totals()
        """What was handed out so far, and what it cost."""
        self._deadline_s, self._stops = processor.deadline_s, processor.on_error == "stop"
        self._size = _AHEAD * processor.concurrency
        self._window: deque[tuple[Job, Future[Item]]] = deque()
        self._pool = ThreadPoolExecutor(processor.concurrency, thread_name_prefix="course-batch")
        self._tracker = dspy.settings.usage_tracker  # the caller's own, which dspy.Parallel would not reach
        self._completing = threading.Lock()
        self._ended: BaseException | None = None  # why nothing more may start
        self._running = 0  # the pool forgets a thread if Ctrl-C comes while it starts
        self._gave_up = False
        is_hidden = not processor.progress or None  # None: where no terminal is
        total = len(items) if isinstance(items, Sized) else None
        self._bar = tqdm(total=total, unit="item", dynamic_ncols=True, disable=is_hidden)

    def __next__(self) -> Item:
        """Wait for the next item, in order."""
        try:
            self._fill()
            if not self._window:
                raise StopIteration
            item = self._wait(*self._window[0]) or self._window[0][1].result()
            self._window.popleft()
        except BaseException:  # border: whatever ends the loop, nothing may go on behind it
            self.close()
            raise
        self.totals = self.totals.plus(item)
        if not self._bar.disable:
            spent, failed = self.totals.usage.cost_usd, self.totals.failed
            self._bar.set_postfix_str(f"{spent:.4f} USD, {failed} failed", refresh=False)
            self._bar.update()
        return item

    def close(self) -> None:
        """Start nothing more. What runs is paid for, so it ends and is written, or reaches its deadline."""
        with self._completing:
            self._ended = self._ended or BatchError("the batch was closed")
        self._inputs = enumerate(())
        self._pool.shutdown(wait=False, cancel_futures=True)
        try:
            for job, future in self._window:
                with suppress(BatchError):  # of an item behind the one that ended the batch
                    self._wait(job, future)
            self._pool.shutdown(wait=not self._gave_up)
            while self._running and not self._gave_up:
                time.sleep(0.01)
        finally:
            self._window.clear()
            if self._journal is not None:
                self._journal.close()
            with suppress(KeyError):  # dspy.Parallel empties tqdm's list of bars wherever it starts
                self._bar.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fill(self) -> None:
        """Start one job more, and others until the window is full or an item ready: the input may be slow."""
        try:
            for index, inputs in self._inputs:
                job = Job(index, inputs, fingerprint_of(inputs) if self._journal is not None else "")
                self._window.append((job, self._start(job)))
                if len(self._window) >= self._size or self._window[0][1].done():
                    return
        except Exception as error:  # border: the caller's own input; raised when the items before it are out
            self._inputs, refused = enumerate(()), Future[Item]()
            refused.set_exception(error)
            self._window.append((Job(-1, None), refused))

    def _start(self, job: Job) -> Future[Item]:
        """Run a job, or take its item from the journal."""
        found = self._journal.find(job) if self._journal is not None else None
        if found is None or (self._stops and not found.ok):
            return self._pool.submit(self._run, job)
        resumed = Future[Item]()
        resumed.set_result(found)
        return resumed

    def _wait(self, job: Job, future: Future[Item]) -> Item | None:
        """Wait until the future is done; past its deadline, give the job up and return its failed item."""
        while not (future.done() or wait([future], self._left_s(job)).done):
            if self._left_s(job) == 0:
                self._gave_up = True
                return self._complete(job, Outcome())
        return None

    def _left_s(self, job: Job) -> float | None:
        if self._deadline_s is None or not job.begun_s:
            return self._deadline_s
        return max(0.0, job.begun_s + self._deadline_s - time.monotonic())

    def _run(self, job: Job) -> Item:
        with self._completing:
            if self._ended is not None:
                raise self._ended
            self._running += 1
        job.begun_s = time.monotonic()
        try:
            try:
                outcome = self._call(job.inputs)
            except FAILURES as error:  # border: the cluster's own, such as KilledWorker, is this item's
                outcome = Outcome(error=Failure.of(error))
            return self._complete(job, outcome)
        except BaseException as error:  # border: our own failure must start nothing more
            self._ended = self._ended or error
            raise
        finally:
            with self._completing:
                self._running -= 1

    def _complete(self, job: Job, outcome: Outcome) -> Item:
        """Write how a job ended, and return it; the late answer of one given up is dropped."""
        with self._completing:
            if job.item is None:
                job.item = self._item(job, outcome)
                if self._journal is not None and (job.item.ok or not self._stops):
                    job.item = self._journal.write(job.item, job.digest)
                if self._stops and job.item.error is not None:
                    raise BatchStoppedError(job.item, job.item.error)
            return job.item

    def _item(self, job: Job, outcome: Outcome) -> Item:
        result, error, entries = outcome
        if self._left_s(job) == 0:
            late = f"took longer than {self._deadline_s:g} s and was given up"
            result, error = None, Failure.of(DeadlineExceeded(late))
        for model, entry in entries if self._tracker is not None else ():
            self._tracker.add_usage(model, entry)
        duration_ms = (time.monotonic() - job.begun_s) * 1e3
        return Item(job.index, job.inputs, result, error, usage_of(entries), duration_ms)
