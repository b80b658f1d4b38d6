"""What the server saw of a block, and for how long a loop stood still."""

from __future__ import annotations

import asyncio
import time

import pytest

from course_lib import lm
from course_lib.measure import longest_pause_ms, outcomes_of, until_quiet, watch

pytestmark = pytest.mark.anyio


async def test_a_block_s_requests_are_told_without_those_before_it():
    lm.connect()
    lm.profile("seen", first=["rate_limited"] * 2)
    model = lm.connect("sim-large@seen", cache=False, num_retries=0)
    await asyncio.gather(model.acall("Before?"), return_exceptions=True)

    with watch() as seen:
        await asyncio.gather(*(model.acall(f"Number {n}?") for n in range(4)), return_exceptions=True)

    assert seen.ledger.requests == 4
    assert seen.ledger.statuses[429] == 2
    assert str(seen).endswith(f"s: 4 requests, at most {seen.ledger.most_at_once} at once, 2 x 429")


async def test_an_error_leaves_the_block_and_what_was_seen_stands():
    with pytest.raises(ZeroDivisionError), watch() as seen:
        raise ZeroDivisionError

    assert seen.ledger.requests == 0
    assert seen.took_s > 0


async def test_quiet_is_when_a_cancelled_request_is_closed():
    lm.connect()
    lm.profile("seen-never", hang_rate=1.0)
    with watch() as seen:
        asking = asyncio.ensure_future(lm.connect("sim-large@seen-never", cache=False).acall("Anybody?"))
        while not lm.ledger().under_way:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        asking.cancel()
        await until_quiet()

    assert seen.ledger.statuses == {499: 1}


async def test_a_loop_that_a_call_blocks_stands_still_for_as_long():
    async def block() -> None:
        time.sleep(0.2)  # noqa: ASYNC251  that is the point

    assert await longest_pause_ms(block()) >= 190
    with pytest.raises(ZeroDivisionError):
        await longest_pause_ms(asyncio.to_thread(lambda: 1 / 0))


async def test_outcomes_are_counted_by_how_the_calls_ended():
    lm.profile("first-fails", first=["error"])
    asked = lm.connect("sim-large@first-fails", cache=False, num_retries=0)
    ends = await outcomes_of(asked.acall, ["one", "two", "three"], every_s=0.01)
    assert ends.pop("p95, s") > 0
    assert ends == {"LMServerError": 1, "answered": 2, "requests": 3}
