"""BatchProcessor: a program over an input of any length, in order, in bounded memory, paid for once.

Main path: BatchProcessor(program, journal=path).run(items) -> BatchRun, an iterator of Item.
Source: dspy.Parallel and dspy.utils.parallelizer (DSPy 3.4.1) hold every item and result at once, run an item
that is slow a second time, give None for an error, and lose what their threads used.
"""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy

from course_lib.caching.batch.codec import Codec
from course_lib.caching.batch.errors import InputError
from course_lib.caching.batch.execution import Outcome, run_one
from course_lib.caching.batch.fingerprint import fingerprint
from course_lib.caching.batch.journal import Journal
from course_lib.caching.batch.on_dask import remote_call
from course_lib.caching.batch.run import BatchRun, Options
from course_lib.caching.batch.source import jobs_of, open_input


@dataclass(eq=False, repr=False)
class BatchProcessor(Options):
    """Runs a program over many items: `BatchProcessor(program, journal=path, concurrency=32, ...)`.

    An item is a dspy.Example or a dict (handed over by name), a tuple (by place) or any other single value.
    No item is ever started twice in a run (but for those that a killed dask worker had in hand). With a
    journal, an item whose result was written is not started by a later run either; after a kill, only what
    was under way then is paid for again.

    Raises:
        InputError: for an option that cannot work.
    """

    program: Any
    """A dspy.Module or a function; one that is async is wrapped first, by dspy.syncify."""
    journal: str | Path | None = field(default=None, kw_only=True)
    """A file that remembers what is done, so that a later run goes on; None to remember nothing."""
    version: str | None = field(default=None, kw_only=True)
    """Ties the journal to this name instead of the program's code, state, model and adapter."""
    client: Any = field(default=None, kw_only=True)
    """A distributed.Client: items run on its workers instead (see on_dask.py)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.program):
            raise InputError(f"program {self.program!r} cannot be called; give a dspy.Module or a function")
        kind = type(self.program)
        call = self.program if inspect.isroutine(self.program) else kind.__call__
        has_no_forward = isinstance(self.program, dspy.Module) and not hasattr(kind, "forward")
        if has_no_forward or inspect.iscoroutinefunction(call):
            raise InputError(f"program {self.program!r:.60} is async; threads run dspy.syncify(program)")

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
        call, journal = self._call(), None
        if self.journal is not None:
            belongs_to = fingerprint(self.program, version=self.version, has_keys=key is not None)
            journal = Journal(Path(self.journal), belongs_to, Codec(self.program))
        jobs = jobs_of(inputs, key, is_journaled=journal is not None)
        return BatchRun(jobs, call, journal, self, length)

    def _call(self) -> Callable[[Any], Outcome]:
        if self.client is not None:
            return remote_call(self.program, self.client)
        context = contextvars.copy_context()  # each item runs in a copy: what one sets, no other sees
        return lambda inputs: context.copy().run(run_one, self.program, inputs)
