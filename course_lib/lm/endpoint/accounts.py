"""What the endpoint keeps per client: its ledger, its fault sequences, its own profiles; all bounded.

Main path: Accounts.of(client) -> Account; account.begin(exchange) ... account.finish(exchange).
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

import orjson
from cachetools import LRUCache

from course_lib.lm.endpoint.prefixes import Prefixes
from course_lib.lm.endpoint.wire import ApiError
from course_lib.lm.profiles import Profile
from course_lib.resilience import TokenBucket

MAX_CLIENTS = 600
MAX_NEW = 100
"""Clients with less than two requests; where there are more, only they give way to a new one."""
MAX_CALLS = 300
"""Calls kept with messages and reply, per client."""
MAX_LINES = 5_000
"""Calls kept as bare figures, for totals since a given request."""
MAX_BYTES = 4_000_000
"""Size of both per client; the oldest go first, messages and replies before figures."""
MAX_BYTES_OF_ALL = 100_000_000
"""Size of all clients' ledgers; when it is reached, nobody keeps more than an equal share of it."""
MAX_SAMPLES = 2_000
MAX_USAGES = 200
MAX_PROFILES = 100

Clock = Callable[[], float]
_SUMMED = ("prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd")
_FIGURES = (
    *("model", "profile", "status", "fault", *_SUMMED),
    *("stream", "at_once", "request_id", "retry_after_s", "question"),
)
_TEXTS = ("messages", "reply", "tools", "tool_calls")


@dataclass(slots=True)
class Exchange:
    """One request while it is under way; the handler fills it in."""

    begun_s: float
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
    request_id: str = ""
    retry_after_s: float = 0.0
    due_s: float = 0.0
    question: str = ""
    limit_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    reply: str | None = None
    tools: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Usage:
    """A client's use of one model@profile: where it is in the fault sequence and the timeline."""

    since_s: float
    clock: Clock
    numbers: Iterator[int] = field(default_factory=count)
    """Places in the fault sequence, from 0: one for each request."""
    buckets: dict[str, TokenBucket] = field(default_factory=dict)
    """By what they limit; another rate, as from a timeline, begins with a full one."""

    def _limits(self, profile: Profile) -> Iterator[tuple[str, float, TokenBucket]]:
        """Yield what the profile limits, its rate per second and its bucket, which begins full."""
        limits = (("requests", profile.limit_requests_per_s), ("tokens", profile.limit_tokens_per_s))
        for limited, rate in limits:
            if rate:
                bucket = self.buckets.get(limited)
                if bucket is None or bucket.rate_per_s != rate:
                    bucket = self.buckets[limited] = TokenBucket(rate, max(1.0, rate), clock=self.clock)
                yield limited, rate, bucket

    def limit_wait_s(self, profile: Profile) -> float:
        """Charge one request against the profile's limits; returns seconds to wait if it is too much."""
        wait_s = max((bucket.wait_s() for _, _, bucket in self._limits(profile)), default=0.0)
        if wait_s == 0:
            self.charge("requests", 1)
        return wait_s

    def limit_headers(self, profile: Profile) -> list[tuple[bytes, bytes]]:
        """Return OpenAI's headers about each limit: how much there is, what is left, when all is back."""
        headers: dict[str, str] = {}
        for limited, rate, bucket in self._limits(profile):
            full = max(1.0, rate)
            reset_s = bucket.wait_s(full)
            headers[f"limit-{limited}"] = f"{int(full)}"
            headers[f"remaining-{limited}"] = f"{max(0, int(full - reset_s * rate + 1e-9))}"
            headers[f"reset-{limited}"] = f"{reset_s:.3f}s"
        return [(f"x-ratelimit-{name}".encode(), value.encode()) for name, value in headers.items()]

    def charge(self, limit: str, amount: float) -> None:
        """Charge requests or tokens against their limit, if there is one."""
        if bucket := self.buckets.get(limit):
            bucket.charge(amount)


def _totals(lines: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the sums over lines of the ledger."""
    totals: dict[str, Any] = {"requests": 0, "most_at_once": 0, **dict.fromkeys(_SUMMED, 0)}
    totals |= {"cost_usd": 0.0, "statuses": Counter(), "faults": Counter()}
    for line in lines:
        _add(totals, line)
    return totals


def _add(totals: dict[str, Any], line: Mapping[str, Any]) -> None:
    totals["requests"] += 1
    totals["most_at_once"] = max(totals["most_at_once"], line["at_once"])
    totals["statuses"][str(line["status"])] += 1
    if line["fault"]:
        totals["faults"][line["fault"]] += 1
    for name in _SUMMED:
        totals[name] += line[name]


class Account:
    """One client's state at the endpoint."""

    def __init__(self, clock: Clock, client: str = "", kept: Counter[str] | None = None) -> None:
        """Open it; `kept` counts the bytes in all clients' ledgers."""
        self.client = client
        self._clock = clock
        self._kept = Counter() if kept is None else kept
        self._resets = 0
        self.under_way = 0
        self.profiles: dict[str, Profile] = {}
        self.turn = asyncio.Lock()  # for answers that take the simulator long
        self._clear()

    def _clear(self) -> None:
        self._kept["bytes"] -= self._kept.pop(self.client, 0)
        self.prefixes = Prefixes()
        self._totals = _totals()
        self._lines: deque[bytes] = deque()  # of the latest requests, the figures as JSON
        self._texts: deque[bytes] = deque()  # of the latest among these, messages and reply as JSON
        self._usages: LRUCache[str, Usage] = LRUCache(MAX_USAGES)
        self._samples: LRUCache[bytes, int] = LRUCache(MAX_SAMPLES)
        self._first_s = 0.0

    def reset(self) -> None:
        """Forget ledger, fault sequences, sample counts and prompts seen; own profiles stay."""
        self._resets += 1  # requests still under way end outside the new ledger
        self._clear()

    @property
    def is_new(self) -> bool:
        """True until a second request has ended."""
        return int(self._totals["requests"]) < 2

    def usage(self, model: str, profile: str, now_s: float) -> Usage:
        """Return the client's use of `model@profile`, begun now if it is new."""
        return self._usages.setdefault(f"{model}@{profile}", Usage(now_s, self._clock))

    def forget_usage(self, profile: str) -> None:
        """Begin the fault sequence and timeline of `profile` anew; it has been redefined."""
        for name in [name for name in self._usages if name.endswith(f"@{profile}")]:
            del self._usages[name]

    def sample(self, request: bytes, choices: int) -> int:
        """Return how often this identical request was answered before, and count `choices` more."""
        digest = hashlib.blake2b(request, digest_size=16).digest()
        before = self._samples.get(digest, 0)
        self._samples[digest] = before + choices
        return before

    def begin(self, exchange: Exchange) -> None:
        """Open a request."""
        self.under_way += 1
        self._first_s = self._first_s or exchange.begun_s
        self._totals["most_at_once"] = max(self._totals["most_at_once"], self.under_way)
        exchange.at_once, exchange.resets = self.under_way, self._resets

    def finish(self, exchange: Exchange) -> None:
        """Close a request and enter it in the ledger."""
        self.under_way -= 1
        if exchange.resets != self._resets:
            return
        now_s, begun_s = self._clock(), exchange.begun_s
        line = {name: getattr(exchange, name) for name in _FIGURES}
        line["number"] = self._totals["requests"] + 1
        line["ttft_ms"] = ((exchange.first_byte_s or now_s) - begun_s) * 1000
        line["duration_ms"] = (now_s - begun_s) * 1000
        line["at_s"], line["due_ms"] = begun_s - self._first_s, exchange.due_s * 1000
        _add(self._totals, line)
        self._lines.append(orjson.dumps(line))
        self._texts.append(orjson.dumps({name: getattr(exchange, name) for name in _TEXTS}))
        self._count(len(self._lines[-1]) + len(self._texts[-1]))
        is_full = self._kept["bytes"] > MAX_BYTES_OF_ALL
        most = MAX_BYTES_OF_ALL // MAX_CLIENTS if is_full else MAX_BYTES
        for kept, most_kept in ((self._texts, MAX_CALLS), (self._lines, MAX_LINES)):
            while kept and (len(kept) > most_kept or self._kept[self.client] > most):
                self._count(-len(kept.popleft()))

    def _count(self, size_bytes: int) -> None:
        self._kept[self.client] += size_bytes
        self._kept["bytes"] += size_bytes

    def view(self, since: int, *, has_texts: bool = True) -> dict[str, Any]:
        """Return the ledger as plain values: everything, or what ended after request number `since`.

        Without texts, the calls are as many as there are figures of.
        """
        gone = self._totals["requests"] - len(self._lines)
        lines = [orjson.loads(line) for line in islice(self._lines, max(0, since - gone), None)]
        totals = _totals(lines) if since > 0 else self._totals
        texts = list(self._texts)[-len(lines) :] if lines else []
        texts = texts if has_texts else [b"{}"] * len(lines)
        itemised = zip(lines[len(lines) - len(texts) :], texts, strict=True)
        return {
            **totals,
            "statuses": dict(sorted(totals["statuses"].items())),
            "faults": dict(sorted(totals["faults"].items())),
            "under_way": self.under_way,
            "resets": self._resets,
            "is_complete": since <= 0 or since >= gone,
            "calls": [line | orjson.loads(text) for line, text in itemised],
        }


class Accounts:
    """All clients of an endpoint. Where there are too many, the least recently seen one gives way.

    One with a request under way never does. Beyond the first MAX_NEW, keys that are used once take only each
    other's places, so that a flood of them erases few ledgers.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._kept: Counter[str] = Counter()
        self._of: dict[str, Account] = {}  # the least recently seen first

    def of(self, client: str) -> Account:
        """Return the account of `client` (a hash of its key), opened if new.

        Raises:
            ApiError: 429 when MAX_CLIENTS others have requests under way.
        """
        if client not in self._of and len(self._of) >= MAX_CLIENTS:
            self._make_room()
        account = self._of.pop(client, None) or Account(self._clock, client, self._kept)
        self._of[client] = account
        return account

    def _make_room(self) -> None:
        idle = [account for account in self._of.values() if not account.under_way]
        new = [account for account in idle if account.is_new]
        if not idle:
            message = f"{MAX_CLIENTS} keys have requests under way; try again when one of them has its answer"
            raise ApiError(429, "too_many_clients", message, retry_after_s=1)
        self._of.pop((new if len(new) > MAX_NEW else idle)[0].client).reset()
