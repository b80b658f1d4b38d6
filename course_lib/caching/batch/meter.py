"""Counts what one item uses, wherever its program calls the model: in threads, in tasks, in dspy.Parallel.

Main path: with dspy.context(usage_tracker=Meter()) as DSPy's own tracker -> usage_of(meter.entries).
Source: dspy.utils.usage_tracker.UsageTracker and dspy.utils.parallelizer (DSPy 3.4.1), which copies the
tracker for every thread and drops the copies; a Meter is its own copy. finalize() in clients/execution.py
reports to it, cache hits not.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from course_lib.caching.batch.items import Usage
from course_lib.lm import prices


class _Entries:
    """Where dspy.track_usage() inside a program hands its entries up: `parent.usage_data[lm].extend(...)`."""

    def __init__(self, meter: Meter, model: str) -> None:
        self._meter, self._model = meter, model

    def append(self, entry: Mapping[str, Any]) -> None:
        self._meter.add_usage(self._model, entry)

    def extend(self, entries: Iterable[Mapping[str, Any]]) -> None:
        for entry in entries:
            self.append(entry)


class _Data:
    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __getitem__(self, model: str) -> _Entries:
        return _Entries(self._meter, model)


class Meter:
    """A usage tracker that stays one through deep copies, and may be told from many threads."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []
        self.usage_data = _Data(self)
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, Any]) -> Meter:
        """Return itself: dspy.Parallel hands each thread a deep copy and never looks at it again."""
        return self

    def add_usage(self, lm: str, usage_entry: Mapping[str, Any]) -> None:
        """Take down one call, as DSPy reports it."""
        with self._lock:
            self.entries.append((lm, dict(usage_entry)))

    def get_total_tokens(self) -> dict[str, dict[str, Any]]:
        """Return the tokens by model, as Prediction.get_lm_usage() shows them."""
        from dspy.utils.usage_tracker import UsageTracker

        tracker = UsageTracker()
        with self._lock:
            for model, entry in self.entries:
                tracker.add_usage(model, entry)
        totals: dict[str, dict[str, Any]] = tracker.get_total_tokens()
        return totals


def usage_of(entries: Iterable[tuple[str, Mapping[str, Any]]]) -> Usage:
    """Return the sum of some calls."""
    return sum((_usage_of(model, entry) for model, entry in entries), Usage())


def _usage_of(model: str, entry: Mapping[str, Any]) -> Usage:
    sent, written = int(entry.get("prompt_tokens") or 0), int(entry.get("completion_tokens") or 0)
    name = model.removeprefix("course/").partition("@")[0]
    if prices.price(name) is prices.ASSUMED:
        return Usage(1, sent, written, 0.0, 1)
    return Usage(1, sent, written, prices.cost_usd(name, sent, written))
