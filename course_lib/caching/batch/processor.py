"""BatchProcessor: a program over an input of any length, in order, in bounded memory, paid for once.

Main path: BatchProcessor(program, journal=path).run(items) -> BatchRun, an iterator of Item.
Source: dspy.Parallel and dspy.utils.parallelizer (DSPy 3.4.1) hold every item and result at once, run an item
that is slow a second time, give None for an error, and lose what their threads used.
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import dspy

from course_lib.caching.batch.codec import Codec
from course_lib.caching.batch.errors import InputError
from course_lib.caching.batch.execution import Outcome, run_one
from course_lib.caching.batch.fingerprint import fingerprint
from course_lib.caching.batch.journal import Journal
from course_lib.caching.batch.on_dask import remote_call
from course_lib.caching.batch.run import BatchRun, Options
from course_lib.caching.batch.source import jobs_of, open_input


class BatchProcessor:
    """Runs a program over many items.

    An item is a dspy.Example or a dict (handed over by name), a tuple (by place) or any other single value.
    No item is ever started twice in a run (but for those that a killed dask worker had in hand). With a
    journal, an item whose result was written is not started by a later run either; after a kill, only what
    was under way then is paid for again.

    Args:
        program: a dspy.Module or a function; one that is async is wrapped first, by dspy.syncify.
        journal: a file that remembers what is done, so that a later run goes on; None to remember nothing.
        concurrency: how many items run at the same time. Up to four times as many are held in memory.
        on_error: "keep" hands out failed items like others and goes on; "stop" raises BatchStoppedError.
        deadline_s: time for one item; past it the item has failed. A thread cannot be ended: its place is
            free when the program returns, so give the model a timeout too.
        retry_failed: run items again that the journal has as failed; on_error="stop" does so anyway.
        progress: show a bar where someone looks.
        version: ties the journal to this name instead of the program's code, state, model and adapter.
        client: a distributed.Client: items run on its workers instead (see on_dask.py).

    Raises:
        InputError: for an option that cannot work.
    """

    def __init__(
        self,
        program: Any,
        *,
        journal: str | Path | None = None,
        concurrency: int = 32,
        on_error: Literal["keep", "stop"] = "keep",
        deadline_s: float | None = None,
        retry_failed: bool = False,
        progress: bool = True,
        version: str | None = None,
        client: Any = None,
    ) -> None:
        _check_program(program)
        self._options = Options(concurrency, on_error, deadline_s, retry_failed, progress)
        self._options.check()
        self._program, self._client, self._version = program, client, version
        self._journal = Path(journal) if journal is not None else None

    def run(self, items: Iterable[Any] | Path, key: Callable[[Any], str] | None = None) -> BatchRun:
        """Start the batch; iterate over what is returned.

        Settings of dspy.context that hold here hold for every item (on dask: model, adapter, cache scope).

        Args:
            items: any iterable, of any length, or the Path of a JSONL file of objects.
            key: returns an item's own name; keys must differ. Then the input of a later run may have more
                items, or another order. Without it items go by their place.

        Raises:
            InputError: `items` is no input.
            JournalError: the journal cannot be used, or belongs to another batch.
        """
        inputs, length = open_input(items)
        call = self._call()
        journal = None
        if self._journal is not None:
            belongs_to = fingerprint(self._program, version=self._version, has_keys=key is not None)
            journal = Journal(self._journal, belongs_to, Codec(self._program))
        jobs = jobs_of(inputs, key, is_journaled=journal is not None)
        return BatchRun(jobs, call, journal, self._options, length)

    def _call(self) -> Callable[[Any], Outcome]:
        if self._client is not None:
            return remote_call(self._program, self._client)
        context = contextvars.copy_context()  # each item runs in a copy: what one sets, no other sees
        return lambda inputs: context.copy().run(run_one, self._program, inputs)


def _check_program(program: Any) -> None:
    if not callable(program):
        raise InputError(f"program {program!r} cannot be called; give a dspy.Module or a function")
    has_no_forward = isinstance(program, dspy.Module) and not hasattr(type(program), "forward")
    call = program if inspect.isroutine(program) else type(program).__call__
    if has_no_forward or inspect.iscoroutinefunction(call):
        raise InputError(f"program {program!r:.60} is async; threads run dspy.syncify(program)")
