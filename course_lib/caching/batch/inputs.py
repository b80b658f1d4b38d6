"""The input of a batch, one item at a time: read, run, and recognised again.

Main path: rows_of(path) -> items; run_one(program, inputs) -> Outcome, in a thread or in a worker of dask.
Source: dspy.Example.inputs, dspy.context, settings.trace and settings.disable_history (DSPy 3.4.1).
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import dspy
from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from course_lib.caching.batch.items import Failure, InputError, Item, JournalError
from course_lib.measure import UsageTracker
from course_lib.measure.calls import arguments
from course_lib.measure.usage import Entry

FAILURES = (Exception, asyncio.CancelledError)
"""What makes an item fail; any other exception, such as SystemExit, ends the batch."""
_ROW = TypeAdapter(dict[str, Any])


@dataclass(slots=True, eq=False)
class Job:
    """One item of the input on its way."""

    index: int
    inputs: Any
    digest: str = ""
    """A fingerprint of what the program is given; empty without a journal."""
    begun_s: float = 0.0
    """When it began to run, by time.monotonic(); 0 before."""
    item: Item | None = None
    """How it ended, once that is known."""


class Outcome(NamedTuple):
    """How a call of the program ended, and what each model call used."""

    result: Any = None
    error: Failure | None = None
    entries: list[Entry] | tuple[()] = ()


def run_one(program: Any, inputs: Any) -> Outcome:
    """Run one item under a usage tracker of its own.

    DSPy's history and trace stay off: they keep up to 10,000 entries each, for the length of the batch.
    """
    tracker, result, error = UsageTracker(), None, None
    args, kwargs = arguments(inputs)
    with dspy.context(usage_tracker=tracker, trace=[], disable_history=True):
        try:
            result = program(*args, **kwargs)
        except FAILURES as problem:  # border: one bad item must not end the batch
            error = Failure.of(problem)
    if dspy.settings.track_usage and isinstance(result, dspy.Prediction):
        result.set_lm_usage(tracker.get_total_tokens())  # as DSPy does where the tracker is its own
    return Outcome(result, error, tracker.entries)


def local_call(program: Any) -> Callable[[Any], Outcome]:
    """Return what runs an item in a thread, each in a copy of the caller's context."""
    context = contextvars.copy_context()
    return lambda inputs: context.copy().run(run_one, program, inputs)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Read a JSONL file in UTF-8, with or without a byte order mark, one object at a time."""
    where = str(path)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"line {number} of {path}"
                if row := line.removeprefix(BOM_UTF8).strip():
                    yield _ROW.validate_json(row)
    except (OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read; a line is a JSON object in UTF-8: {error}") from error


def digest_of(value: Any, default: Callable[[Any], Any]) -> str:
    """Return a fingerprint that is equal in every process; `default` is json.dumps's."""
    text = json.dumps(value, sort_keys=True, default=default)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def fingerprint_of(item: Any) -> str:
    """Return what an item is recognised by; JournalError if no other process could."""
    try:
        return digest_of(arguments(item), _stable)
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(
            f"an item of type {type(item).__name__} cannot be recognised again: {error}. "
            "Give the batch plain data, pydantic models or dspy.Example objects of such"
        ) from error


def _stable(value: Any) -> Any:
    """Return what stands in a fingerprint for a value that JSON does not know."""
    if isinstance(value, set | frozenset):  # their order changes from process to process
        return sorted(json.dumps(part, sort_keys=True, default=_stable) for part in value)
    return dict(value.items()) if isinstance(value, dspy.Example) else to_jsonable_python(value)
