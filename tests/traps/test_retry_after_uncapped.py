"""DSPy waits as long as a server's Retry-After says; under a limiter, a cap and a deadline hold."""

from __future__ import annotations

import asyncio

import dspy
import pytest

from course_lib import lm
from course_lib.concurrency import RateDeadlineExceeded, RateLimit, limited
from course_lib.resilience import Deadline
from tests.traps.conftest import SOLVED

pytestmark = pytest.mark.anyio


@pytest.fixture
def model() -> dspy.LM:
    """A model whose server asks once to wait for an hour."""
    lm.connect()
    lm.profile("trap-hour", first=["rate_limited"], retry_after_s=3600)
    lm.reset()
    return lm.connect("sim-large@trap-hour", cache=False, num_retries=1)


async def test_plain_dspy_waits_for_an_hour(model, monkeypatch):
    waits_s: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float, *_: object) -> None:
        waits_s.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    await model.acall("Is somebody there?")

    assert max(waits_s) >= 3600, SOLVED.format("there is a cap on Retry-After")


async def test_the_wait_ends_at_the_cap(model):
    capped = limited(model, RateLimit(longest_wait_s=0.1))

    assert await asyncio.wait_for(capped.acall("Is somebody there?"), 30)


async def test_a_wait_beyond_the_deadline_fails_at_once(model):
    with Deadline.after(20).applied(), pytest.raises(RateDeadlineExceeded):
        await limited(model, RateLimit()).acall("Is somebody there?")
    assert lm.ledger().requests == 1
