"""Streams and consumers on a real server: bounded, claimed from the dead, given up with a reason, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import traceback
from collections import Counter
from contextvars import ContextVar

import pytest
import redis

from course_lib.caching import current_scope, scope
from course_lib.concurrency.events import Consumer, Event, EventError, EventStream
from course_lib.resilience import Deadline
from course_lib.services import ServerError, running_redis
from tests.concurrency.events import consuming, drained, numbered, pending, stream_of
from tests.concurrency.waiting import until

pytestmark = pytest.mark.anyio


async def nothing(event: Event) -> None:
    """Handle an event by looking at it."""


async def test_every_event_is_handled_in_the_order_of_publishing_and_leaves_the_stream(redis_url):
    seen = []

    async def handle(event: Event) -> None:
        seen.append(event)

    async with stream_of(redis_url) as stream:
        await stream.publish(*numbered(120))  # before there is a consumer
        async with consuming(stream, handle, limit=1):
            await drained(stream)

        assert seen == numbered(120)
        assert await stream.dead_letters() == []
        assert await stream._redis.xinfo_consumers(stream.name, "workers") == [], "its name is gone too"


# -- backpressure ----------------------------------------------------------------------------------------


async def test_producers_wait_at_the_bound_and_nothing_is_dropped(redis_url):
    seen, deepest = Counter(), 0

    async def handle(event: Event) -> None:
        nonlocal deepest
        deepest = max(deepest, await stream.backlog())
        seen[event.id] += 1

    async with stream_of(redis_url, bound=10) as stream:
        producers = [asyncio.create_task(stream.publish(*numbered(60)[at::3])) for at in range(3)]
        await until(lambda: at_bound(stream))
        assert not any(producer.done() for producer in producers)
        async with consuming(stream, handle, limit=2):
            await asyncio.gather(*producers)
            await drained(stream)

    assert seen == dict.fromkeys(map(str, range(60)), 1)
    assert deepest <= 10


async def test_an_event_whose_handler_waits_for_room_comes_again_until_there_is_some(redis_url):
    calls = Counter()
    async with stream_of(redis_url) as tickets, stream_of(redis_url, bound=1) as replies:

        async def answer(event: Event) -> None:
            calls[event.id] += 1
            await replies.publish(event)

        await replies.publish(Event("reply", {}, id="first"))
        async with consuming(tickets, answer, deadline_s=0.1, most_deliveries=2):
            await tickets.publish(*numbered(1))
            await until(lambda: calls["0"] > 4)
            (first,) = await replies.read("reader", 5)
            await replies.acknowledge(first)
            await drained(tickets)

        assert await tickets.dead_letters() == []
        assert [entry.event().id for entry in await replies.read("reader", 5)] == ["0"]


async def at_bound(stream: EventStream) -> bool:
    return await stream.backlog() == stream.bound


# -- limits and deadlines --------------------------------------------------------------------------------


async def test_no_more_than_the_limit_are_under_way_and_no_more_are_taken_from_others(redis_url):
    under_way, most, may_end = 0, 0, asyncio.Event()

    async def handle(event: Event) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await may_end.wait()
        under_way -= 1

    async with stream_of(redis_url) as stream:
        await stream.publish(*numbered(20))
        async with consuming(stream, handle, limit=4):
            await until(lambda: under_way == 4)
            assert await pending(stream) == 4, "the other 16 are free for another consumer"
            may_end.set()
            await drained(stream)

    assert most == 4


async def test_a_handler_that_hangs_is_ended_at_its_deadline_which_it_can_see(redis_url):
    calls, remaining_s = Counter(), []

    async def handle(event: Event) -> None:
        calls[event.id] += 1
        remaining_s.append(Deadline.current().remaining_s())
        if calls[event.id] == 1:
            await asyncio.sleep(3600)

    async with stream_of(redis_url) as stream:
        await stream.publish(*numbered(1))
        async with consuming(stream, handle, deadline_s=0.1):
            await drained(stream)

    assert calls == {"0": 2}
    assert max(remaining_s) <= 0.1


# -- failures --------------------------------------------------------------------------------------------


async def test_an_event_that_fails_is_delivered_again_and_given_up_with_the_reason(redis_url):
    calls, flaky_works_at = Counter(), 3

    async def handle(event: Event) -> None:
        calls[event.id] += 1
        if event.id == "bad" or (event.id == "flaky" and calls["flaky"] < flaky_works_at):
            raise ValueError(f"no such order\nof {event.id}")

    async with stream_of(redis_url) as stream:
        await stream.publish(Event("order", {}, id="bad"), Event("order", {}, id="flaky"), *numbered(3))
        async with consuming(stream, handle, most_deliveries=4):
            await drained(stream)
        (letter,) = await stream.dead_letters()

    assert calls == {"bad": 4, "flaky": 3, "0": 1, "1": 1, "2": 1}
    assert letter.event().id == "bad"
    assert letter.reason == "ValueError: no such order"


async def test_what_can_never_be_handled_is_given_up_at_once(redis_url):
    calls = Counter()

    async def handle(event: Event) -> None:
        calls[event.id] += 1
        raise EventError("a ticket needs a text")

    async with stream_of(redis_url) as stream:
        await stream._redis.xadd(stream.name, {"other": "thing"})
        await stream._redis.xadd(stream.name, {"event": '{"kind": 5}'})
        await stream.publish(*numbered(1))
        async with consuming(stream, handle):
            await drained(stream)
        letters = await stream.dead_letters()

    assert calls == {"0": 1}
    assert [letter.reason.partition(":")[0] for letter in letters] == ["EventError"] * 3
    assert letters[2].reason == "EventError: a ticket needs a text"
    assert letters[0].fields[b"event"] == b"{b'other': b'thing'}"


async def test_a_dead_letter_is_revived_when_its_cause_is_mended(redis_url):
    is_mended, seen = False, []

    async def handle(event: Event) -> None:
        if not is_mended:
            raise EventError("the carrier's service is not set up")
        seen.append(event)

    async with stream_of(redis_url, bound=1) as stream:
        await stream.publish(*numbered(1))
        async with consuming(stream, handle):
            await drained(stream)
            is_mended = True
            for letter in await stream.dead_letters():
                await stream.revive(letter)
            await drained(stream)

        assert seen == numbered(1)
        assert await stream.dead_letters() == []


async def test_a_dead_letter_that_somebody_else_wrote_is_shown_and_not_revived(redis_url):
    async with stream_of(redis_url) as stream:
        await stream._redis.xadd(f"{stream.name}:dead", {"other": "thing"})
        await stream._redis.xadd(f"{stream.name}:dead", {"reason": b"caf\xff"})
        letters = await stream.dead_letters()

        assert [letter.reason for letter in letters] == ["", "caf\ufffd"]
        with pytest.raises(EventError, match="holds no event"):
            await stream.revive(letters[0])
        assert await stream.dead_letters() == letters


class Mute(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Panic(BaseException):
    """What an extension written in Rust raises."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Mute(), "Mute"),
        (ValueError("caf\ud800"), "ValueError: caf?"),
        (ValueError("long " * 1000), f"ValueError: {'long ' * 1000}"[:500]),
        (asyncio.CancelledError(), "CancelledError"),
        (Panic("at a\rb"), "Panic: at a"),
        (BaseExceptionGroup("two", [Panic()]), "BaseExceptionGroup: two (1 sub-exception)"),
    ],
    ids=lambda it: type(it).__name__,
)
async def test_no_error_of_a_handler_ends_the_consumer_also_while_it_is_written_down(
    redis_url, error, reason
):
    calls = Counter()

    async def handle(event: Event) -> None:
        calls[event.id] += 1
        raise error

    async with stream_of(redis_url) as stream, consuming(stream, handle, most_deliveries=2):
        await stream.publish(*numbered(1))
        await drained(stream)
        (letter,) = await stream.dead_letters()

    assert letter.reason == reason
    assert calls == {"0": 2}


async def test_an_event_that_was_delivered_very_often_ends_no_consumer(redis_url):
    async def fail(event: Event) -> None:
        raise ValueError("no")

    async with stream_of(redis_url) as stream:
        await stream.publish(*numbered(1))
        (entry,) = await stream.read("ghost", 1)
        claim = ("XCLAIM", stream.name, "workers", "ghost", 0, entry.id, "IDLE", 10**6, "RETRYCOUNT", 1100)
        await stream._redis.execute_command(*claim)
        async with consuming(stream, fail, most_deliveries=1102, idle_s=0.1):
            await drained(stream)


# -- what is refused at once ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, -1, math.nan])
@pytest.mark.parametrize("name", ["limit", "idle_s", "retry_s", "most_deliveries", "deadline_s", "bound"])
async def test_numbers_with_which_nothing_would_be_handled_are_refused(name, number):
    options = {name: number}
    with pytest.raises(ValueError, match=name):
        async with stream_of("redis://h", **options if name == "bound" else {}) as stream:
            Consumer(stream, nothing, **options)


@pytest.mark.parametrize(
    "data", [{"x": math.nan}, {"x": [-math.inf]}, {"x": "\ud800"}, {"x": Event}], ids=repr
)
async def test_what_would_not_arrive_as_it_was_sent_is_refused_by_publish(redis_url, data):
    async with stream_of(redis_url) as stream:
        with pytest.raises(EventError, match="event 'odd' cannot be JSON"):
            await stream.publish(Event("number", data, id="odd"))
        assert await stream.backlog() == 0


@pytest.mark.parametrize("login", [":hun{}ter2", "me:4711{}ter2"])
@pytest.mark.parametrize("cut", ["/", "#", "?", "@"])
def test_an_address_that_cannot_be_read_is_refused_without_any_part_of_its_password(login, cut):
    with pytest.raises(ServerError, match="write / \\? # @ in a password as") as caught:
        EventStream(f"redis://{login.format(cut)}@h:1/0", "x")
    assert not re.search("hun|ter2|4711", "".join(traceback.format_exception(caught.value)))


# -- consumers that die, stop or are slow ----------------------------------------------------------------


async def test_what_a_cancelled_consumer_held_is_claimed_and_handled_by_another(redis_url):
    begun, seen = asyncio.Event(), []

    async def hang(event: Event) -> None:
        begun.set()
        await asyncio.sleep(3600)

    async def handle(event: Event) -> None:
        seen.append(event.id)

    async with stream_of(redis_url) as stream:
        await stream.publish(*numbered(5))
        dying = asyncio.create_task(Consumer(stream, hang).run())
        await begun.wait()
        dying.cancel()
        await asyncio.wait([dying])
        assert await pending(stream) == 5
        async with consuming(stream, handle, idle_s=0.05):
            await drained(stream)

    assert sorted(seen) == list("01234")


async def test_a_cancelled_consumer_is_cancelled_also_where_a_handler_makes_an_error_of_it(redis_url):
    begun = asyncio.Event()

    async def handle(event: Event) -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise ValueError("interrupted") from None

    async with stream_of(redis_url) as stream:
        await stream.publish(*numbered(1))
        dying = asyncio.create_task(Consumer(stream, handle).run())
        await begun.wait()
        dying.cancel()
        await asyncio.wait([dying])

    assert dying.cancelled()


async def test_names_of_consumers_that_were_cancelled_leave_the_group_once_they_hold_nothing(redis_url):
    async def names() -> list[str]:
        return [each["name"].decode() for each in await stream._redis.xinfo_consumers(stream.name, "workers")]

    async def others_are_handled() -> bool:
        return await stream.backlog() == 1

    async def are_gone() -> bool:
        return not {"dead", "idle"} & set(await names())

    async with stream_of(redis_url) as stream:
        await stream.publish(*numbered(3))
        held = await stream.read("dead", 1)
        await stream._redis.xgroup_createconsumer(stream.name, "workers", "idle")
        async with consuming(stream, nothing):
            await until(others_are_handled)
        assert await names() == ["dead"]
        assert await stream.deliveries(held[0]) == 1
        async with consuming(stream, nothing, idle_s=0.1):
            await drained(stream)
            await until(are_gone)


async def test_an_event_that_ends_its_consumers_is_given_up_too(redis_url):
    async with stream_of(redis_url) as stream:
        await stream.publish(*numbered(1))
        for _ in range(3):  # each takes it and is never heard of again
            taken = await stream.read("dies", 1) or await stream.claim("dies", 0, 1)
            assert len(taken) == 1
        async with consuming(stream, nothing, most_deliveries=3, idle_s=0.03):
            await drained(stream)
        (letter,) = await stream.dead_letters()

    assert re.match(r"EventError: delivered \d times, and its consumer died", letter.reason)


async def test_what_is_under_way_is_renewed_so_that_nobody_claims_it(redis_url):
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def handle(event: Event) -> None:
        begun.set()
        await may_end.wait()

    async def idle_s() -> float:
        (entry,) = await stream._redis.xpending_range(stream.name, "workers", "-", "+", 1)
        return entry["time_since_delivered"] / 1000

    async def is_renewed() -> bool:
        return await idle_s() < 1800

    async with stream_of(redis_url) as stream, consuming(stream, handle, idle_s=0.6) as consumer:
        await stream.publish(*numbered(1))
        await begun.wait()
        consumer._claim_at_s = math.inf  # a claim would be a sign of life too
        await stream.renew(consumer.name, list(consumer._in_flight), idle_s=3600)  # as if it were stuck
        assert await idle_s() >= 3600
        await until(is_renewed)
        assert await stream.claim("other", 1800, 1) == []
        may_end.set()
        await drained(stream)


async def test_claiming_is_a_delivery_and_renewing_is_none(redis_url):
    async with stream_of(redis_url) as stream:
        await stream.publish(*numbered(1))
        (entry,) = await stream.read("first", 5)
        await stream.renew("first", [entry.id], idle_s=60)
        assert await stream.deliveries(entry) == 1
        assert await stream.claim("second", 120, 5) == []
        assert await stream.claim("second", 50, 5) == [entry]
        assert await stream.deliveries(entry) == 2
        await stream.acknowledge(entry)
        assert await stream.deliveries(entry) == 0


async def test_stop_finishes_and_acknowledges_what_is_under_way_and_leaves_the_rest(redis_url):
    begun, may_end, seen = [], asyncio.Event(), []

    async def handle(event: Event) -> None:
        begun.append(event.id)
        await may_end.wait()
        seen.append(event.id)

    async with stream_of(redis_url) as stream:
        await stream.publish(*numbered(10))
        async with consuming(stream, handle, limit=3) as consumer:
            await until(lambda: len(begun) == 3)
            consumer.stop()
            may_end.set()
        assert (len(seen), await stream.backlog(), await pending(stream)) == (3, 7, 0)

        async with consuming(stream, handle):
            await drained(stream)
        assert sorted(seen) == list(map(str, range(10)))


async def test_a_consumer_that_leaves_events_behind_keeps_its_name_or_they_would_be_lost(redis_url):
    async def fail(event: Event) -> None:
        raise ValueError("not today")

    async with stream_of(redis_url) as stream:
        await stream.publish(*numbered(1))
        async with consuming(stream, fail, retry_s=60) as consumer:
            await until(lambda: consumer.last_error)
        assert await pending(stream) == 1
        async with consuming(stream, nothing, idle_s=0.05):
            await drained(stream)


# -- tenants ---------------------------------------------------------------------------------------------


async def test_a_handler_runs_in_the_scope_of_its_events_tenant_also_beside_others(redis_url):
    place: ContextVar[str] = ContextVar("place", default="nowhere")
    seen, here, all_here = [], 0, asyncio.Event()

    async def handle(event: Event) -> None:
        nonlocal here
        here += 1
        if here == 12:
            all_here.set()
        await all_here.wait()  # twelve handlers of three tenants at once
        looks = current_scope(), await asyncio.to_thread(current_scope)
        seen.extend((event.tenant == look.tenant, place.get()) for look in looks)

    async with stream_of(redis_url) as stream:
        for tenant in ("ada", "bob", "eve"):
            await stream.publish(*numbered(4, tenant=tenant))
        place.set("where run() was called")
        async with consuming(stream, handle, limit=12, scope=lambda tenant: scope(tenant=tenant)):
            place.set("elsewhere")
            await drained(stream)

    assert seen == [(True, "where run() was called")] * 24


async def test_of_many_that_are_under_way_the_old_one_is_found_after_some_looks(redis_url):
    async with stream_of(redis_url) as stream:
        await stream.publish(*numbered(100))
        entries = await stream.read("lives", 100)
        await stream.renew("died", [entries[70].id], idle_s=3600)

        claimed = [await stream.claim("other", 1800, 2) for _ in range(6)]  # each looks at twenty or so

    assert [entry for found in claimed for entry in found] == [entries[70]]


# -- the server goes away --------------------------------------------------------------------------------


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.soak)])
async def test_a_server_that_keeps_its_events_can_be_killed_and_none_is_lost(short_folder, kills):
    seen = Counter()

    async def handle(event: Event) -> None:
        seen[event.id] += 1
        await asyncio.sleep(0.005)

    with running_redis(short_folder / "durable", durable=True) as server:
        async with stream_of(server.url, bound=50) as stream, consuming(stream, handle, idle_s=0.3):
            producer = asyncio.create_task(stream.publish(*numbered(100 * kills)))
            for kill in range(kills):
                await until(lambda many=100 * kill + 30: len(seen) >= many)
                server.kill()
                await asyncio.to_thread(server.start)
            await producer
            await drained(stream)

    assert len(seen) == 100 * kills


async def test_a_server_without_a_log_forgets_and_the_consumers_go_on(own_redis):
    seen = []

    async def handle(event: Event) -> None:
        seen.append(event.id)

    async with stream_of(own_redis.url) as stream:
        await stream.publish(*numbered(5))
        own_redis.kill()
        own_redis.start()
        async with consuming(stream, handle):
            await stream.publish(Event("number", {}, id="later"))
            await drained(stream)
            own_redis.kill()
            own_redis.start()  # forgets the group while it is read
            await stream.publish(Event("number", {}, id="last"))
            await drained(stream)

    assert seen == ["later", "last"]


async def test_a_server_that_stays_away_is_told_to_the_producer_and_does_not_end_the_consumer(own_redis):
    async with stream_of(own_redis.url, patience_s=0.3) as stream, consuming(stream, nothing) as consumer:
        own_redis.kill()
        with pytest.raises(ServerError, match=r"has not answered for 0\.3 s \(ConnectionError\); start"):
            await stream.publish(*numbered(1))
        await until(lambda: "has not answered" in consumer.last_error)
        own_redis.start()
        await stream.publish(*numbered(1))
        await drained(stream)


@pytest.mark.parametrize(
    ("refuse", "accept", "told"),
    [
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "NOREPLICAS"),
        ("CONFIG SET maxmemory 1;DEL {name}", "CONFIG SET maxmemory 0", "OOM"),
        ("ACL SETUSER default -xreadgroup -eval", "ACL SETUSER default +@all", "NOPERM"),
        ("SET {name} x", "DEL {name}", "WRONGTYPE"),
    ],
    ids=lambda it: it.partition(" ")[0],
)
async def test_whatever_redis_refuses_the_consumer_asks_again_and_both_it_and_the_producer_are_told(
    short_folder, refuse, accept, told
):
    with running_redis(short_folder / "own", durable=True) as server:
        async with stream_of(server.url, patience_s=0.3) as stream, consuming(stream, nothing) as consumer:
            await stream.publish(*numbered(1))
            await drained(stream)
            for command in refuse.format(name=stream.name).split(";"):
                await stream._redis.execute_command(*command.split())
            with pytest.raises(ServerError, match=rf"refuses: {told}.*; correct that"):
                await stream.publish(*numbered(1))
            await until(lambda: f"refuses: {told}" in consumer.last_error)
            await stream._redis.execute_command(*accept.format(name=stream.name).split())
            await stream.publish(*numbered(1))
            await drained(stream)


async def test_a_refusal_that_passes_is_waited_for_and_one_that_does_not_is_told_at_once(own_redis):
    async with stream_of(own_redis.url) as stream:
        await stream._redis.config_set("min-replicas-to-write", 1)
        publishing = asyncio.create_task(stream.publish(*numbered(1)))
        await asyncio.wait([publishing], timeout=0.3)
        await stream._redis.config_set("min-replicas-to-write", 0)
        await publishing
        await stream._redis.set(stream.name, "x")
        async with asyncio.timeout(5):
            with pytest.raises(ServerError, match="WRONGTYPE"):
                await stream.publish(*numbered(1))


async def test_the_first_consumer_of_a_full_server_is_told_what_to_do(own_redis):
    async with stream_of(own_redis.url, patience_s=0.2) as stream:
        await stream._redis.config_set("maxmemory-policy", "noeviction")
        await stream.publish(*numbered(1))
        await stream._redis.config_set("maxmemory", 1)
        with pytest.raises(ServerError, match=r"full before anybody reads 'events-\d+': raise its maxmem"):
            await stream.read("first", 1)
        await stream._redis.config_set("maxmemory", 0)
        assert len(await stream.read("first", 1)) == 1


async def test_a_streams_name_is_not_taken_for_a_refusal_that_passes(redis_url):
    stream = EventStream(redis_url, "a CLASSROOM: -BUSY : -OOM ")
    async with contextlib.aclosing(stream), asyncio.timeout(5):
        assert await stream.read("ada", 1) == []


async def test_where_the_dead_letters_cannot_be_written_the_event_is_kept(redis_url):
    async def fail(event: Event) -> None:
        raise EventError("never")

    async with stream_of(redis_url) as stream, consuming(stream, fail, idle_s=0.3) as consumer:
        await stream._redis.set(f"{stream.name}:dead", "x")
        await stream.publish(*numbered(1))
        await until(lambda: "WRONGTYPE" in consumer.last_error)
        await stream._redis.delete(f"{stream.name}:dead")
        await drained(stream)
        assert [letter.reason for letter in await stream.dead_letters()] == ["EventError: never"]


async def test_a_consumer_can_be_stopped_while_the_server_is_away(own_redis):
    async with stream_of(own_redis.url, patience_s=0.2) as stream, consuming(stream, nothing):
        await stream.publish(*numbered(1))
        await drained(stream)
        own_redis.kill()


async def test_no_connection_stays_open(redis_url):
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        before = len(client.client_list())
        async with stream_of(redis_url) as stream, consuming(stream, nothing):
            await stream.publish(*numbered(3))
            await drained(stream)
        assert len(client.client_list()) <= before
