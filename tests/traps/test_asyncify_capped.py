"""`dspy.asyncify` runs eight calls at once in the whole process, and none of them can be cancelled."""

from __future__ import annotations

import asyncio

import dspy
import pytest

from course_lib import desk, lm
from course_lib.concurrency import AsyncRunner
from tests.traps.conftest import SOLVED

pytestmark = pytest.mark.anyio


@pytest.fixture
def model() -> dspy.LM:
    lm.connect()
    lm.profile("trap-even", ttft_p50_ms=150)
    lm.reset()
    return lm.connect("sim-large@trap-even", cache=False)


async def until_under_way(requests: int) -> None:
    while lm.ledger().under_way != requests:  # noqa: ASYNC110  nothing tells us
        await asyncio.sleep(0.01)


def tickets() -> list[dict[str, str]]:
    return [{"ticket": f"Where is parcel {number}?"} for number in range(24)]


async def test_plain_dspy_asks_eight_at_once(model):
    ask = dspy.asyncify(desk.Triage())

    with dspy.context(lm=model):
        await asyncio.gather(*(ask(**ticket) for ticket in tickets()))

    assert lm.ledger().most_at_once == 8, SOLVED.format("asyncify has no cap of its own")


async def test_plain_dspy_pays_for_what_nobody_waits_for(model):
    with dspy.context(lm=model):
        waiting = asyncio.ensure_future(dspy.asyncify(desk.Triage())(ticket="Where is my parcel?"))
    await until_under_way(1)
    waiting.cancel()
    await until_under_way(0)

    assert lm.ledger().statuses == {200: 1}, SOLVED.format("cancelling asyncify ends the request")


async def test_the_runner_asks_as_many_as_it_is_told_and_cancels_them(model):
    with dspy.context(lm=model):
        await AsyncRunner(16, progress=False).run(desk.Triage(), tickets())
    assert lm.ledger().most_at_once == 16
    lm.reset()

    with dspy.context(lm=model):
        running = asyncio.ensure_future(AsyncRunner(1, progress=False).run(desk.Triage(), tickets()[:1]))
    await until_under_way(1)
    running.cancel()
    await until_under_way(0)
    assert lm.ledger().statuses == {499: 1}
