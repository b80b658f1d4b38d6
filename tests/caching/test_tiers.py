"""What every tier does, whatever it is made of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from course_lib.caching.disk import DiskTier
from course_lib.caching.memory import MemoryTier
from course_lib.caching.redis_tier import RedisTier


@pytest.fixture(params=["memory", "redis", "disk"])
def tier(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    made: Any
    if request.param == "memory":
        made = MemoryTier(10**6)
    elif request.param == "redis":
        made = RedisTier(request.getfixturevalue("redis_url"))
    else:
        made = DiskTier(tmp_path / "cache.db", 10**6)
    assert made.name == request.param
    yield made
    assert made.last_error == ""
    made.close()
    assert made.get("a") is None


def test_a_value_comes_back_as_it_was(tier: Any):
    for value in (b"v", b"\x00\xff\r\n", b"x" * 100_000):
        assert tier.put("a", value, ttl_s=60)
        assert tier.get("a") == value
    assert tier.get("b") is None


def test_a_value_runs_out(tier: Any):
    tier.put("replaced", b"old", ttl_s=60)
    lives_s = {"replaced": 0, "over": -5.0, "short": 0.05, "endless": None, "long": float("inf")}
    kept = [tier.put(name, b"v", ttl_s=ttl_s) for name, ttl_s in lives_s.items()]
    time.sleep(0.06)

    assert kept == [False, False, True, True, True]
    assert [tier.get(name) for name in lives_s] == [None] * 3 + [b"v"] * 2


def test_deleting_drops_these_and_clearing_everything(tier: Any):
    for key in "abc":
        tier.put(key, b"v" * 200_000, ttl_s=60, tags=("t",))
    full = tier.size_bytes()

    assert tier.delete(["a", "b", "none"]) == 2
    assert tier.delete([]) == 0
    assert [tier.get(key) is None for key in "abc"] == [True, True, False]
    tier.clear()
    assert tier.get("c") is None
    assert 0 <= tier.size_bytes() < full
    assert tier.drop_tag("t") == 0


def test_a_tag_drops_what_was_put_with_it_last(tier: Any):
    for n in range(1020):
        tier.put(str(n), b"v", ttl_s=60, tags=("a", "b") if n % 2 else ("b",))
    tier.put("other", b"v", ttl_s=60, tags=("c",))
    tier.put("other", b"w", ttl_s=60, tags=("new",))

    assert [tier.drop_tag(tag) for tag in ("a", "a")] == [510, 0]
    assert (tier.get("1"), tier.get("2")) == (None, b"v")
    assert tier.drop_tag("b") == 510
    assert tier.get("other") == b"w"
    assert tier.drop_tag("new") == 1
    assert tier.get("other") is None


def test_strange_names_are_names_like_others(tier: Any):
    for name in (" ", "a:b", "*", "[x]", "läßt", "\n", "\x00", "'; DROP TABLE entry", "x" * 5000):
        assert tier.put(name, name.encode(), ttl_s=60, tags=(name,))
        assert tier.get(name) == name.encode()
        assert tier.drop_tag(name) == 1
        assert tier.get(name) is None

    tier.put("\ud800", b"v", ttl_s=60, tags=("\ud800",))  # half a character does no harm
    assert tier.put("a", b"v", ttl_s=60)
