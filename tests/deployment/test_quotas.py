"""A tenant gets what it may, from all replicas together, and Redis may be lost meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import redis.asyncio

from course_lib.deployment import Caller, DeploymentConfig, QuotaExceeded, Quotas

pytestmark = pytest.mark.anyio
ROLES = frozenset({"ask"})
LANTERN, SHOP = Caller("lantern", "web", ROLES), Caller("shop", "web", ROLES)


@asynccontextmanager
async def replicas(url, count=2, *, window_s=3_600.0, deadline_s=30.0, **limits):
    """Replicas whose window does not end during a test, also on a machine under load."""
    async with AsyncExitStack() as stack:
        config = DeploymentConfig(redis_url=url, **limits)
        opened = [
            Quotas(config, replicas=count, window_s=window_s, deadline_s=deadline_s) for _ in range(count)
        ]
        for quotas in opened:
            await quotas.open()
            stack.push_async_callback(quotas.close)
        yield opened


async def let_through(quotas, caller=LANTERN):
    try:
        await quotas.take_request(caller)
    except QuotaExceeded:
        return False
    return True


async def refusal_of(quotas):
    while True:
        try:
            await quotas.take_request(LANTERN)
        except QuotaExceeded as error:
            return error


async def test_two_replicas_let_the_limit_through_and_no_request_more(redis_url):
    async with replicas(redis_url, requests_per_minute=100) as (first, second):
        taken = [await let_through((first, second)[number % 2]) for number in range(250)]

    assert sum(taken) == 100
    assert all(taken[:60])


async def test_callers_at_once_share_it_too_and_another_tenant_has_its_own(redis_url):
    async with replicas(redis_url, requests_per_minute=50) as (first, second):
        both = [let_through(quotas) for quotas in (first, second) for _ in range(60)]
        taken = await asyncio.gather(*both, *(let_through(first, SHOP) for _ in range(20)))

    assert (sum(taken[:120]), sum(taken[120:])) == (50, 20)


async def test_a_replica_alone_lacks_no_more_than_another_one_holds(redis_url):
    async with replicas(redis_url, requests_per_minute=800) as (first, second):
        for _ in range(200):
            await first.take_request(LANTERN)
        taken = sum([await let_through(second) for _ in range(800)])

    assert 500 <= taken <= 600


async def test_the_wait_that_is_told_is_the_one_after_which_a_request_gets_through(redis_url):
    async with replicas(redis_url, requests_per_minute=3, window_s=1.2) as (first, second):
        refusal = await refusal_of(first)
        assert 0 < refusal.retry_after_s <= 1.2

        await asyncio.sleep(refusal.retry_after_s)

        assert await let_through(second)


async def test_a_request_costs_little_and_a_refusal_asks_nobody(own_redis):
    async with replicas(own_redis.url, requests_per_minute=100_000) as (first, _):
        used_s = time.process_time()
        for _ in range(5_000):
            await first.take_request(LANTERN)
        used_s = time.process_time() - used_s
    async with replicas(own_redis.url, requests_per_minute=1) as (first, _):
        assert [await let_through(first, SHOP) for _ in range(2)] == [True, False]
        own_redis.stop()
        with pytest.raises(QuotaExceeded):
            await first.take_request(SHOP)

        assert first.last_error == ""

    assert used_s / 5_000 < 50e-6


async def test_without_redis_each_replica_keeps_its_share_and_says_so_until_it_is_back(own_redis):
    async with replicas(own_redis.url, requests_per_minute=100) as (first, second):
        own_redis.kill()
        taken = sum([await let_through(quotas) for quotas in (first, second) for _ in range(100)])
        assert taken == 100
        assert "each replica keeps its share" in first.last_error

        own_redis.start()
        while await first.check() or await second.check():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

        assert await let_through(first, SHOP)
        assert first.last_error == ""


async def test_a_redis_that_dies_while_no_request_asks_it_is_told(own_redis):
    async with replicas(own_redis.url) as (first, _):
        await first.take_request(LANTERN)
        assert await first.check() == ""
        own_redis.kill()

        assert "each replica keeps its share" in await first.check()


async def test_a_redis_that_is_full_and_lets_nothing_go_is_told(own_redis):
    async with replicas(own_redis.url) as (first, _), redis.asyncio.Redis.from_url(own_redis.url) as line:
        await line.config_set("maxmemory", 1)

        assert "OutOfMemoryError" in await first.check()


async def test_a_redis_that_stands_still_delays_one_request_and_not_each(own_redis):
    async with replicas(own_redis.url, deadline_s=0.25, requests_per_minute=1_000) as (first, _):
        await first.take_request(SHOP)
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            results = await asyncio.gather(*(let_through(first) for _ in range(200)))
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)

        assert all(results)
        assert "TimeoutError" in first.last_error


WRONG = [b"OK", None, -5, True, [99999999999, -5], [b"1", b"2"], [0, 10**12], [1], [True, True]]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
async def test_a_redis_that_answers_wrongly_is_lost_until_it_does_not(redis_url, monkeypatch, wrong):
    async def answers(*_):
        return wrong

    async with replicas(redis_url, requests_per_minute=100) as (first, _):
        with monkeypatch.context() as there:
            for script in ("_lease", "_spend"):
                there.setattr(first, script, answers)
            await first.charge_tokens(LANTERN, 10)
            assert "each replica keeps its share" in first.last_error
            assert sum([await let_through(first) for _ in range(100)]) == 50
        while await first.check():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

        first._usages["lantern"].synced_s = 0  # as if a second had passed
        await first.check_tokens(LANTERN)
        await first.take_request(SHOP)

        assert (first.last_error, first._usages["lantern"].total) == ("", 10)


async def test_a_budget_of_tokens_is_spent_over_replicas_and_another_tenant_keeps_its_own(redis_url):
    async with replicas(redis_url, tokens_per_day=1_000) as (first, second):
        answers = 0
        while True:
            quotas = (first, second)[answers % 2]
            try:
                await quotas.check_tokens(LANTERN)
            except QuotaExceeded as error:
                refusal = error
                break
            await quotas.charge_tokens(LANTERN, 10)
            answers += 1
        await first.check_tokens(SHOP)

    assert 100 <= answers <= 113  # an eighth of what was left may be untold
    assert 0 < refusal.retry_after_s <= 86_400
    assert "tokens" in str(refusal)


async def test_what_is_spent_is_told_when_a_replica_ends_and_remembered_when_redis_forgets(own_redis):
    async with replicas(own_redis.url, tokens_per_day=1_000) as (first, _):
        await first.check_tokens(LANTERN)
        await first.charge_tokens(LANTERN, 30)
    async with replicas(own_redis.url, tokens_per_day=30) as (later, _):
        with pytest.raises(QuotaExceeded):
            await later.check_tokens(LANTERN)
        own_redis.kill()  # nothing is on its disk
        own_redis.start()
        later._usages["lantern"].synced_s = 0  # as if a second had passed

        with pytest.raises(QuotaExceeded):
            await later.check_tokens(LANTERN)


async def test_the_first_answer_of_a_day_is_charged_also_where_nobody_has_looked_at_the_budget(
    monkeypatch,
):
    async with replicas(None, 1, tokens_per_day=100) as (alone,):
        await alone.charge_tokens(LANTERN, 100)
        with pytest.raises(QuotaExceeded):
            await alone.check_tokens(LANTERN)

        today = int(time.time() // 86_400) + 1
        monkeypatch.setattr("course_lib.deployment.quotas._today", lambda: today)
        await alone.charge_tokens(LANTERN, 100)

        with pytest.raises(QuotaExceeded):
            await alone.check_tokens(LANTERN)


async def test_a_clock_that_passes_midnight_and_is_put_back_gives_no_budget_back(monkeypatch):
    async with replicas(None, 1, tokens_per_day=100) as (alone,):
        await alone.charge_tokens(LANTERN, 100)
        today = int(time.time() // 86_400)
        monkeypatch.setattr("course_lib.deployment.quotas._today", lambda: today + 1)
        await alone.check_tokens(LANTERN)
        monkeypatch.setattr("course_lib.deployment.quotas._today", lambda: today)

        with pytest.raises(QuotaExceeded):
            await alone.check_tokens(LANTERN)


async def test_a_budget_holds_while_redis_is_lost(own_redis):
    own_redis.stop()
    async with replicas(own_redis.url, tokens_per_day=100) as (first, _):
        await first.check_tokens(LANTERN)
        await first.charge_tokens(LANTERN, 50)  # the other replica spends as much, as far as this one knows

        with pytest.raises(QuotaExceeded):
            await first.check_tokens(LANTERN)


async def test_without_an_address_one_process_has_the_whole_limit():
    async with replicas(None, 1, requests_per_minute=10) as (alone,):
        assert sum([await let_through(alone) for _ in range(20)]) == 10
        assert alone.last_error == ""


POISON = {
    "another type": ("r:lantern", lambda line, key: line.sadd(key, "x")),
    "a field that is no slot": ("r:lantern", lambda line, key: line.hset(key, "x", 1)),
    "a count that is none": ("r:lantern", lambda line, key: line.hset(key, str(int(time.time() / 600)), "x")),
    "a total of another type": ("t:lantern", lambda line, key: line.sadd(key, "x")),
    "a total that is none": ("t:lantern", lambda line, key: line.set(key, "x")),
    "a total beyond all": ("t:lantern", lambda line, key: line.set(key, "9" * 30)),
}


@pytest.mark.parametrize("name", POISON)
async def test_what_somebody_else_wrote_into_a_key_is_dropped_and_redis_is_not_taken_for_lost(
    redis_url, name
):
    key, poison = POISON[name]
    key = f"course:quota:{key}" + (f":{int(time.time() // 86_400)}" if key[0] == "t" else "")
    async with redis.asyncio.Redis.from_url(redis_url) as line, replicas(redis_url) as (first, _):
        await poison(line, key)
        assert await line.exists(key)

        await first.take_request(LANTERN)
        await first.charge_tokens(LANTERN, 10)

        assert first.last_error == ""
        assert await line.type(key) == (b"hash" if key.startswith("course:quota:r") else b"string")
