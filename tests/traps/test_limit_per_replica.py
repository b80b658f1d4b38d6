"""A limit that each replica counts for itself is a multiple of what was meant."""

from __future__ import annotations

import pytest
from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter

from course_lib.deployment import Caller, DeploymentConfig, QuotaExceeded, Quotas

pytestmark = pytest.mark.anyio

LANTERN = Caller("lantern", "web", frozenset({"ask"}))


async def test_three_replicas_with_a_limiter_in_memory_let_three_times_as_much_through():
    replicas = [MovingWindowRateLimiter(MemoryStorage()) for _ in range(3)]
    taken = [await replicas[n % 3].hit(parse("30/hour"), "lantern") for n in range(120)]

    assert sum(taken) == 90


async def test_quotas_are_counted_once_for_all_of_them(redis_url):
    config = DeploymentConfig(redis_url=redis_url, requests_per_minute=30)
    replicas = [Quotas(config, replicas=3, window_s=3_600.0, deadline_s=30.0) for _ in range(3)]
    for each in replicas:
        await each.open()
    taken = 0
    for number in range(120):
        try:
            await replicas[number % 3].take_request(LANTERN)
        except QuotaExceeded:
            continue
        taken += 1
    for each in replicas:
        await each.close()

    assert taken == 30
