"""The rules of a batch: what need not run, what is written before it is handed out, when nothing starts.

Main path: books.takes(job) -> must it run? -> an engine runs it -> books.settle(job, outcome).
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import dspy

from course_lib.caching.batch.errors import BatchError, BatchStoppedError, JournalError
from course_lib.caching.batch.items import Failure, Item
from course_lib.caching.batch.journal import Journal, duplicate
from course_lib.caching.batch.meter import usage_of

_AT_ONCE = 256
_GATHER_S = 0.002
"""How long an answer may wait for others to be written with it: a commit costs more than a row."""


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
    """How a call ended, as who ran it tells it."""

    result: Any
    error: Failure | None
    entries: list[tuple[str, dict[str, Any]]]
    """What each model call used: the model's name, and the usage as DSPy reports it."""


class Books:
    """Used by the engine's threads and the consumer's; a thread of its own writes the journal."""

    def __init__(self, journal: Journal | None, *, stops_at_failure: bool, retry_failed: bool) -> None:
        self._journal = journal
        self._stops_at_failure, self._retry_failed = stops_at_failure, retry_failed
        self._tracker = dspy.settings.usage_tracker
        self._places: dict[str, int] = {}  # of what was taken and is not settled, by key
        self._lock = threading.Lock()
        self.is_ending = False
        """Nothing more may start."""
        self._reason: BaseException | None = None
        self.unsaved: list[Item] = []
        """Answered, but not written: the journal failed."""
        self._to_write: queue.SimpleQueue[tuple[Job, Item] | threading.Event | None] = queue.SimpleQueue()
        self._writing: threading.Thread | None = None
        if journal is not None:
            self._writing = threading.Thread(
                target=self._write, args=(journal,), name="course-batch-journal", daemon=True
            )
            self._writing.start()

    @property
    def damaged(self) -> int:
        """Rows of the journal that could not be used."""
        return self._journal.damaged if self._journal is not None else 0

    def takes(self, job: Job) -> bool:
        """Return whether the job must run; if not, its future has what the journal knows, or an error."""
        try:
            with self._lock:
                stored = self._stored(job)
                if stored is None:
                    self._places[job.key] = job.index
        except BatchError as error:
            self.end_with(job, error)
            return False
        if stored is not None:
            job.future.set_result(stored)
        return stored is None

    def settle(self, job: Job, outcome: Outcome, duration_ms: float) -> None:
        """Have it written how a job ended, and then the consumer told."""
        usage = usage_of(outcome.entries)
        item = Item(job.index, job.key, job.inputs, outcome.result, outcome.error, usage, duration_ms)
        if self._tracker is not None:  # the caller's own: what dspy.Parallel would lose
            with self._lock:
                for model, entry in outcome.entries:
                    self._tracker.add_usage(model, entry)
        if self._stops_at_failure and item.error is not None:
            self.end_with(job, _stopped(item))
        elif self._writing is None:
            self._tell(job, item)
        else:
            self._to_write.put((job, item))

    def end_with(self, job: Job, error: BaseException) -> None:
        """End the batch: this job's error is what the consumer gets, and what jobs not started yet get."""
        self._reason = self._reason or error
        self.is_ending = True
        job.future.set_exception(error)

    def flush(self) -> None:
        """Wait until everything that was settled is written, or has failed to be."""
        if self._writing is not None and self._writing.is_alive():
            done = threading.Event()
            self._to_write.put(done)
            done.wait()

    def refuse(self, job: Job) -> None:
        """Tell that a job was not started, or was cancelled, and why."""
        closed = BatchError(f"item {job.index} was not run to its end: the batch was closed")
        job.future.set_exception(self._reason or closed)

    def close(self) -> None:
        """Write what is left, and give the journal free."""
        if self._journal is None or self._writing is None:
            return
        self._to_write.put(None)
        self._writing.join()
        self._journal.close()

    def _write(self, journal: Journal) -> None:
        """Write what was settled, all of it in one transaction, so that no thread waits for a disk."""
        is_over = False
        while not is_over:
            taken = [self._to_write.get()]
            if isinstance(taken[0], tuple):
                time.sleep(_GATHER_S)
            with contextlib.suppress(queue.Empty):
                while len(taken) < _AT_ONCE:
                    taken.append(self._to_write.get_nowait())
            pairs = [each for each in taken if isinstance(each, tuple)]
            problems = self._problems(journal, pairs)
            for (job, item), problem in zip(pairs, problems, strict=True):
                if problem is None:
                    self._tell(job, item)
                else:
                    self.unsaved.append(item)
                    self.end_with(job, problem)
            for event in taken:
                if isinstance(event, threading.Event):
                    event.set()
            is_over = None in taken

    def _problems(self, journal: Journal, pairs: Sequence[tuple[Job, Item]]) -> Sequence[JournalError | None]:
        try:
            with self._lock:
                return journal.write([(item, job.digest) for job, item in pairs])
        except Exception as error:  # border: a thread that died here would leave the consumer waiting
            trouble = JournalError(f"results could not be written: {type(error).__name__}: {error}")
            trouble.__cause__ = error
            return [trouble] * len(pairs)

    def _tell(self, job: Job, item: Item) -> None:
        with self._lock:
            self._places.pop(job.key, None)
        job.future.set_result(item)

    def _stored(self, job: Job) -> Item | None:
        if job.key in self._places:
            raise duplicate(job.key, self._places[job.key], job.index)
        if self._journal is None:
            return None
        row = self._journal.find(job.key, job.digest, job.index)
        if row is None:
            return None
        if row.error is not None and self._retry_failed:
            self._journal.forget(job.key)
            return None
        return Item(
            job.index, job.key, job.inputs, row.result, row.error, row.usage, row.duration_ms, resumed=True
        )


def _stopped(item: Item) -> BatchStoppedError:
    assert item.error is not None
    return BatchStoppedError(
        f"item {item.index} (key {item.key!r}) failed with {item.error.kind}: {item.error.message}. "
        "What was done is in the journal, if there is one; this item is not, so a new run tries it again",
        item,
    )
