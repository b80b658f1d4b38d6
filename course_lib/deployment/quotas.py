"""What a tenant may ask and spend, over all replicas together: requests a minute, tokens a day.

Main path: take_request(caller) -> from this replica's lease, else a new lease from Redis -> or QuotaExceeded;
check_tokens(caller) before an answer, charge_tokens(caller, tokens) after it.
Source: redis-py 8.1; two scripts, each of which is one step for Redis.

Requests: a lease is a number of requests, counted in Redis, by its clock, before the first of them is let
through. So a tenant never gets more than its limit in any 50 s: counts are kept for a minute, by slots of 10
s. It may get less: leases that another replica holds unused, each at most an eighth of what was left when
it was taken, until its slot is over. A request within a lease costs a microsecond.

Tokens: an answer's cost is known afterwards, so a budget is overspent by what is under way when it ends, and
by what replicas have not told each other yet: a second's worth, and at most an eighth of what was left.
Days are of UTC, by each replica's clock.

Redis lost: each replica goes on with its share of the limit and says so in `last_error`; Redis is asked again
after a moment, and takes over when it answers. Budgets are remembered.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse
from redis.retry import Retry

from course_lib.deployment.callers import Caller
from course_lib.deployment.config import DeploymentConfig
from course_lib.errors import CourseError
from course_lib.resilience import CircuitBreaker, TokenBucket
from course_lib.services import shown

_SLOTS = 6
_SYNC_EVERY_S = 1.0
_PREFIX = "course:quota:"
_SHARE = 4  # of what is left, one replica leases at most 1 / (_SHARE * replicas)
_DAY_S = 86_400

_HEALED = """
local function healed(key, kind)
  local found = redis.call('TYPE', key).ok
  if found ~= kind and found ~= 'none' then redis.call('DEL', key) end
end
"""
"""Drops a key of another type, which somebody else has written: else no command on it would ever succeed."""
_LEASE = (
    _HEALED
    + """
healed(KEYS[1], 'hash')
local limit, asked, share, slot_ms, slots = unpack(ARGV)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local slot = math.floor(now / slot_ms)
local used, oldest = 0, slot
local counts = redis.call('HGETALL', KEYS[1])
for i = 1, #counts, 2 do
  local each, count = tonumber(counts[i]), counts[i + 1]
  if not each or not count:match('^%d+$') or each <= slot - slots or each > slot then
    redis.call('HDEL', KEYS[1], counts[i])
  else
    used = used + count
    oldest = math.min(oldest, each)
  end
end
local left = limit - used
if left < 1 then return {0, (oldest + slots) * slot_ms - now} end
local granted = math.min(asked, math.max(1, math.floor(left / share)))
redis.call('HINCRBY', KEYS[1], slot, granted)
redis.call('PEXPIRE', KEYS[1], slots * slot_ms)
return {granted, (slot + 1) * slot_ms - now}
"""
)
"""Returns how many requests are let through and for how many milliseconds; or 0, and those to wait."""
_SPEND = (
    _HEALED
    + """
healed(KEYS[1], 'string')
local known = (redis.call('GET', KEYS[1]) or ''):match('^%d+$')
known = known and #known < 16 and tonumber(known) or 0
local total = math.max(known, tonumber(ARGV[2])) + ARGV[1]
redis.call('SET', KEYS[1], total, 'EX', 172800)
return total
"""
)
"""Adds what was spent, to no less than was known before: a Redis that lost its data gives no budget back."""


class QuotaExceeded(CourseError):  # noqa: N818  (the field's word)
    """The tenant has used what it may; `retry_after_s` says when there is more."""

    def __init__(self, what: str, retry_after_s: float) -> None:
        self.what, self.retry_after_s = what, retry_after_s
        super().__init__(f"the tenant's {what} are used up; try again in {math.ceil(retry_after_s)} s")


class _Usage:
    """What one replica knows of one tenant."""

    def __init__(self, share: float, window_s: float) -> None:
        self.lock = asyncio.Lock()
        self.bucket = TokenBucket(share / window_s, max(1.0, share))  # its share, when Redis is lost
        self.leased, self.until_s, self.size, self.refused_until_s = 0, 0.0, 1, 0.0
        self.day, self.synced_s = _today(), -math.inf
        self.total = self.pending = 0  # tokens of all replicas when last told, and of this one since then
        self.former: dict[int, tuple[int, int]] = {}  # the same of the day before: a clock may be put back

    def has_lease(self) -> bool:
        return self.leased > 0 and time.monotonic() < self.until_s

    def wait_s(self) -> float:
        return self.refused_until_s - time.monotonic()


def _today() -> int:
    return int(time.time() // _DAY_S)


class Quotas:
    """The limits of all tenants, for one replica; of one event loop."""

    def __init__(
        self, config: DeploymentConfig, *, replicas: int = 2, window_s: float = 60.0, deadline_s: float = 0.25
    ) -> None:
        """Take the limits, and the Redis that counts them; without one this process is alone.

        `window_s` is the minute of `requests_per_minute`; after `deadline_s` without an answer Redis is lost.
        """
        self._url = config.redis_url.get_secret_value() if config.redis_url else None
        self._requests, self._tokens = config.requests_per_minute, config.tokens_per_day
        self._replicas = replicas if self._url else 1
        self._window_s, self._deadline_s = window_s, deadline_s
        self._usages: dict[str, _Usage] = {}  # only of tenants that the operator let in, so it stays small
        name = f"Redis at {shown(self._url)}" if self._url else "Redis"
        self._breaker = CircuitBreaker(name, threshold=1, first_wait_s=0.25, longest_wait_s=2.0)
        self._client: redis.asyncio.Redis | None = None

    async def open(self) -> None:
        """Make ready to ask Redis, which need not be there yet."""
        if self._url:
            waits: Any = {"socket_timeout": self._deadline_s, "socket_connect_timeout": self._deadline_s}
            again = Retry(NoBackoff(), 1)  # a connection from before a restart is made anew
            self._client = redis.asyncio.Redis.from_url(self._url, retry=again, **waits)
            self._lease, self._spend = map(self._client.register_script, (_LEASE, _SPEND))

    async def close(self) -> None:
        """Tell Redis what was spent and not told yet, and close the connections."""
        if self._client:
            for tenant, usage in self._usages.items():
                if usage.pending:
                    await self._sync(tenant, usage)
            await self._client.aclose()
            self._client = None

    @property
    def last_error(self) -> str:
        """What is wrong, in one line; empty when nothing is."""
        if error := self._breaker.last_error:
            return f"{self._breaker.name}: {error}; each replica keeps its share of the limits by itself"
        return ""

    async def check(self) -> str:
        """Ask Redis to take a value, unless it is lost and its wait is not over; return `last_error`."""
        if self._client:
            await self._ask(bool, self._client.set, f"{_PREFIX}ping", 1, 60)
        return self.last_error

    async def take_request(self, caller: Caller, *, apart: str = "") -> None:
        """Let one request of this tenant through.

        Args:
            caller: who asks.
            apart: the kind of a request that is counted by itself, with as high a limit: as monitoring, which
                the tenant's questions leave nothing otherwise.

        Raises:
            QuotaExceeded: the tenant's requests of this minute are used up.
        """
        name = f"{caller.tenant}:{apart}" if apart else caller.tenant  # no tenant has a colon in its name
        usage = self._usage(name)
        while not usage.has_lease():
            if (wait_s := usage.wait_s()) > 0:
                raise QuotaExceeded("requests of this minute", wait_s)
            async with usage.lock:  # who waits here finds a lease, or a refusal, or is the next to ask
                if not usage.has_lease() and usage.wait_s() <= 0:
                    await self._renew(name, usage)
        usage.leased -= 1

    async def check_tokens(self, caller: Caller) -> None:
        """Do nothing while this tenant has tokens left today.

        Raises:
            QuotaExceeded: the budget of this day is spent.
        """
        usage = await self._charged(caller.tenant, 0)
        if self._spent(usage) >= self._tokens:
            raise QuotaExceeded("tokens of this day", _DAY_S - time.time() % _DAY_S)

    async def charge_tokens(self, caller: Caller, tokens: int) -> None:
        """Count what an answer has used; Redis is told now and then, and when little is left."""
        await self._charged(caller.tenant, tokens)

    def _usage(self, name: str) -> _Usage:
        if name not in self._usages:
            self._usages[name] = _Usage(self._requests / self._replicas, self._window_s)
        usage = self._usages[name]
        if usage.day != (day := _today()):
            former, usage.former = usage.former, {usage.day: (usage.total, usage.pending)}
            usage.total, usage.pending = former.get(day, (0, 0))
            usage.day, usage.synced_s = day, -math.inf
        return usage

    async def _renew(self, tenant: str, usage: _Usage) -> None:
        """Take another lease, twice as large if the last one was used up in time, or be refused."""
        usage.size = max(1, usage.size - usage.leased if usage.leased else 2 * usage.size)
        slot_ms = int(self._window_s * 1000 / _SLOTS)
        arguments = self._requests, usage.size, _SHARE * self._replicas, slot_ms, _SLOTS
        asked_s = time.monotonic()

        def is_lease(answer: Any) -> bool:
            both = isinstance(answer, list) and len(answer) == 2 and all(type(each) is int for each in answer)
            return both and 0 <= answer[0] <= usage.size and 0 < answer[1] <= slot_ms * _SLOTS

        key = f"{_PREFIX}r:{tenant}"
        answer = self._client and await self._ask(is_lease, self._lease, [key], arguments)
        if answer:
            usage.leased, lasts_s = answer[0], answer[1] / 1000
        elif lasts_s := usage.bucket.wait_s():  # this replica's own share is used up
            usage.leased = 0
        else:
            usage.bucket.charge(1)
            usage.leased, lasts_s = 1, 1.0
        if usage.leased:
            usage.size, usage.until_s = min(usage.size, usage.leased), asked_s + lasts_s
        else:
            usage.refused_until_s = time.monotonic() + lasts_s

    async def _charged(self, tenant: str, tokens: int) -> _Usage:
        """Count tokens, tell Redis when much is untold or a second is over, and return what is known."""
        usage = self._usage(tenant)
        usage.pending += tokens
        if self._is_stale(usage):
            async with usage.lock:
                if self._is_stale(usage):  # nobody did meanwhile
                    await self._sync(tenant, usage)
        return usage

    def _is_stale(self, usage: _Usage) -> bool:
        is_much = usage.pending * 2 * _SHARE * self._replicas >= self._tokens - usage.total
        return (usage.pending > 0 and is_much) or time.monotonic() - usage.synced_s >= _SYNC_EVERY_S

    def _spent(self, usage: _Usage) -> int:
        """Return what all replicas have spent today; those that cannot be heard, as much as this one."""
        return usage.total + usage.pending * (self._replicas if self.last_error else 1)

    async def _sync(self, tenant: str, usage: _Usage) -> None:
        """Tell Redis what was spent since the last time, and learn what all have spent."""
        told, day = usage.pending, usage.day
        key = f"{_PREFIX}t:{tenant}:{day}"
        total = usage.total
        is_total = lambda answer: type(answer) is int and answer >= total + told  # noqa: E731
        answer: Any = self._client and await self._ask(is_total, self._spend, [key], (told, total))
        usage.synced_s = time.monotonic()
        if answer is not None and usage.day == day:
            usage.total, usage.pending = answer, usage.pending - told

    async def _ask(self, is_right: Callable[[Any], bool], command: Any, *arguments: Any) -> Any:
        """Return what Redis answers; None when it does not, or wrongly, or is not asked at the moment."""
        if self._breaker.last_error and not self._breaker.allows():
            return None
        try:
            answer = await command(*arguments)
            if not is_right(answer):
                raise InvalidResponse("it answers something else than was asked")
        except Exception as error:  # border: what its client raises of a server that is none
            self._breaker.record_failure(error)
            if self._client:  # another server may stand at the address by now
                await self._client.connection_pool.disconnect(inuse_connections=False)
            return None
        self._breaker.record_success()
        return answer
