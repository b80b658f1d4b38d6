"""BatchProcessor: a program over an input of any length, in order, in bounded memory, paid for once.

Main path: BatchProcessor(program, journal=path).run(items) -> BatchRun, an iterator of Item (or `async for`).
Source: dspy.Parallel and dspy.utils.parallelizer (DSPy 3.4.1) hold every item and result at once, run an item
that is slow a second time, give None for an error, and lose what their threads used.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from course_lib.caching.batch.books import Books, Job
from course_lib.caching.batch.engine import Engine, Tasks
from course_lib.caching.batch.errors import BatchError, InputError, JournalError
from course_lib.caching.batch.fingerprint import fingerprint
from course_lib.caching.batch.items import Item, Totals
from course_lib.caching.batch.journal import Journal
from course_lib.caching.batch.local import LocalRunner, RunIn, chosen_call
from course_lib.caching.batch.output import Output
from course_lib.caching.batch.plain import Codec
from course_lib.caching.batch.progress import open_bar
from course_lib.caching.batch.source import Source
from course_lib.caching.batch.threads import Threads

Items = Iterable[Any] | AsyncIterable[Any] | Path
_AHEAD = 4


class BatchProcessor:
    """Runs a program over many items.

    An item is a dspy.Example or a dict (handed over by name), a tuple (by place) or any other single value.
    No item is ever started twice in a run (but for those that a killed dask worker had in hand). With a
    journal, an item whose result was written is not started by a later run either; after a kill, only what
    was under way then, or answered and not yet written, is paid for again.

    Args:
        program: a dspy.Module, or a function, sync or async.
        journal: a file that remembers what is done, so that a later run goes on; None to remember nothing.
        output: a JSONL file that gets each item's line once, in order, also over several runs.
        concurrency: how many items run at the same time. Up to four times as many are held in memory.
        on_error: "keep" hands out failed items like others and goes on; "stop" raises BatchStoppedError.
        deadline_s: time for one item; past it the item is cancelled (in a thread: given up, and its place is
            free when the thread is) and has failed.
        run_in: "threads", "tasks", or "auto": tasks if there is a deadline to keep or no sync way to call the
            program, threads otherwise, which are faster in DSPy 3.4.1.
        retry_failed: run items again that the journal knows as failed.
        progress: show a bar where someone looks.
        version: ties the journal to this name instead of the program's code, state, model and adapter.
        types: classes of results that the program's signatures do not name.
        keep_history: leave DSPy's history on (it keeps 10,000 calls in memory).
        client: a distributed.Client: items run on its workers instead (see on_dask.py).
    """

    def __init__(
        self,
        program: Any,
        *,
        journal: str | Path | None = None,
        output: str | Path | None = None,
        concurrency: int = 32,
        on_error: Literal["keep", "stop"] = "keep",
        deadline_s: float | None = None,
        run_in: RunIn = "auto",
        retry_failed: bool = False,
        progress: bool = True,
        version: str | None = None,
        types: Iterable[type] = (),
        keep_history: bool = False,
        client: Any = None,
    ) -> None:
        for wrong, complaint in (
            (
                not callable(program),
                f"program {program!r} cannot be called; give a dspy.Module or a function",
            ),
            (concurrency < 1, f"concurrency {concurrency!r}; at least one item runs at a time"),
            (on_error not in ("keep", "stop"), f'on_error {on_error!r}; give "keep" or "stop"'),
            (
                deadline_s is not None and deadline_s <= 0,
                f"deadline_s {deadline_s!r}; an item needs some time",
            ),
        ):
            if wrong:
                raise InputError(complaint)
        self._program, self._client = program, client
        self._journal = Path(journal) if journal is not None else None
        self._output = Path(output) if output is not None else None
        self._concurrency, self._deadline_s = concurrency, deadline_s
        self._stops, self._retry_failed = on_error == "stop", retry_failed
        self._progress, self._version = progress, version
        self._types, self._keep_history, self._run_in = tuple(types), keep_history, run_in
        chosen_call(program, run_in, has_deadline=deadline_s is not None)

    def run(self, items: Items, key: Callable[[Any], str] | None = None) -> BatchRun:
        """Start the batch; iterate over what is returned (`for` or `async for`).

        Settings of dspy.context that hold here hold for every item.

        Args:
            items: any iterable or async iterable, of any length, or the Path of a JSONL file of objects.
                A result waits for one more item of a plain iterable; an input that may wait long (a queue)
                should be async, which holds nothing back.
            key: returns an item's own name; keys must differ. Then the input of a later run may have more
                items, or another order. Without it items go by their place.

        Raises:
            BatchError: the journal or the output cannot be used, or belongs to another batch.
        """
        books = self._open_books(has_keys=key is not None)
        try:
            source = Source(items, key, is_journaled=self._journal is not None)
            output = Output(self._output, may_resume=self._journal is not None) if self._output else None
            engine = self._engine(books)
        except BaseException:
            books.close()
            raise
        return BatchRun(
            books, engine, source, output, ahead=_AHEAD * self._concurrency, has_bar=self._progress
        )

    def _open_books(self, *, has_keys: bool) -> Books:
        journal = None
        if self._journal is not None:
            belongs_to = fingerprint(self._program, version=self._version)
            belongs_to["keys"] = "own" if has_keys else "place"
            journal = Journal.open(self._journal, belongs_to, Codec.of(self._program, self._types))
        return Books(journal, stops_at_failure=self._stops, retry_failed=self._retry_failed)

    def _engine(self, books: Books) -> Engine:
        """Return what runs the items: workers of dask, tasks, or threads."""
        if self._client is not None:
            from course_lib.caching.batch.on_dask import DaskRunner

            remote = DaskRunner(
                self._program,
                self._client,
                concurrency=self._concurrency,
                deadline_s=self._deadline_s,
                types=self._types,
            )
            return Tasks(books, remote, concurrency=self._concurrency)
        has_deadline = self._deadline_s is not None
        if not has_deadline and chosen_call(self._program, self._run_in, has_deadline=False) is None:
            return Threads(
                books, self._program, concurrency=self._concurrency, keep_history=self._keep_history
            )
        local = LocalRunner(
            self._program,
            concurrency=self._concurrency,
            deadline_s=self._deadline_s,
            keep_history=self._keep_history,
            run_in=self._run_in,
        )
        return Tasks(books, local, concurrency=self._concurrency)


class BatchRun(Iterator[Item], AsyncIterator[Item]):
    """A batch under way: an iterator of Item in the order of the input.

    It closes itself at its end, at an error, and when nobody holds it any more. To leave a loop early and be
    sure that nothing goes on, write `with processor.run(items) as run: for item in run: ...`.
    """

    def __init__(
        self,
        books: Books,
        engine: Engine,
        source: Source,
        output: Output | None,
        *,
        ahead: int,
        has_bar: bool,
    ) -> None:
        self._books, self._engine, self._source, self._output = books, engine, source, output
        self._ahead = ahead
        self._window: deque[Job] = deque()
        self._bar = open_bar(source.length, wanted=has_bar)
        self._is_closed = False
        self.totals = Totals()
        """What was handed out so far, and what it cost."""

    @property
    def notes(self) -> list[str]:
        """What the batch found and dealt with, one line each."""
        notes = []
        if self._output is not None and self._output.cut_bytes:
            notes.append(f"the output ended in half a line ({self._output.cut_bytes} bytes); it was cut off")
        if self._books.damaged:
            notes.append(f"{self._books.damaged} damaged rows of the journal: these items were run again")
        return notes

    def __iter__(self) -> BatchRun:
        return self

    def __aiter__(self) -> BatchRun:
        return self

    def __next__(self) -> Item:
        """Wait for the next item, in order."""
        if self._is_closed:
            raise StopIteration
        try:
            while not self._is_next_ready():
                waits = self._waits()
                if not waits:
                    raise StopIteration
                if len(waits) == 1:  # the usual case, and the cheaper wait
                    waits[0].exception()
                else:
                    concurrent.futures.wait(waits, return_when=concurrent.futures.FIRST_COMPLETED)
                self._source.collect()
            return self._take()
        except BaseException as ended:  # border: whatever ends the loop, nothing may go on behind it
            self._finish(ended)
            raise

    async def __anext__(self) -> Item:
        """Wait for the next item, in order, without blocking the caller's loop."""
        if self._is_closed:
            raise StopAsyncIteration
        try:
            while not self._is_next_ready():
                waits = self._waits(asyncio.get_running_loop())
                if not waits:
                    raise StopAsyncIteration
                wrapped = [asyncio.wrap_future(wait) for wait in waits]
                await asyncio.wait(wrapped, return_when=asyncio.FIRST_COMPLETED)
                self._source.collect()
            return self._take()
        except BaseException as ended:  # border: as above
            await asyncio.to_thread(self._finish, ended)
            raise

    def close(self) -> None:
        """Cancel tasks, wait for threads, until nothing is left; what was written stays."""
        if not self._is_closed:
            self._is_closed = True
            self._source.close()
            self._engine.stop()
            self._books.close()
            if self._output is not None:
                self._output.close()
            self._bar.close()

    async def aclose(self) -> None:
        """Close without blocking the caller's loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> BatchRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> BatchRun:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if sys.is_finalizing() or getattr(self, "_is_closed", True):
            return  # at the interpreter's end its threads stand still
        if threading.current_thread().name.startswith("course-batch"):  # which cannot wait for itself
            threading.Thread(target=self.close).start()
        else:
            self.close()

    def _is_next_ready(self) -> bool:
        """Take in more of the input, and say whether the first item can be handed out.

        An item that is ready waits for one more of the input, not for a full window: the input may be slow.
        """
        has_taken = False
        while len(self._window) < self._ahead:
            if has_taken and self._window[0].future.done():
                return True
            jobs = self._source.take()
            if not jobs:
                break
            has_taken = True
            self._window.extend(jobs)
            self._engine.admit(jobs)
        return bool(self._window) and self._window[0].future.done()

    def _waits(self, loop: asyncio.AbstractEventLoop | None = None) -> list[concurrent.futures.Future[Any]]:
        waits: list[concurrent.futures.Future[Any]] = []
        if self._window:
            waits.append(self._window[0].future)
        if len(self._window) < self._ahead:
            waits += self._source.pull(lambda: loop or self._engine.loop)
        if not waits:
            self._source.complain()
        return waits

    def _take(self) -> Item:
        item = self._window[0].future.result()
        self._window.popleft()
        if self._output is not None:
            self._output.add(item)
        self.totals = self.totals.plus(item)
        self._bar.show(self.totals)
        return item

    def _finish(self, ended: BaseException) -> None:
        if isinstance(ended, BatchError):
            with suppress(RuntimeError):
                self._engine.drain()  # what is under way is paid for: let it end, and write it
                self._books.flush()
            ended.unsaved = tuple(self._books.unsaved)
            if isinstance(ended, JournalError) and ended.unsaved:
                ended.add_note(f"{len(ended.unsaved)} answered items could not be written: error.unsaved")
        self.close()
