"""What the endpoint keeps per client: its ledger, its fault sequences, its own profiles; all bounded.

Main path: Accounts.of(client) -> Account; account.begin(exchange) ... account.finish(exchange).
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from course_lib.lm.endpoint.faults import Bucket
from course_lib.lm.endpoint.prefixes import Prefixes
from course_lib.lm.profiles import Profile

MAX_CLIENTS = 500
MAX_CALLS = 300
"""Calls kept with messages and reply, per client."""
MAX_CALL_CHARS = 4_000_000
"""And their size at most; older calls go first."""
MAX_LINES = 5_000
"""Calls kept as bare figures, for totals since a given request."""
MAX_SAMPLES = 10_000
MAX_PROFILES = 100


@dataclass(slots=True)
class Exchange:
    """One request while it is under way; the handler fills it in."""

    begun_s: float
    client: str = ""
    at_once: int = 0
    epoch: int = 0
    model: str = ""
    profile: str = "calm"
    status: int = 500
    fault: str | None = None
    first_byte_s: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    stream: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)
    reply: str | None = None
    tools: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    size_chars: int = 0


@dataclass(slots=True)
class Usage:
    """A client's use of one model@profile: where it is in the fault sequence and the timeline."""

    since_s: float
    number: int = 0
    requests: Bucket | None = None
    tokens: Bucket | None = None

    def limit_wait_s(self, profile: Profile, now_s: float) -> float:
        """Charge one request against the profile's limits; returns seconds to wait if it is too much."""
        self.requests = _bucket(self.requests, profile.limit_requests_per_s, now_s)
        self.tokens = _bucket(self.tokens, profile.limit_tokens_per_s, now_s)
        wait_s = max((bucket.wait_s(now_s) for bucket in (self.requests, self.tokens) if bucket), default=0.0)
        if wait_s == 0 and self.requests:
            self.requests.take(1)
        return wait_s

    def next(self) -> int:
        """Return this request's place in the fault sequence, from 0."""
        self.number += 1
        return self.number - 1


class Account:
    """One client's state at the endpoint."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._epoch = 0
        self.under_way = 0
        self.profiles: dict[str, Profile] = {}
        self._clear()

    def _clear(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.requests = self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self.most_at_once = 0
        self.prefixes = Prefixes()
        self.cost_usd = 0.0
        self._lines: deque[dict[str, Any]] = deque(maxlen=MAX_LINES)
        self._calls: deque[tuple[int, int, dict[str, Any]]] = deque()
        self._chars = 0
        self._usages: dict[str, Usage] = {}
        self._samples: OrderedDict[bytes, int] = OrderedDict()

    def reset(self) -> None:
        """Forget ledger, fault sequences, sample counts and prompts seen; own profiles stay."""
        self._epoch += 1  # requests still under way end outside the new ledger
        self._clear()

    def usage(self, model: str, profile: str, now_s: float) -> Usage:
        """Return the client's use of `model@profile`, begun now if it is new."""
        name = f"{model}@{profile}"
        if name not in self._usages:
            self._usages[name] = Usage(since_s=now_s)
        return self._usages[name]

    def forget_usage(self, profile: str) -> None:
        """Begin the fault sequence and timeline of `profile` anew; it has been redefined."""
        for name in [name for name in self._usages if name.endswith(f"@{profile}")]:
            del self._usages[name]

    def sample(self, request: bytes, choices: int) -> int:
        """Return how often this identical request was answered before, and count `choices` more."""
        digest = hashlib.blake2b(request, digest_size=16).digest()
        before = self._samples.pop(digest, 0)
        self._samples[digest] = before + choices
        if len(self._samples) > MAX_SAMPLES:
            self._samples.popitem(last=False)
        return before

    def begin(self, exchange: Exchange) -> None:
        """Open a request."""
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        exchange.at_once, exchange.epoch = self.under_way, self._epoch

    def finish(self, exchange: Exchange) -> None:
        """Close a request and enter it in the ledger."""
        self.under_way -= 1
        if exchange.epoch != self._epoch:
            return
        now_s = self._clock()
        self.requests += 1
        self.statuses[exchange.status] += 1
        if exchange.fault:
            self.faults[exchange.fault] += 1
        self.prompt_tokens += exchange.prompt_tokens
        self.cached_tokens += exchange.cached_tokens
        self.completion_tokens += exchange.completion_tokens
        self.cost_usd += exchange.cost_usd
        self._lines.append(
            {
                "number": self.requests,
                "model": exchange.model,
                "profile": exchange.profile,
                "status": exchange.status,
                "fault": exchange.fault,
                "ttft_ms": ((exchange.first_byte_s or now_s) - exchange.begun_s) * 1000,
                "duration_ms": (now_s - exchange.begun_s) * 1000,
                "prompt_tokens": exchange.prompt_tokens,
                "cached_tokens": exchange.cached_tokens,
                "completion_tokens": exchange.completion_tokens,
                "cost_usd": exchange.cost_usd,
                "stream": exchange.stream,
                "at_once": exchange.at_once,
            }
        )
        said = {name: getattr(exchange, name) for name in ("messages", "reply", "tools", "tool_calls")}
        self._calls.append((self.requests, exchange.size_chars, said))
        self._chars += exchange.size_chars
        while len(self._calls) > MAX_CALLS or self._chars > MAX_CALL_CHARS:
            self._chars -= self._calls.popleft()[1]

    def view(self, since: int) -> dict[str, Any]:
        """Return the ledger as plain values: everything, or what ended after request number `since`."""
        lines = [line for line in self._lines if line["number"] > since]
        said = {number: texts for number, _, texts in self._calls if number > since}
        calls = [{**line, **said[line["number"]]} for line in lines if line["number"] in said]
        totals = self._totals() if since <= 0 else _sum(lines)
        is_complete = since <= 0 or len(lines) == max(0, self.requests - since)
        return {**totals, "under_way": self.under_way, "is_complete": is_complete, "calls": calls}

    def _totals(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "faults": dict(sorted(self.faults.items())),
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
            "cost_usd": self.cost_usd,
            "most_at_once": self.most_at_once,
        }


class Accounts:
    """All clients of an endpoint; the one longest unseen is dropped when there are too many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: OrderedDict[str, Account] = OrderedDict()

    def of(self, client: str) -> Account:
        """Return the account of `client` (a hash of its key), opened if new."""
        account = self._of.get(client)
        if account is None:
            account = self._of[client] = Account(self._clock)
            if len(self._of) > MAX_CLIENTS:
                self._of.popitem(last=False)
        else:
            self._of.move_to_end(client)
        return account


def _bucket(bucket: Bucket | None, per_s: float, now_s: float) -> Bucket | None:
    if not per_s:
        return None
    return bucket if bucket and bucket.per_s == per_s else Bucket(per_s, now_s)


def _sum(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    statuses = Counter(str(line["status"]) for line in lines)
    faults = Counter(line["fault"] for line in lines if line["fault"])
    return {
        "requests": len(lines),
        "statuses": dict(sorted(statuses.items())),
        "faults": dict(sorted(faults.items())),
        "prompt_tokens": sum(line["prompt_tokens"] for line in lines),
        "cached_tokens": sum(line["cached_tokens"] for line in lines),
        "completion_tokens": sum(line["completion_tokens"] for line in lines),
        "cost_usd": sum(line["cost_usd"] for line in lines),
        "most_at_once": max((line["at_once"] for line in lines), default=0),
    }
