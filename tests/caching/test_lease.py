"""Single-flight across processes: leases in a real Redis, a process killed, Redis going away."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest

from course_lib import lm
from course_lib.caching import CachedLM, TieredCache
from tests.caching.conftest import begin, read_line, second_process, until


@pytest.fixture
def cache(redis_url: str, give_dspy: Any) -> TieredCache:
    return give_dspy(TieredCache(redis_url=redis_url))


CROWD = """
    async def crowd():
        return await asyncio.gather(*(model.acall("Two processes?") for _ in range(250)))
    answers = asyncio.run(crowd())
    print(len({str(answer) for answer in answers}), answers[0], flush=True)
"""


def test_hundreds_of_callers_in_two_processes_make_one_call(redis_url: str, model: CachedLM) -> None:
    copies = [model.copy(num_retries=n) for n in range(5)]  # they share no errors, but the answer

    with second_process(redis_url, CROWD) as other, ThreadPoolExecutor(50) as pool:
        lm.reset()
        begin(other)
        answers = list(pool.map(lambda one: one("Two processes?"), copies * 50))
        said = read_line(other)

    assert lm.ledger().requests == 1
    assert len({str(answer) for answer in answers}) == 1
    assert said == f"1 {answers[0]}"
    dspy.cache.memory.clear()
    assert model("Two processes?") == answers[0]  # from Redis
    assert lm.ledger().requests == 1


def test_when_the_leading_process_is_killed_another_takes_over(redis_url: str, model: CachedLM) -> None:
    code = """
        from course_lib.caching import redis_tier
        redis_tier.LEASE_S = 1.0
        class Hangs:
            def complete(self, request):
                print("called", flush=True)
                time.sleep(60)
        model.copy(engine=Hangs())("Killed?")
    """

    with second_process(redis_url, code) as other, ThreadPoolExecutor(1) as pool:
        try:
            begin(other)
            assert read_line(other) == "called"
            ours = pool.submit(model, "Killed?")
            time.sleep(1.3)  # longer than the lease, which is renewed
            assert not ours.done()
        finally:
            other.kill()

    assert ours.result()
    assert lm.ledger().requests == 1


async def cancelled_after(model: CachedLM, delay_s: float) -> None:
    task = asyncio.create_task(model.acall(f"Cancelled after {delay_s}?"))
    await asyncio.sleep(delay_s)
    task.cancel()
    await asyncio.wait([task])


def test_a_leader_that_is_cancelled_or_fails_leaves_no_lease_behind(
    cache: TieredCache, model: CachedLM
) -> None:
    lm.profile("down", unavailable_rate=1.0)
    down = cache.front(lm.connect("sim-large@down", num_retries=0))

    for n in range(12):
        asyncio.run(cancelled_after(model, n * 0.002))
    for call in (down, lambda question: asyncio.run(down.acall(question))):
        with pytest.raises(dspy.LMServerError):
            call("Down?")

    shared = cache.shared
    assert shared is not None
    until(lambda: shared.attempt(lambda client: client.keys("*lease*"), None) == [], "no lease is left")
