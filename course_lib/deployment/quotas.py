"""What a tenant may ask and spend, over all replicas together: requests a minute, tokens a day.

Main path: take_request(caller) -> from this replica's lease, else a new lease from Redis -> or QuotaExceeded;
check_tokens(caller) before an answer, charge_tokens(caller, tokens) after it.
Source: redis-py 8.1; two scripts, each of which is one step for Redis, by its own clock.

Requests: a lease is a number of requests, counted in Redis before the first of them is let through. So a
tenant never gets more than its limit, whatever replicas do: in any 50 s, since counts are kept by slots of
10 s for a minute. It may get less: leases that another replica holds unused, each at most an eighth of what
was left when it was taken, until its slot is over. A request within a lease costs a microsecond.

Tokens: an answer's cost is known afterwards, so a budget is overspent by what is under way when it ends, and
by what replicas have not told each other yet: a second's worth, and at most an eighth of what was left.

Redis lost: each replica goes on with its share of the limit (a replica-th of the rate) and says so
in `last_error`; Redis is asked again after a moment, and takes over when it answers. Budgets are remembered.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from course_lib.deployment.callers import Caller
from course_lib.deployment.config import DeploymentConfig
from course_lib.errors import CourseError
from course_lib.resilience import CircuitBreaker, TokenBucket
from course_lib.resilience.deadline import Clock
from course_lib.services import shown

SLOTS = 6
DEADLINE_S = 0.25
_SYNC_EVERY_S = 1.0
_SHARE = 4  # of what is left, one replica leases at most 1 / (_SHARE * replicas)
_DAY_S = 86_400

_LEASE = """
local limit, asked, share, slot_ms, slots = unpack(ARGV)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local slot = math.floor(now / slot_ms)
local used, oldest = 0, slot
local counts = redis.call('HGETALL', KEYS[1])
for i = 1, #counts, 2 do
  local each = tonumber(counts[i])
  if each <= slot - slots or each > slot then
    redis.call('HDEL', KEYS[1], counts[i])
  else
    used = used + counts[i + 1]
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
"""Returns how many requests are let through and for how many milliseconds; or 0, and those to wait."""
_SPEND = """
local spent, known, known_day = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = tonumber(redis.call('TIME')[1])
local day = math.floor(now / 86400)
local kept = redis.call('HMGET', KEYS[1], 'day', 'total')
local total = 0
if tonumber(kept[1]) == day then total = tonumber(kept[2]) end
if known_day == day then total = math.max(total, known) end
total = total + spent
redis.call('HSET', KEYS[1], 'day', day, 'total', total)
redis.call('EXPIRE', KEYS[1], 172800)
return {total, day, (day + 1) * 86400 - now}
"""
"""Adds what was spent, to no less than was known before: a Redis that lost its data gives no budget back."""


class QuotaExceeded(CourseError):  # noqa: N818  (the field's word)
    """The tenant has used what it may; `retry_after_s` says when there is more."""

    def __init__(self, what: str, retry_after_s: float) -> None:
        self.what, self.retry_after_s = what, retry_after_s
        super().__init__(f"the tenant's {what} are used up; try again in {math.ceil(retry_after_s)} s")


class _Usage:
    """What one replica knows of one tenant."""

    def __init__(self, bucket: TokenBucket) -> None:
        self.lock = asyncio.Lock()
        self.bucket = bucket  # this replica's share, for when Redis is lost
        self.leased, self.until_s, self.size = 0, 0.0, 1
        self.refused_until_s = 0.0
        self.total = self.pending = self.day = (
            0  # tokens: of all replicas when last told; since then; of which day
        )
        self.synced_s, self.day_ends_s = -math.inf, 0.0


class Quotas:
    """The limits of all tenants, for one replica; of one event loop."""

    def __init__(
        self,
        config: DeploymentConfig,
        *,
        replicas: int = 2,
        window_s: float = 60.0,
        prefix: str = "course:quota:",
        deadline_s: float = DEADLINE_S,
        clock: Clock = time.monotonic,
    ) -> None:
        """Take the limits.

        Args:
            config: requests a minute, tokens a day, the Redis that counts them (none: this process alone).
            replicas: how many there are; a share of the limit is one of so many.
            window_s: the minute in which `requests_per_minute` are let through.
            prefix: begins every key in Redis.
            deadline_s: how long Redis may take to answer before it counts as lost.
            clock: tells seconds.
        """
        self._url = config.redis_url.get_secret_value() if config.redis_url else None
        self._requests, self._tokens = config.requests_per_minute, config.tokens_per_day
        self._replicas = replicas if self._url else 1
        self._window_s, self._prefix, self._deadline_s, self._clock = window_s, prefix, deadline_s, clock
        self._usages: dict[str, _Usage] = {}  # only of tenants that the operator let in, so it stays small
        name = f"Redis at {shown(self._url)}" if self._url else "Redis"
        self._breaker = CircuitBreaker(name, threshold=1, first_wait_s=0.25, longest_wait_s=2.0, clock=clock)
        self._client: redis.asyncio.Redis | None = None

    async def open(self) -> None:
        """Make ready to ask Redis, which need not be there yet."""
        if self._url:
            self._client = redis.asyncio.Redis.from_url(
                self._url,
                socket_timeout=self._deadline_s,
                socket_connect_timeout=self._deadline_s,
                retry=Retry(NoBackoff(), 1),  # a connection from before a restart is made anew
            )
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
        error = self._breaker.last_error
        return (
            error and f"{self._breaker.name}: {error}; each replica keeps its share of the limits by itself"
        )

    async def check(self) -> str:
        """Ask Redis again if it was lost and its wait is over, and return `last_error`."""
        if self._client and self.last_error:
            await self._ask(self._client.ping)
        return self.last_error

    async def take_request(self, caller: Caller) -> None:
        """Let one request of this tenant through.

        Raises:
            QuotaExceeded: the tenant's requests of this minute are used up.
        """
        usage = self._usages.get(caller.tenant) or self._begin(caller.tenant)
        while not (usage.leased and self._clock() < usage.until_s):
            if (wait_s := usage.refused_until_s - self._clock()) > 0:
                raise QuotaExceeded("requests of this minute", wait_s)
            async with usage.lock:  # who waits here finds a lease, or a refusal, or is the next to ask
                if (
                    not (usage.leased and self._clock() < usage.until_s)
                    and self._clock() >= usage.refused_until_s
                ):
                    await self._renew(caller.tenant, usage)
        usage.leased -= 1

    async def check_tokens(self, caller: Caller) -> None:
        """Do nothing while this tenant has tokens left today.

        Raises:
            QuotaExceeded: the budget of this day is spent.
        """
        usage = self._usages.get(caller.tenant) or self._begin(caller.tenant)
        if self._is_stale(usage) or self._spent(usage) >= self._tokens:
            async with usage.lock:
                if self._is_stale(usage):
                    await self._sync(caller.tenant, usage)
        if self._spent(usage) >= self._tokens:
            raise QuotaExceeded("tokens of this day", max(1.0, usage.day_ends_s - self._clock()))

    async def charge_tokens(self, caller: Caller, tokens: int) -> None:
        """Count what an answer has used; Redis is told now and then, and when little is left."""
        usage = self._usages.get(caller.tenant) or self._begin(caller.tenant)
        usage.pending += max(0, tokens)
        if self._is_stale(usage):
            async with usage.lock:
                if self._is_stale(usage):
                    await self._sync(caller.tenant, usage)

    def _begin(self, tenant: str) -> _Usage:
        share = self._requests / self._replicas
        bucket = TokenBucket(share / self._window_s, max(1.0, share), clock=self._clock)
        return self._usages.setdefault(tenant, _Usage(bucket))

    async def _renew(self, tenant: str, usage: _Usage) -> None:
        """Take another lease, twice as large if the last one was used up in time, or be refused."""
        usage.size = max(1, usage.size - usage.leased if usage.leased else 2 * usage.size)
        slot_ms = int(self._window_s * 1000 / SLOTS)
        arguments = self._requests, usage.size, _SHARE * self._replicas, slot_ms, SLOTS
        asked_s = self._clock()
        answer = self._client and await self._ask(self._lease, [f"{self._prefix}r:{tenant}"], arguments)
        granted, lasts_ms = answer or self._take_share(usage)
        usage.leased = granted
        if granted:
            usage.size, usage.until_s = min(usage.size, granted), asked_s + lasts_ms / 1000
        else:
            usage.refused_until_s = self._clock() + lasts_ms / 1000

    def _take_share(self, usage: _Usage) -> tuple[int, float]:
        """Let one request through by this replica's own share."""
        if wait_s := usage.bucket.wait_s():
            return 0, wait_s * 1000
        usage.bucket.charge(1)
        return 1, 1_000

    def _is_stale(self, usage: _Usage) -> bool:
        """Return whether Redis should be told of this tenant's tokens, and tell what others spent."""
        unsaid = (
            usage.pending * 2 * _SHARE * self._replicas >= self._tokens - usage.total and usage.pending > 0
        )
        return unsaid or self._clock() - usage.synced_s >= _SYNC_EVERY_S

    def _spent(self, usage: _Usage) -> int:
        """Return what all replicas have spent today; those that cannot be heard, as much as this one."""
        return usage.total + usage.pending * (self._replicas if self.last_error else 1)

    async def _sync(self, tenant: str, usage: _Usage) -> None:
        """Tell Redis what was spent since the last time, and learn what all have spent."""
        told, usage.pending = usage.pending, 0  # what is charged meanwhile is told the next time
        arguments = told, usage.total, usage.day
        try:
            answer = self._client and await self._ask(self._spend, [f"{self._prefix}t:{tenant}"], arguments)
        except BaseException:  # the caller has gone
            usage.pending += told
            raise
        usage.synced_s = self._clock()
        if answer:
            usage.total, usage.day, left_s = map(int, answer)
        else:
            day, elapsed_s = divmod(int(time.time()), _DAY_S)
            left_s = _DAY_S - elapsed_s
            if usage.day not in (0, day):
                usage.total = told = 0
            usage.day, usage.pending = day, usage.pending + told
        usage.day_ends_s = usage.synced_s + left_s

    async def _ask(self, command: Any, *arguments: Sequence[Any]) -> Any:
        """Return what Redis answers; None when it does not, or is not asked at the moment."""
        if self._breaker.last_error and not self._breaker.allows():
            return None
        try:
            answer = await command(*arguments)
        except (RedisError, OSError) as error:
            self._breaker.record_failure(error)
            if self._client:  # another server may stand at the address by now
                await self._client.connection_pool.disconnect(inuse_connections=False)
            return None
        self._breaker.record_success()
        return answer
