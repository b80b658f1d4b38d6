"""What a batch hands out: an item with its result or its failure, and what it cost.

Main path: for item in run: item.result if item.ok else item.error.kind; run.totals at the end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Usage:
    """What the language model reported, summed over an item's calls or over items."""

    calls: int = 0
    """Calls that a model answered; hits of a cache are not among them."""
    prompt_tokens: int = 0
    """Tokens sent."""
    completion_tokens: int = 0
    """Tokens written."""
    cost_usd: float = 0.0
    """Price of the calls whose model is in the price list."""
    unpriced_calls: int = 0
    """Calls to models that the list does not have; `cost_usd` is too low by these."""

    @property
    def tokens(self) -> int:
        """Tokens sent and written."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        """Return the sum of both."""
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cost_usd + other.cost_usd,
            self.unpriced_calls + other.unpriced_calls,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an item has no result."""

    kind: str
    """Name of the error's class: "LMRateLimitError", "DeadlineError"."""
    message: str
    """What it said."""
    exception: BaseException | None = field(default=None, compare=False, repr=False)
    """The exception itself; None when the failure was read from a journal or came from another process."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the input and what became of it."""

    index: int
    """Its place in the input, from 0."""
    key: str
    """What `key=` returned for it; else its index as text."""
    inputs: Any
    """The item as it was given."""
    result: Any = None
    """What the program returned; None if it failed."""
    error: Failure | None = None
    """Why it failed; None if it did not."""
    usage: Usage = field(default_factory=Usage)
    """What its calls used, whether it succeeded or not."""
    duration_ms: float = 0.0
    """From its start to its end, without the wait for a free place."""
    resumed: bool = False
    """True when it was read from the journal, and so paid for by an earlier run."""

    @property
    def ok(self) -> bool:
        """True when there is a result."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Totals:
    """A batch so far: the items handed out, and what they cost."""

    done: int = 0
    """Items handed out, failed ones included."""
    failed: int = 0
    """Items with an error."""
    resumed: int = 0
    """Items that came from the journal."""
    usage: Usage = field(default_factory=Usage)
    """Paid for by this run."""
    earlier: Usage = field(default_factory=Usage)
    """Paid for by earlier runs, as the journal remembers it."""

    def plus(self, item: Item) -> Totals:
        """Return the totals with one more item."""
        spent = Usage() if item.resumed else item.usage
        return Totals(
            self.done + 1,
            self.failed + (not item.ok),
            self.resumed + item.resumed,
            self.usage + spent,
            self.earlier + (item.usage if item.resumed else Usage()),
        )

    def __str__(self) -> str:
        """One line for a notebook."""
        line = (
            f"{self.done:,} items, {self.failed:,} failed, {self.resumed:,} from the journal; "
            f"{self.usage.calls:,} calls, {self.usage.tokens:,} tokens, {self.usage.cost_usd:.4f} USD"
        )
        if self.earlier.calls:
            line += f"; {self.earlier.cost_usd:.4f} USD by earlier runs"
        if self.usage.unpriced_calls:
            line += f"; {self.usage.unpriced_calls:,} calls without a known price"
        return line
