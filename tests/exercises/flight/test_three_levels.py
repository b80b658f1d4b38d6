"""The cache of a flight: ours pass the learners' checks; what the file level and the joined cache promise."""

from __future__ import annotations

import pytest

from course_lib.exercises.engine import registry
from course_lib.exercises.engine.checking import judge
from course_lib.exercises.flight import File, ThreeLevels
from course_lib.exercises.flight.three_levels import Counted, Lookup, Memory, Shared, warm
from course_lib.services import running_redis

pytestmark = pytest.mark.anyio
OURS = {"6.2.1": (Lookup,), "6.2.2": (Memory, Shared), "6.2.3": (Counted, warm)}


@pytest.mark.parametrize("stage", OURS)
def test_ours_pass(stage):
    result = judge(registry.get(stage), *OURS[stage])

    assert result.outcome == "passed", result.text


async def test_a_file_keeps_a_value_over_a_restart_until_its_time_is_over(tmp_path):
    now_s = [1000.0]
    file = File(tmp_path / "f", ttl_s=60, clock=lambda: now_s[0])
    await file.set("key", "value")
    file.close()

    file = File(tmp_path / "f", ttl_s=60, clock=lambda: now_s[0])
    assert await file.get("key") == "value"
    now_s[0] += 61
    assert await file.get("key") is None
    file.close()


async def test_a_file_that_is_no_database_is_set_aside(tmp_path):
    (tmp_path / "f").write_bytes(b"no database at all" * 100)
    file = File(tmp_path / "f")

    assert await file.get("key") is None
    await file.set("key", "value")

    assert await file.get("key") == "value"
    file.close()


async def test_a_new_copy_finds_in_redis_and_after_its_end_in_the_file(tmp_path):
    with running_redis(tmp_path / "r") as server:
        async with ThreeLevels(server.url, tmp_path) as cache:
            await cache.set("key", "value")
        async with ThreeLevels(server.url, tmp_path) as cache:
            assert await cache.get("key") == "value"
            assert cache.report()["hits"] == {"memory": 0, "redis": 1, "file": 0}
        server.kill()
        async with ThreeLevels(server.url, tmp_path) as cache:
            assert await cache.get("key") == "value"
            assert cache.report()["hits"] == {"memory": 0, "redis": 0, "file": 1}


class Stub:
    async def get(self, key): ...


async def test_a_stub_s_place_is_ours_and_half_characters_are_no_reason_to_fail(tmp_path):
    async with ThreeLevels(running_redis().url, tmp_path, Stub, Memory, Stub) as cache:
        await cache.set("half \ud800", "a value \ud800")

        assert await cache.get("half \ud800") == "a value \ud800"
        assert await cache.get("half \ud801") is None
        await cache.delete("half \ud800")
        assert await cache.get("half \ud800") is None
