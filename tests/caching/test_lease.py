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

from course_lib import lm
from course_lib.caching import TieredCache
from tests.caching.front_parts import begin, caching, second_process, slow_model, until


@pytest.fixture
def cache(redis_url: str) -> Iterator[TieredCache]:
    with caching(TieredCache(redis_url=redis_url)) as cache:
        yield cache


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
    copies = [model.copy(num_retries=n) for n in range(5)]  # they share no errors, but the answer

    async def crowd() -> list[Any]:
        return await asyncio.gather(*(model.acall("Two processes?") for _ in range(250)))

    with second_process(redis_url, CROWD) as other, ThreadPoolExecutor(51) as pool:
        lm.reset()
        begin(other)
        tasks = pool.submit(asyncio.run, crowd())
        answers = [*pool.map(lambda one: one("Two processes?"), copies * 50), *tasks.result()]
        said = other.communicate(timeout=30)[0].strip()

    assert lm.ledger().requests == 1
    assert len({str(answer) for answer in answers}) == 1
    assert said == f"500 1 {answers[0]}"
    cache.memory.clear()
    assert model("Two processes?") == answers[0]  # from Redis
    assert lm.ledger().requests == 1


def test_when_the_leading_process_is_killed_another_takes_over(redis_url: str, cache: TieredCache) -> None:
    model = cache.front(slow_model())
    code = """
        from course_lib.caching import redis_tier
        redis_tier.LEASE_S = 0.5
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
            time.sleep(0.8)  # longer than the lease, which is renewed
            assert not ours.done()
        finally:
            other.kill()
        answer = ours.result(timeout=10)

    assert answer
    assert lm.ledger().requests == 1


def leases(cache: TieredCache) -> Any:
    """Return the names of the leases that are held."""
    assert cache.shared is not None
    return cache.shared.attempt(lambda client: client.keys("*lease*"), None)


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
    until(lambda: leases(cache) == [], "no lease is left")


def test_a_leader_that_fails_gives_its_lease_back(cache: TieredCache) -> None:
    slow_model()
    lm.profile("down", unavailable_rate=1.0)
    model = cache.front(lm.connect("sim-large@down", num_retries=0))

    for call in (model, lambda question: asyncio.run(model.acall(question))):
        with pytest.raises(dspy.LMServerError):
            call("Down?")
        until(lambda: leases(cache) == [], "no lease is left")
