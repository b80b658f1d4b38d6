"""Our own parts do what the protocols say, also when something under them is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from course_lib.exercises.engine import registry
from course_lib.exercises.engine.checking import judge
from course_lib.flight.parts import Busy, Servers
from course_lib.flight.reference import BoundedRunner, EvidentCanary, Levels
from course_lib.flight.system import answered

pytestmark = pytest.mark.anyio


def servers(redis_url: str, folder: Path) -> Servers:
    return Servers(redis_url, "", folder)


async def test_a_cache_goes_on_when_redis_is_gone_and_raises_nothing(own_redis, tmp_path):
    async with Levels(servers(own_redis.url, tmp_path)) as cache:
        await cache.set("key", "value")
        own_redis.kill()

        assert await cache.get("key") == "value"
        await cache.set("other", "later")
        assert (await cache.get("other"), await cache.get("none")) == ("later", None)


async def test_another_cache_finds_what_was_kept_in_redis(own_redis, tmp_path):
    async with Levels(servers(own_redis.url, tmp_path / "one")) as one:
        await one.set("key", "value")
    async with Levels(servers(own_redis.url, tmp_path / "two"), is_local=False) as two:
        assert await two.get("key") == "value"


async def test_a_runner_refuses_what_has_no_place_and_ends_what_is_late():
    runner, under_way = BoundedRunner(servers("", Path()), limit=2), asyncio.Event()

    async def call() -> str:
        await under_way.wait()
        return "done"

    running = [asyncio.create_task(runner.run(call, 60.0)) for _ in range(6)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await asyncio.gather(*(runner.run(call, 60.0) for _ in range(1)))
    under_way.set()
    assert await asyncio.gather(*running) == ["done"] * 6
    with pytest.raises(TimeoutError):
        await runner.run(asyncio.Event().wait, 0.01)


async def test_a_canary_that_is_worse_is_taken_back_and_one_that_is_not_stays():
    for is_good, expected in ((False, {"1"}), (True, {"1", "2"})):
        canary = EvidentCanary(servers("", Path()))
        canary.deploy("2")
        for number in range(100):
            version = canary.version(f"q-{number}")
            canary.saw(version, is_good=is_good or version == "1")

        assert {canary.version(f"q-{number}") for number in range(100)} == expected


def test_our_reply_passes_its_stage():
    result = judge(registry.get("6.7.1"), answered)

    assert result.outcome == "passed", result.text
