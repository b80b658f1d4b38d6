"""What was dropped stays dropped: in every tier, in every process, also for answers that arrive late."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
import redis

from course_lib.caching import CacheMisuseError, TieredCache, scope
from course_lib.caching import invalidation as module
from tests.caching.test_cache import ask, make, record, request

make = make


def asked_as(cache: TieredCache, question: str = "q", **who: str) -> Any:
    with scope(**who):
        return ask(cache, question=question)


@pytest.mark.parametrize(
    ("named", "gone"),
    [
        ({"tenant": "acme"}, {"acme 1 1", "acme 1 2", "acme 2 1"}),
        ({"customer": "1"}, {"acme 1 1", "acme 1 2", "bolt 1 1"}),
        ({"version": "2"}, {"acme 1 2"}),
        ({"tenant": "acme", "customer": "1"}, {"acme 1 1", "acme 1 2"}),
        ({"tenant": "bolt", "customer": "1", "version": "1"}, {"bolt 1 1"}),
        ({"tenant": "nobody"}, set()),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_fits_all_that_is_named_goes_from_every_tier(make, redis_url, named, gone):
    cache, keys = make(redis_url=redis_url, disk=True), {}
    for who in ("acme 1 1", "acme 1 2", "acme 2 1", "bolt 1 1", ""):
        with scope(**dict(zip(("tenant", "customer", "version"), who.split(), strict=False))):
            ask(cache)
            keys[who] = cache.cache_key(request())

    assert cache.invalidate(**named) == len(gone)

    for who, key in keys.items():
        held = [tier.get(key) is not None for tier in (cache.memory, cache.shared, cache.disk)]
        assert held == [who not in gone] * 3


def test_an_invalidation_that_names_nobody_is_refused(make):
    with pytest.raises(CacheMisuseError, match="name a tenant"):
        make().invalidate()


@pytest.fixture
def two(make, redis_url) -> tuple[TieredCache, TieredCache]:
    """Two processes, as it were, of which the second has a disk; both look at Redis before each answer."""
    return make(redis_url=redis_url, lag_s=0), make(redis_url=redis_url, disk=True, lag_s=0)


def test_between_looks_a_process_may_serve_it_for_the_lag_and_no_longer(make, redis_url):
    here, there = make(redis_url=redis_url), make(redis_url=redis_url, lag_s=0.5)
    asked_as(there, tenant="acme")
    here.invalidate(tenant="acme")
    end_s = time.monotonic() + 0.5

    while asked_as(there, tenant="acme") is not None:
        assert time.monotonic() < end_s + 5
        time.sleep(0.02)


def cut_off(cache: TieredCache) -> Any:
    """Cut a cache off from its Redis; returns how to undo it."""
    attempt = cache.shared.attempt
    cache.shared.attempt = lambda work, otherwise, **options: otherwise
    return lambda: setattr(cache.shared, "attempt", attempt)


def test_an_invalidation_while_cut_off_holds_here_at_once_and_reaches_others_later(two):
    here, there = two
    for cache in two:
        asked_as(cache, tenant="acme")
    reconnect = cut_off(here)
    here.invalidate(tenant="acme")

    assert here.memory.size_bytes() == 0
    assert "1 invalidation" in here.stats().last_errors[0]
    reconnect()
    asked_as(here, tenant="bolt")
    assert asked_as(there, tenant="acme") is None
    assert here.stats().last_errors == ()


def test_who_missed_more_than_redis_remembers_starts_empty(two, monkeypatch):
    monkeypatch.setattr(module, "MOST_TAGS", 4)
    here, there = two
    asked_as(there, tenant="bolt")
    reconnect = cut_off(there)
    for tenant in "12345678":
        here.invalidate(tenant=tenant)

    reconnect()
    assert asked_as(there, tenant="bolt") is None


def lost(client: redis.Redis, _: bytes) -> None:
    client.flushall()


def as_it_was_earlier(client: redis.Redis, copy: bytes) -> None:
    """Restore a copy, as a replica does that had not heard the last: the newest time is not there."""
    client.restore("course:invalidated", 0, copy, replace=True)


def overwritten(client: redis.Redis, _: bytes) -> None:
    client.set("course:invalidated", "garbage")


@pytest.mark.parametrize("damage", [lost, as_it_was_earlier, overwritten])
def test_a_redis_that_forgot_invalidations_drops_what_it_may_have_forgotten(two, redis_url, damage):
    here, there = two
    asked_as(there, tenant="acme")
    with redis.Redis.from_url(redis_url) as client:
        copy = client.dump("course:invalidated")
        here.invalidate(tenant="acme")
        damage(client, copy)

    asked_as(here, tenant="bolt")  # notices, since it knows of a later one
    assert asked_as(there, tenant="acme") is None
    assert asked_as(there, tenant="acme") == record()
    assert here.stats().last_errors == ()


def test_without_redis_answers_from_after_an_invalidation_are_found_on_disk(make):
    cache = make(disk=True)
    asked_as(cache, tenant="acme")
    cache.invalidate(tenant="acme")
    assert asked_as(cache, tenant="acme") is None
    cache.memory.clear()

    assert asked_as(cache, tenant="acme") == record()
    assert asked_as(make(disk=True), tenant="acme") == record()


def test_a_disk_that_was_not_there_at_the_time_serves_nothing_that_was_dropped(make, redis_url):
    stopped = make(redis_url=redis_url, disk=True)
    for tenant in ("acme", "bolt"):
        asked_as(stopped, tenant=tenant)
    stopped.close()
    make(redis_url=redis_url).invalidate(tenant="acme")

    restarted = make(redis_url=redis_url, disk=True)
    restarted.shared.clear()
    assert [asked_as(restarted, tenant=tenant) for tenant in ("bolt", "acme")] == [record(), None]
    assert restarted.stats().refused == {"disk": 1}


def test_a_disk_is_not_read_before_redis_has_told_what_was_dropped(make, tmp_path: Path):
    asked_as(make(disk=True), tenant="acme")
    cache = make(disk=True, redis_url=f"unix://{tmp_path}/nobody")

    assert asked_as(cache, tenant="acme") is None
    assert "on disk for a tenant is not served" in cache.stats().last_errors[-1]
    assert asked_as(cache, tenant="acme") == record()  # its own


def test_an_answer_asked_before_an_invalidation_is_not_kept_nor_are_those_of_all_who_asked_meanwhile(make):
    cache = make()
    with scope(tenant="acme"):
        assert cache.get(request()) is None
        cache.invalidate(tenant="acme")
        cache.get(request())
        for _ in range(2):
            cache.put(request(), record("old"))
        assert cache.get(request()) is None
        cache.put(request(), record("new"))

        assert cache.get(request()) == record("new")
    assert cache.stats().not_kept == {"asked before an invalidation": 2}


def test_an_old_answer_that_slips_into_redis_is_refused_by_whoever_finds_it(make, redis_url):
    """The writer looked at the log just before the invalidation, and wrote just after it."""
    here, there = make(redis_url=redis_url, lag_s=0), make(redis_url=redis_url, lag_s=3600)
    with scope(tenant="acme"):
        there.get(request())
        here.invalidate(tenant="acme")
        there.put(request(), record("old"))

        assert here.get(request()) is None


def test_times_of_invalidations_grow_though_the_clock_of_redis_goes_back(make, redis_url):
    cache = make(redis_url=redis_url, lag_s=0)
    with redis.Redis.from_url(redis_url) as client:
        far_ahead = 10**6 * int(time.time() + 86_400)
        client.zadd("course:invalidated", {"": far_ahead, "some tag": far_ahead})
    asked_as(cache, tenant="acme")
    cache.invalidate(tenant="acme")

    assert asked_as(cache, tenant="acme") is None
    assert asked_as(cache, tenant="acme") == record()
    assert cache.stamp[0] == far_ahead + 1


@pytest.mark.parametrize("tag", ["", "some tag"])
@pytest.mark.parametrize("time_us", ["inf", "-inf", 1e300, -5])
def test_a_time_that_is_not_ours_is_dropped_and_invalidations_go_on(make, redis_url, tag, time_us):
    cache = make(redis_url=redis_url, lag_s=0)
    asked_as(cache, tenant="acme")
    with redis.Redis.from_url(redis_url) as client:
        client.zadd("course:invalidated", {tag: time_us})
    cache.invalidate(tenant="acme")

    assert asked_as(cache, tenant="acme") is None
    assert asked_as(cache, tenant="acme") == record()
    assert cache.stats().last_errors == ()
    assert cache.stamp[0] < 2**53


@pytest.mark.parametrize("seed", range(6))
def test_whoever_reaches_redis_serves_nothing_that_was_dropped(make, redis_url, seed, tmp_path):
    """Three processes ask, answer late, drop, are cut off and come back; Redis loses its data at times."""
    dice, world, told, served = random.Random(seed), Counter(), Counter(), 0
    caches = [make(redis_url=redis_url, lag_s=0, disk_path=tmp_path / f"{n}.db") for n in range(3)]
    under_way, reconnect, untold = [], {}, defaultdict(Counter)
    for _ in range(500):
        n, tenant, question = dice.randrange(3), dice.choice(["acme", "bolt"]), str(dice.randrange(3))
        match dice.choice(["ask"] * 24 + ["answer"] * 16 + ["drop", "drop", "cut", "lose"] + ["back"] * 6):
            case "ask":
                with scope(tenant=tenant):
                    found = caches[n].get(request(question))
                if found is None:
                    under_way.append((n, tenant, question, world[tenant]))
                elif n not in reconnect:
                    served += 1
                    assert int(found["outputs"][0]) >= told[tenant]
            case "answer" if under_way:
                n, tenant, question, version = under_way.pop(dice.randrange(len(under_way)))
                with scope(tenant=tenant):
                    caches[n].put(request(question), record(str(version)))
            case "drop":
                world[tenant] += 1
                caches[n].invalidate(tenant=tenant)
                (untold[n] if n in reconnect else told)[tenant] = world[tenant]
            case "cut" if n not in reconnect:
                reconnect[n] = cut_off(caches[n])
            case "back" if n in reconnect:
                reconnect.pop(n)()
                caches[n]._invalidations.look(now=True)
                told |= untold.pop(n, Counter())
            case "lose":
                with redis.Redis.from_url(redis_url) as client:
                    client.flushall()

    assert served > 5
