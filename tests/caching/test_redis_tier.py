"""The Redis tier when Redis is down, slow, full, or holds what is not ours: misses, soon, and no error."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from course_lib.caching.redis_tier import RedisTier
from course_lib.caching.tiers import LARGEST_BYTES
from course_lib.caching.wire import unpacked
from course_lib.services import Server
from tests.caching.conftest import until


@pytest.fixture
def server(own_redis: Server) -> Iterator[redis.Redis]:
    """A client of a server of this test's own."""
    with redis.Redis.from_url(own_redis.url) as client:
        yield client


@pytest.fixture
def tier(own_redis: Server) -> Iterator[RedisTier]:
    """A tier on that server, with one entry."""
    with closing(RedisTier(own_redis.url, deadline_s=0.1, first_wait_s=0.02)) as tier:
        assert tier.put("a", b"v", ttl_s=60)
        yield tier


def recovers(tier: RedisTier) -> bool:
    until(lambda: tier.put("recovered", b"v", ttl_s=60) and tier.get("recovered") == b"v")
    return tier.last_error == ""


@pytest.mark.parametrize("is_hung", [False, True], ids=["killed", "hung"])
def test_a_server_that_is_gone_is_a_miss_until_it_is_back(own_redis, tier, is_hung):
    os.kill(own_redis.pid, signal.SIGSTOP) if is_hung else own_redis.kill()

    assert [tier.get("a") for _ in range(50)] == [None] * 50
    assert tier.put("b", b"v", ttl_s=60) is False
    assert (tier.delete(["a"]), tier.drop_tag("t"), tier.size_bytes()) == (0, 0, 0)
    tier.clear()
    assert ("does not answer in time" if is_hung else "it cannot be reached") in tier.last_error
    assert "\n" not in tier.last_error

    os.kill(own_redis.pid, signal.SIGCONT) if is_hung else own_redis.start()
    assert recovers(tier)
    assert tier.get("a") == (b"v" if is_hung else None)


def test_a_full_server_refuses_writes_and_is_read_all_the_same(server, tier):
    server.config_set("maxmemory", 4 * 2**20, "maxmemory-policy", "noeviction")
    number = next(n for n in range(99) if not tier.put(str(n), b"secret" * 16_000, ttl_s=60))

    assert "refuses writes: command not allowed when used memory" in tier.last_error
    assert "secret" not in tier.last_error
    assert all(tier.get(str(n)) for n in range(number))
    assert tier.put("b", b"v" * 100_000, ttl_s=60) is False

    tier.delete(map(str, range(number)))
    assert recovers(tier)


@pytest.mark.parametrize("stale", ["yes", "no"])
def test_a_server_made_a_replica_is_left_at_once(server, tier, stale):
    """What stands at the address may be another server by now: no connection to the old one goes on."""
    ours = {each["id"] for each in server.client_list()} - {str(server.client_id())}
    server.config_set("replica-serve-stale-data", stale)
    server.replicaof("127.0.0.1", 1)
    assert tier.put("b", b"v", ttl_s=60) is False
    assert tier.get("a") == (b"v" if stale == "yes" else None)  # it can be read all the same
    left = {each["id"] for each in server.client_list()}
    assert tier.last_error
    server.replicaof("NO", "ONE")

    assert ours
    assert not ours & left
    assert recovers(tier)


def test_a_write_that_meets_a_replica_is_tried_on_the_server_that_took_its_place(tier):
    errors = [redis.ReadOnlyError("You can't write against a read only replica.")]

    def work(client: redis.Redis) -> bool:
        if errors:
            raise errors.pop()
        return bool(client.ping())

    assert tier.attempt(work, otherwise=False, writes=True)
    assert tier.last_error == ""


STORES = {
    "pickle": lambda client, name: client.set(name, b"\x80\x04\x95garbage"),
    "our beginning": lambda client, name: client.set(name, b"ADC\x03"),
    "nothing": lambda client, name: client.set(name, b""),
    "hash": lambda client, name: client.hset(name, "a", "b"),
    "stream": lambda client, name: client.xadd(name, {"a": "b"}),
    "30 MB": lambda client, name: client.setrange(name, 30 * 2**20, b"x"),
}


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_foreign_values_are_misses_and_are_replaced(server, tier, store):
    server.delete("course:e:a")
    store(server, "course:e:a")

    assert unpacked(tier.get("a") or b"", "a") is None
    assert tier.last_error == ""
    assert tier.put("a", b"ours", ttl_s=60)
    assert tier.get("a") == b"ours"


def test_foreign_values_among_the_notes_of_tags_do_no_harm(server, tier):
    server.set("course:t:t", "garbage")
    server.set("session:1", "somebody else's")
    server.sadd("course:t:u", "../../session:1", "session:1", b"\xff")

    assert tier.put("b", b"v", ttl_s=60, tags=("t",)) is False
    assert tier.drop_tag("t") == 0  # the foreign value is gone with it
    assert tier.put("b", b"v", ttl_s=60, tags=("t",))
    assert tier.drop_tag("t") == 1
    assert tier.drop_tag("u") == 0
    assert (server.get("session:1"), tier.last_error) == (b"somebody else's", "")


def test_what_is_too_large_is_not_kept_and_two_prefixes_do_not_see_each_other(own_redis, tier):
    with closing(RedisTier(own_redis.url, prefix="course:*")) as other:
        assert other.get("a") is None
        assert other.put("a", b"v" * LARGEST_BYTES, ttl_s=60)
        assert other.put("a", b"v" * (LARGEST_BYTES + 1), ttl_s=60) is False
        assert (other.get("a"), other.last_error) == (None, "")
        other.clear()

    assert tier.get("a") == b"v"


def test_a_client_that_is_not_let_in_says_so_without_the_password(own_redis, server):
    server.config_set("requirepass", "right")
    with closing(RedisTier(f"{own_redis.url}?password=hunter2")) as tier:
        assert tier.get("a") is None
        assert "it refuses the login" in tier.last_error
        assert "hunter2" not in f"{tier.last_error} {tier!r} {tier.address} {tier.client!r}"
    with closing(RedisTier(f"{own_redis.url}?password=right")) as tier:
        assert tier.put("a", b"v", ttl_s=60)
