"""What the models reported: one tracker that counts rightly in threads, tasks, streams and nesting.

Main path: tracker = UsageTracker(); with dspy.context(usage_tracker=tracker): ...; usage_of(tracker.entries).
Source: dspy.utils.usage_tracker.UsageTracker and dspy.utils.parallelizer (DSPy 3.4.1), which deep-copies the
tracker for every thread and drops the copies. finalize() in clients/execution.py reports each call to it,
cache hits not.
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from dspy.utils.usage_tracker import UsageTracker as DspyTracker

from course_lib.lm import prices, tokens
from course_lib.resilience import forks

Entry = tuple[str, Mapping[str, Any]]
"""A model's name, and what it reported for one call."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What models reported, summed over calls."""

    calls: int = 0
    """Calls that a model answered; hits of a cache are not among them."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    """Price of the calls whose model is in the price list."""
    unpriced_calls: int = 0
    """Calls to models that the list does not have; `cost_usd` is too low by these."""
    cached_tokens: int = 0
    """How many of the tokens sent came from the provider's own prompt cache, at its price."""

    @property
    def tokens(self) -> int:
        """Tokens sent and written."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        """Return the sum of both."""
        return (
            Usage(  # written out: dataclasses.astuple copies deeply, and takes longer than all the rest of it
                self.calls + other.calls,
                self.prompt_tokens + other.prompt_tokens,
                self.completion_tokens + other.completion_tokens,
                self.cost_usd + other.cost_usd,
                self.unpriced_calls + other.unpriced_calls,
                self.cached_tokens + other.cached_tokens,
            )
        )


def usage_of(entries: Iterable[Entry]) -> Usage:
    """Return the sum of some calls, priced by course_lib.lm.prices."""
    return sum((_usage_of_call(model, entry) for model, entry in entries), Usage())


def _usage_of_call(model: str, entry: Mapping[str, Any]) -> Usage:
    prompt, completion, cached = tokens.reported(entry)
    name = model.removeprefix("course/").partition("@")[0]
    if prices.price(name) is prices.ASSUMED:
        return Usage(1, prompt, completion, 0.0, 1, cached)
    return Usage(1, prompt, completion, prices.cost_usd(name, prompt, completion, cached), 0, cached)


class UsageTracker(DspyTracker):
    """DSPy's usage tracker, for many threads: a deep copy of it is the tracker itself."""

    heard_by: ClassVar[list[Callable[[str, Mapping[str, Any]], None]]] = []
    """Told of each report, on the thread or task of its call."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        forks.things.add(self)

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """Return itself: dspy.Parallel gives each thread a deep copy and never looks at it again."""
        return self

    def add_usage(self, lm: str, usage_entry: Mapping[str, Any]) -> None:
        """Take what a model reported at the end of a call; an empty report is a call too."""
        with self._lock:
            self.usage_data[lm].append(self._flatten_usage_entry(usage_entry))
        for tell in self.heard_by:
            tell(lm, usage_entry)

    @property
    def entries(self) -> list[Entry]:
        """What was reported so far, model by model."""
        with self._lock:
            return [(model, entry) for model, entries in self.usage_data.items() for entry in entries]
