"""Single-flight across processes: leases in a real Redis, a process killed, Redis going away."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest
from redis.lock import Lock

from course_lib import lm
from course_lib.caching import TieredCache
from course_lib.caching.lease import Leases, _Lease
from course_lib.caching.redis_tier import RedisTier
from course_lib.services import Server
from tests.caching.front_parts import begin, caching, second_process, slow_model, until


@pytest.fixture
def tier(redis_url: str) -> Iterator[RedisTier]:
    tier = RedisTier(redis_url)
    yield tier
    tier.close()


@pytest.fixture
def cache(redis_url: str) -> Iterator[TieredCache]:
    with caching(TieredCache(redis_url=redis_url)) as cache:
        yield cache


def lease_of(tier: RedisTier, ttl_s: float = 5, longest_s: float = 60) -> _Lease:
    lock = Lock(tier.client, f"{tier.prefix}lease:k", timeout=ttl_s, thread_local=False)
    return _Lease(lock, time.monotonic() + longest_s)


class Holder:
    """A process's leases, taken and given back one by one."""

    def __init__(self, tier: RedisTier, **times: float) -> None:
        self.leases, self.tier = Leases(tier, **times), tier

    def take(self) -> tuple[_Lease, bool]:
        lock = Lock(
            self.tier.client, f"{self.tier.prefix}lease:k", timeout=self.leases.ttl_s, thread_local=False
        )
        lease = _Lease(lock, time.monotonic() + self.leases.longest_s)
        return lease, self.leases._take(lease, self.tier)

    def give_back(self, lease: _Lease) -> None:
        self.leases._give_back(lease, self.tier)


def test_one_process_holds_a_lease_and_the_next_one_after_it(tier: RedisTier) -> None:
    ours, theirs = Holder(tier), Holder(tier)
    lease, is_ours = ours.take()
    assert (is_ours, theirs.take()[1], ours.take()[1]) == (True, False, False)

    ours.give_back(lease)

    assert theirs.take()[1]


def test_a_lease_is_renewed_while_it_is_held_and_no_longer_than_a_call_may_take(tier: RedisTier) -> None:
    ours, theirs = Holder(tier, ttl_s=0.15, longest_s=0.6), Holder(tier)
    ours.take()

    time.sleep(0.4)
    assert not theirs.take()[1]
    until(lambda: theirs.take()[1])


def test_who_comes_late_gives_nothing_back_that_is_anothers(tier: RedisTier) -> None:
    ours, theirs = Holder(tier, ttl_s=0.05, longest_s=0.0), Holder(tier)
    lease, _ = ours.take()
    until(lambda: theirs.take()[1])

    ours.give_back(lease)

    assert not Holder(tier).take()[1]
    assert tier.last_error == ""


def test_a_task_that_was_cancelled_while_it_took_a_lease_holds_none(tier: RedisTier) -> None:
    ours = Holder(tier)
    lease = lease_of(tier)
    lease.is_over = True

    ours.leases._take(lease, tier)

    assert Holder(tier).take()[1]


def test_no_thread_stays_when_there_is_nothing_to_renew(tier: RedisTier) -> None:
    ours = Holder(tier, ttl_s=0.1)
    lease, _ = ours.take()
    assert ours.leases._renewer is not None

    ours.give_back(lease)

    until(lambda: ours.leases._renewer is None)


# Through the front. A second process takes some seconds: it is a Python that has to load DSPy.

CROWD = """
    async def crowd():
        return await asyncio.gather(*(model.acall("Two processes?") for _ in range(250)))
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(51) as pool:
        tasks = pool.submit(asyncio.run, crowd())
        answers = [*pool.map(lambda _: model("Two processes?"), range(250)), *tasks.result()]
    print(len(answers), len({str(answer) for answer in answers}), answers[0], flush=True)
"""


def test_a_thousand_callers_in_two_processes_make_one_call(redis_url: str, cache: TieredCache) -> None:
    model = cache.front(slow_model())

    async def crowd() -> list[Any]:
        return await asyncio.gather(*(model.acall("Two processes?") for _ in range(250)))

    with second_process(redis_url, CROWD) as other, ThreadPoolExecutor(51) as pool:
        lm.reset()
        begin(other)
        tasks = pool.submit(asyncio.run, crowd())
        answers = [*pool.map(lambda _: model("Two processes?"), range(250)), *tasks.result()]
        said = other.communicate(timeout=30)[0].strip()

    assert lm.ledger().requests == 1
    assert len({str(answer) for answer in answers}) == 1
    assert said == f"500 1 {answers[0]}"


def test_when_the_leading_process_is_killed_another_takes_over(redis_url: str, cache: TieredCache) -> None:
    model = cache.front(slow_model())
    code = """
        cache.leases.ttl_s = 0.5
        class Hangs:
            def complete(self, request):
                print("called", flush=True)
                time.sleep(60)
        model.copy(engine=Hangs())("Killed?")
    """

    with second_process(redis_url, code) as other, ThreadPoolExecutor(1) as pool:
        try:
            begin(other)
            assert other.stdout is not None
            assert other.stdout.readline() == "called\n"
            ours = pool.submit(model, "Killed?")
            time.sleep(0.7)  # longer than the lease, which is renewed
            assert not ours.done()
        finally:
            other.kill()
        answer = ours.result(timeout=10)

    assert answer
    assert lm.ledger().requests == 1


def test_an_answer_of_another_process_costs_no_lease(redis_url: str, cache: TieredCache) -> None:
    model = cache.front(slow_model())
    code = 'print(model("Shared?")[0], flush=True)'
    with second_process(redis_url, code) as other:
        begin(other)
        said = other.communicate(timeout=20)[0].strip()

    assert model("Shared?") == [said]
    assert asyncio.run(model.acall("Shared?")) == [said]
    assert lm.ledger().requests == 1
    assert cache.stats().hits == {"redis": 1, "memory": 1}


def test_a_cancelled_leader_leaves_no_lease_behind(cache: TieredCache) -> None:
    model = cache.front(slow_model())

    async def cancel_after(delay_s: float) -> None:
        task = asyncio.create_task(model.acall(f"Cancelled after {delay_s}?"))
        await asyncio.sleep(delay_s)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    for n in range(12):
        asyncio.run(cancel_after(n * 0.002))
    assert cache.shared is not None
    shared = cache.shared
    until(lambda: shared.attempt(lambda client: client.keys("*lease*"), None) == [], "no lease is left")


def test_callers_who_share_no_errors_share_the_answer_still(cache: TieredCache) -> None:
    model = cache.front(slow_model())
    models = [model.copy(num_retries=n % 4) for n in range(16)]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda one: one("Whose errors?"), models))

    assert len({str(answer) for answer in answers}) == 1
    assert lm.ledger().requests == 1


def test_with_redis_gone_a_process_still_makes_one_call(own_redis: Server) -> None:
    with caching(TieredCache(redis_url=own_redis.url)) as cache:
        model = cache.front(slow_model())
        own_redis.kill()

        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: model("Gone?"), range(20)))

    assert len({str(answer) for answer in answers}) == 1
    assert lm.ledger().requests == 1


def test_a_leader_that_fails_gives_its_lease_back(cache: TieredCache) -> None:
    slow_model()
    lm.profile("down", unavailable_rate=1.0)
    model = cache.front(lm.connect("sim-large@down", num_retries=0))

    with pytest.raises(dspy.LMServerError):
        model("Down?")
    with pytest.raises(dspy.LMServerError):
        asyncio.run(model.acall("Down?"))

    assert cache.shared is not None
    assert not cache.shared.attempt(lambda client: client.keys("*lease*"), None)
