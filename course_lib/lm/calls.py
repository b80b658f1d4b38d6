"""What the endpoint saw from one client: how many requests, what became of them, what they cost.

Main path: lm.ledger() -> Ledger; its `calls` are the last few hundred requests with messages and reply.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One request and its fate."""

    number: int
    """1 for the first request that ended since the last reset; counts in the order in which they ended."""
    model: str
    """Model asked for, without the profile."""
    profile: str
    """Profile asked for, `calm` if none was."""
    status: int
    """HTTP status sent; 0 when the connection was cut before one, 499 when the client gave up waiting."""
    fault: str | None
    """Kind of fault that the profile drew, `rate_limited`, or None."""
    ttft_ms: float
    """From the request's arrival to the first byte of the answer."""
    duration_ms: float
    """From its arrival to the last byte."""
    prompt_tokens: int
    """Tokens in the messages, 0 if the request did not get so far."""
    cached_tokens: int
    """How many of the prompt's tokens came from the prompt cache (simulated: endpoint/prefixes.py)."""
    completion_tokens: int
    """Tokens written, also those that a fault then held back."""
    cost_usd: float
    """Price of all, by the list in lm/prices.py."""
    stream: bool
    """True when the client asked for a stream."""
    at_once: int
    """How many requests of this client were under way when this one arrived, itself included."""
    at_s: float
    """When it arrived, in seconds after the first request since the last reset."""
    due_ms: float
    """From its arrival to the last byte as the profile had planned it; 0 where it planned none."""
    request_id: str
    """What the answer's header `x-request-id` said."""
    retry_after_s: float
    """How long the answer asked the client to wait, 0 if it did not."""
    question: str
    """A short name of what was asked, without the system prompt and DSPy's line about the answer's form."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """The request's messages, as sent."""
    reply: str | None = None
    """Text of the first choice, as sent; for tool calls without text, None."""
    tools: list[str] = field(default_factory=list)
    """Names of the tools that the request offered to native calls."""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    """Native calls of the first choice: `name` and `arguments` (JSON text), as sent."""

    @property
    def ended_s(self) -> float:
        """When it ended, on the clock of `at_s`."""
        return self.at_s + self.duration_ms / 1000

    @property
    def is_half(self) -> bool:
        """True when the answer began well and was cut, had no finish reason or a broken chunk."""
        return self.status == 200 and self.fault in ("cut_midway", "no_finish", "broken_chunk")

    @property
    def is_failed(self) -> bool:
        """True when there was no whole answer; a malformed one is whole."""
        return self.status != 200 or self.is_half


@dataclass(frozen=True, slots=True)
class Ledger:
    """Totals and the latest calls of one client; tokens and cost are sums over the requests."""

    requests: int
    """Requests that ended, well or not."""
    statuses: dict[int, int]
    """How often each status was sent."""
    faults: dict[str, int]
    """How often each kind of fault struck."""
    prompt_tokens: int
    cached_tokens: int
    """The part of the prompt tokens that came cheaper."""
    completion_tokens: int
    cost_usd: float
    most_at_once: int
    """Most requests under way at the same moment."""
    under_way: int
    """Requests under way now."""
    resets: int
    """How often this ledger was reset; a count from before the last reset says nothing now."""
    is_complete: bool
    """False when `since` lies so far back that some requests after it are no longer itemised."""
    calls: list[Call]
    """The last few hundred calls, oldest first."""

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Ledger:
        """Read what the endpoint's `/course/ledger` sends."""
        values = {f.name: plain[f.name] for f in fields(cls)}
        values["statuses"] = {int(status): count for status, count in values["statuses"].items()}
        values["calls"] = [Call(**call) for call in values["calls"]]
        return cls(**values)

    def __repr__(self) -> str:
        cached = f" ({self.cached_tokens} cached)" if self.cached_tokens else ""
        return (
            f"Ledger({self.requests} requests, {self.prompt_tokens}{cached} + {self.completion_tokens} "
            f"tokens, ${self.cost_usd:.6f}, statuses {self.statuses}, faults {self.faults}, "
            f"at most {self.most_at_once} at once)"
        )


def client_of(key: str) -> str:
    """Return the name under which a key's account is kept; the key itself is kept nowhere."""
    return hashlib.sha256(key.encode()).hexdigest()[:24]
