"""Runs one item: the call of the program, its error as a value, and the usage of its model calls.

Main path: run_one(program, inputs) -> Outcome, in a thread here or in a worker of dask.
Source: dspy.Example.inputs, dspy.context, settings.trace and settings.disable_history (DSPy 3.4.1).
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import dspy

from course_lib.caching.batch.items import Failure
from course_lib.measure import UsageTracker
from course_lib.measure.usage import Entry

FAILURES = (Exception, asyncio.CancelledError)
"""What makes an item fail; any other exception, such as SystemExit, ends the batch."""


class Outcome(NamedTuple):
    """How a call of the program ended."""

    result: Any
    error: Failure | None
    entries: list[Entry]
    """What each model call used."""


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


def arguments(item: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return how an item is handed to a program: Example and dict by name, tuple by place, else as it is.

    >>> arguments({"ticket": "Where is it?"}), arguments("Where is it?")
    (((), {'ticket': 'Where is it?'}), (('Where is it?',), {}))
    """
    if isinstance(item, dspy.Example):
        return (), dict(item.inputs())
    if isinstance(item, dict):
        return (), item
    return (item if isinstance(item, tuple) else (item,)), {}
