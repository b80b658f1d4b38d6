"""What the endpoint keeps per client: its ledger, its fault sequences, its own profiles; all bounded.

Main path: Accounts.of(client) -> Account; account.begin(exchange) ... account.finish(exchange).
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from course_lib.lm.endpoint.prefixes import Prefixes
from course_lib.lm.profiles import Profile
from course_lib.resilience import TokenBucket

MAX_CLIENTS = 500
MAX_CALLS = 300
"""Calls kept with messages and reply, per client."""
MAX_CALL_CHARS = 4_000_000
"""And their size at most; older calls go first."""
MAX_LINES = 5_000
"""Calls kept as bare figures, for totals since a given request."""
MAX_SAMPLES = 10_000
MAX_PROFILES = 100

Clock = Callable[[], float]
Line = dict[str, Any]
"""One request of the ledger: the fields of lm.Call, without its texts."""

_SUMMED = ("prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd")
_FIGURES = ("model", "profile", "status", "fault", *_SUMMED, "stream", "at_once")
_TEXTS = ("messages", "reply", "tools", "tool_calls")


@dataclass(slots=True)
class Exchange:
    """One request while it is under way; the handler fills it in."""

    begun_s: float
    client: str = ""
    at_once: int = 0
    resets: int = 0
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
    clock: Clock
    number: int = 0
    buckets: dict[str, tuple[float, TokenBucket]] = field(default_factory=dict)
    """By what they limit, with their rate."""

    def limit_wait_s(self, profile: Profile) -> float:
        """Charge one request against the profile's limits; returns seconds to wait if it is too much."""
        limits = (
            self._bucket("requests", profile.limit_requests_per_s),
            self._bucket("tokens", profile.limit_tokens_per_s),
        )
        wait_s = max((bucket.wait_s() for bucket in limits if bucket), default=0.0)
        if wait_s == 0:
            self.charge("requests", 1)
        return wait_s

    def charge(self, limit: str, amount: float) -> None:
        """Charge requests or tokens against their limit, if there is one."""
        if limit in self.buckets:
            self.buckets[limit][1].charge(amount)

    def next(self) -> int:
        """Return this request's place in the fault sequence, from 0."""
        self.number += 1
        return self.number - 1

    def _bucket(self, limit: str, per_s: float) -> TokenBucket | None:
        """Return the bucket of a limit; another rate, as from a timeline, begins with a full one."""
        if not per_s:
            self.buckets.pop(limit, None)
            return None
        if limit not in self.buckets or self.buckets[limit][0] != per_s:
            self.buckets[limit] = per_s, TokenBucket(per_s, max(1.0, per_s), clock=self.clock)
        return self.buckets[limit][1]


class _Totals:
    """Sums over lines of the ledger."""

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.requests = self.most_at_once = 0
        self._statuses: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._sums = dict.fromkeys(_SUMMED, 0) | {"cost_usd": 0.0}
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> None:
        self.requests += 1
        self.most_at_once = max(self.most_at_once, line["at_once"])
        self._statuses[str(line["status"])] += 1
        if line["fault"]:
            self._faults[line["fault"]] += 1
        for name in _SUMMED:
            self._sums[name] += line[name]

    def as_values(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "most_at_once": self.most_at_once,
            "statuses": dict(sorted(self._statuses.items())),
            "faults": dict(sorted(self._faults.items())),
            **self._sums,
        }


class Account:
    """One client's state at the endpoint."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._resets = 0
        self.under_way = 0
        self.profiles: dict[str, Profile] = {}
        self._clear()

    def _clear(self) -> None:
        self.prefixes = Prefixes()
        self._totals = _Totals()
        self._lines: deque[Line] = deque(maxlen=MAX_LINES)
        self._texts: deque[tuple[int, int, dict[str, Any]]] = deque()  # number, size in characters, texts
        self._chars = 0
        self._usages: dict[str, Usage] = {}
        self._samples: OrderedDict[bytes, int] = OrderedDict()

    def reset(self) -> None:
        """Forget ledger, fault sequences, sample counts and prompts seen; own profiles stay."""
        self._resets += 1  # requests still under way end outside the new ledger
        self._clear()

    def usage(self, model: str, profile: str, now_s: float) -> Usage:
        """Return the client's use of `model@profile`, begun now if it is new."""
        name = f"{model}@{profile}"
        if name not in self._usages:
            self._usages[name] = Usage(now_s, self._clock)
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
        self._totals.most_at_once = max(self._totals.most_at_once, self.under_way)
        exchange.at_once, exchange.resets = self.under_way, self._resets

    def finish(self, exchange: Exchange) -> None:
        """Close a request and enter it in the ledger."""
        self.under_way -= 1
        if exchange.resets != self._resets:
            return
        now_s, begun_s = self._clock(), exchange.begun_s
        line = {"number": self._totals.requests + 1, **{name: getattr(exchange, name) for name in _FIGURES}}
        line["ttft_ms"] = ((exchange.first_byte_s or now_s) - begun_s) * 1000
        line["duration_ms"] = (now_s - begun_s) * 1000
        self._totals.add(line)
        self._lines.append(line)
        texts = {name: getattr(exchange, name) for name in _TEXTS}
        self._texts.append((self._totals.requests, exchange.size_chars, texts))
        self._chars += exchange.size_chars
        while len(self._texts) > MAX_CALLS or self._chars > MAX_CALL_CHARS:
            self._chars -= self._texts.popleft()[1]

    def view(self, since: int) -> dict[str, Any]:
        """Return the ledger as plain values: everything, or what ended after request number `since`."""
        lines = [line for line in self._lines if line["number"] > since]
        texts = {number: texts for number, _, texts in self._texts if number > since}
        totals = self._totals if since <= 0 else _Totals(lines)
        return {
            **totals.as_values(),
            "under_way": self.under_way,
            "resets": self._resets,
            "is_complete": since <= 0 or len(lines) == max(0, self._totals.requests - since),
            "calls": [{**line, **texts[line["number"]]} for line in lines if line["number"] in texts],
        }


class Accounts:
    """All clients of an endpoint; the one longest unseen is dropped when there are too many."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
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
