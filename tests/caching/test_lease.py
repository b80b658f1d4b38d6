"""Single-flight across processes: leases in a real Redis, a process killed, Redis going away."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest

from course_lib import lm
from course_lib.caching.bells import ThreadBell
from course_lib.caching.lease import Lease, Leases
from course_lib.caching.redis_tier import RedisTier
from course_lib.caching.tiered import TieredCache
from course_lib.services.redis import Server
from tests.caching.front_parts import begin, caching, second_process, slow_model


@pytest.fixture
def tier(redis_url: str) -> Iterator[RedisTier]:
    tier = RedisTier(redis_url)
    yield tier
    tier.close()


@pytest.fixture
def cache(redis_url: str) -> Iterator[TieredCache]:
    with caching(TieredCache(redis_url=redis_url)) as cache:
        yield cache


def test_one_process_gets_the_lease_and_the_other_is_told_when_it_is_given_back(tier: RedisTier) -> None:
    ours, theirs, lease, bell = Leases(tier), Leases(tier, poll_s=0.02), Lease("k"), ThreadBell()
    assert ours.take(lease)
    assert not theirs.take(Lease("k"))

    with theirs.expecting("k", bell):
        threading.Timer(0.05, ours.release, [lease]).start()
        begin_s = time.monotonic()
        bell.wait(5)

    assert time.monotonic() - begin_s < 2
    assert theirs.take(Lease("k"))


def test_a_lease_is_renewed_while_it_is_held(tier: RedisTier) -> None:
    ours, lease = Leases(tier, ttl_s=0.15), Lease("k")
    assert ours.take(lease)

    time.sleep(0.4)

    assert not Leases(tier).take(Lease("k"))
    ours.release(lease)


def test_a_lease_that_nobody_renews_runs_out(tier: RedisTier) -> None:
    ours, theirs, bell = Leases(tier, ttl_s=0.1, longest_s=0.0), Leases(tier, poll_s=0.02), ThreadBell()
    assert ours.take(Lease("k"))
    assert not theirs.take(Lease("k"))

    with theirs.expecting("k", bell):
        bell.wait(5)

    assert theirs.take(Lease("k"))


def test_who_comes_late_gives_nothing_back_that_is_anothers(tier: RedisTier) -> None:
    ours, lease = Leases(tier, ttl_s=0.05, longest_s=0.0), Lease("k")
    assert ours.take(lease)
    time.sleep(0.1)
    assert Leases(tier).take(Lease("k"))

    ours.release(lease)

    assert not Leases(tier).take(Lease("k"))


def test_two_callers_of_one_process_do_not_hold_the_same_lease(tier: RedisTier) -> None:
    leases, lease, bell = Leases(tier, poll_s=0.02), Lease("k"), ThreadBell()
    assert leases.take(lease)
    assert not leases.take(Lease("k"))

    with leases.expecting("k", bell):
        leases.release(lease)
        bell.wait(5)

    assert leases.take(Lease("k"))


def test_in_one_process_a_lease_held_too_long_passes_to_who_overtakes(tier: RedisTier) -> None:
    leases, first, second = Leases(tier, longest_s=0.0), Lease("k"), Lease("k")
    assert leases.take(first)
    assert leases.take(second)

    leases.release(first)
    assert not Leases(tier).take(Lease("k"))
    leases.release(second)
    assert Leases(tier).take(Lease("k"))


def test_a_cancelled_task_gives_back_without_waiting_for_redis(tier: RedisTier) -> None:
    ours, theirs, lease, bell = Leases(tier), Leases(tier, poll_s=0.02), Lease("k"), ThreadBell()
    assert ours.take(lease)

    with theirs.expecting("k", bell):
        ours.release_soon(lease)
        bell.wait(5)

    assert theirs.take(Lease("k"))


def test_a_task_that_is_cancelled_while_it_takes_a_lease_holds_none(tier: RedisTier) -> None:
    ours, lease = Leases(tier), Lease("k")

    ours.release_soon(lease)
    ours.take(lease)

    assert Leases(tier).take(Lease("k"))


def test_without_redis_nobody_waits_for_another_process(own_redis: Server) -> None:
    tier = RedisTier(own_redis.url)
    ours, theirs, bell = Leases(tier), Leases(tier, poll_s=0.02), ThreadBell()
    assert ours.take(Lease("k"))
    assert not theirs.take(Lease("k"))
    own_redis.kill()

    with theirs.expecting("k", bell):
        begin_s = time.monotonic()
        bell.wait(10)

    assert time.monotonic() - begin_s < 5
    assert theirs.take(Lease("other"))
    assert not theirs.take(Lease("other"))  # within a process one leads
    tier.close()


def test_no_thread_stays_when_there_is_nothing_to_do(tier: RedisTier) -> None:
    leases, lease = Leases(tier), Lease("k")
    assert leases.take(lease)
    leases.release(lease)

    end_s = time.monotonic() + 5
    while leases._keeper is not None:
        assert time.monotonic() < end_s
        time.sleep(0.02)


# Through the front, with a second process.

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


def test_a_crowd_at_the_very_start_makes_one_call(cache: TieredCache) -> None:
    program = dspy.Predict("question -> answer")
    program.set_lm(cache.front(slow_model()))
    threads = [threading.Thread(target=program, kwargs={"question": "First of all?"}) for _ in range(100)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert lm.ledger().requests == 1


def test_when_the_leading_process_is_killed_another_takes_over(redis_url: str, cache: TieredCache) -> None:
    model = cache.front(slow_model())
    code = """
        from course_lib.caching.front import sharing
        from course_lib.caching.lease import Leases
        sharing(cache).leases = Leases(cache.shared, ttl_s=0.5)
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
    end_s = time.monotonic() + 5
    assert cache.shared is not None
    while cache.shared.attempt(lambda client: client.keys("*lease*"), None):
        assert time.monotonic() < end_s
        time.sleep(0.02)


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


def test_a_leader_who_fails_gives_its_lease_back(cache: TieredCache) -> None:
    slow_model()
    lm.profile("down", unavailable_rate=1.0)
    model = cache.front(lm.connect("sim-large@down", num_retries=0))

    with pytest.raises(dspy.LMServerError):
        model("Down?")
    with pytest.raises(dspy.LMServerError):
        asyncio.run(model.acall("Down?"))

    assert cache.shared is not None
    assert not cache.shared.attempt(lambda client: client.keys("*lease*"), None)
