"""Runs one item: the call of the program, its error as a value, and the usage of its model calls.

Main path: run_one(program, inputs) -> Outcome, in a thread here or in a worker of dask.
Source: dspy.utils.usage_tracker.UsageTracker and dspy.utils.parallelizer (DSPy 3.4.1), which copies the
tracker for every thread and drops the copies. clients/execution.py reports calls to it, but no cache hits.
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import dspy
from dspy.utils.usage_tracker import UsageTracker

from course_lib.caching.batch.items import Failure, Usage
from course_lib.lm import prices

FAILURES = (Exception, asyncio.CancelledError)
"""What makes an item fail; any other exception, such as SystemExit, ends the batch."""


class Outcome(NamedTuple):
    """How a call of the program ended."""

    result: Any
    error: Failure | None
    entries: tuple[tuple[str, dict[str, Any]], ...] = ()
    """What each model call used: the model's name, and its usage as DSPy reports it."""


class ItemTracker(UsageTracker):
    """A usage tracker that stays one when it is copied: dspy.Parallel hands each thread a deep copy."""

    def __deepcopy__(self, memo: dict[int, Any]) -> ItemTracker:
        return self


def run_one(program: Any, inputs: Any) -> Outcome:
    """Run one item under a usage tracker of its own.

    DSPy's history and trace stay off: they keep up to 10,000 entries each, for the length of the batch.
    """
    tracker, result, error = ItemTracker(), None, None
    args, kwargs = arguments(inputs)
    with dspy.context(usage_tracker=tracker, trace=[], disable_history=True):
        try:
            result = program(*args, **kwargs)
        except FAILURES as problem:  # border: one bad item must not end the batch
            error = Failure.of(problem)
    if dspy.settings.track_usage and isinstance(result, dspy.Prediction):
        result.set_lm_usage(tracker.get_total_tokens())  # as DSPy does where the tracker is its own
    return Outcome(
        result, error, tuple((lm, each) for lm in tracker.usage_data for each in tracker.usage_data[lm])
    )


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


def usage_of(entries: Iterable[tuple[str, Mapping[str, Any]]]) -> Usage:
    """Return the sum of some calls, at the prices of course_lib.lm.prices."""
    return sum((_usage_of(model, entry) for model, entry in entries), Usage())


def _usage_of(model: str, entry: Mapping[str, Any]) -> Usage:
    sent, written = int(entry.get("prompt_tokens") or 0), int(entry.get("completion_tokens") or 0)
    name = model.removeprefix("course/").partition("@")[0]
    if prices.price(name) is prices.ASSUMED:
        return Usage(1, sent, written, 0.0, 1)
    cached = int((entry.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    return Usage(1, sent, written, prices.cost_usd(name, sent, written, cached))
