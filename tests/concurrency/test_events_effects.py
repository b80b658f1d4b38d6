"""Effects once, whatever is delivered how often; documents ingested while questions are answered."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date

import pytest

from course_lib import desk
from course_lib.concurrency.events import Effects, Event, EventError, LiveIndex
from tests.concurrency.events import consuming, drained, numbered, stream_of
from tests.concurrency.waiting import until

pytestmark = pytest.mark.anyio
SUMS = "create table if not exists sums (n integer)"


@pytest.fixture
def effects(tmp_path):
    with closing(Effects(tmp_path / "effects")) as effects:
        yield effects


class Work:
    """Work that counts how often it is done."""

    def __init__(self, result=1) -> None:
        self.result, self.done, self.may_end = result, 0, asyncio.Event()
        self.may_end.set()

    async def __call__(self):
        self.done += 1
        await self.may_end.wait()
        return {"result": self.result, "done": self.done}


def add(connection: sqlite3.Connection, result) -> None:
    connection.execute("insert into sums values (?)", (result["result"],))


async def sums(effects: Effects) -> list[int]:
    rows = await effects.transact(lambda connection: connection.execute("select n from sums").fetchall())
    return [n for (n,) in rows]


EVENT = Event("order", {}, "ada", "1")


async def test_an_event_delivered_again_gets_the_same_result_and_does_nothing(effects, tmp_path):
    await effects.transact(lambda connection: connection.execute(SUMS))
    work = Work()

    first = await effects.once(EVENT, work, add)
    with closing(Effects(tmp_path / "effects")) as of_another_process:
        second = await of_another_process.once(EVENT, work, add)

    assert first == second == {"result": 1, "done": 1}
    assert (work.done, await sums(effects)) == (1, [1])


async def test_of_two_that_do_the_work_at_once_one_has_the_effect_and_both_its_result(effects):
    await effects.transact(lambda connection: connection.execute(SUMS))
    fast, slow = Work(1), Work(2)
    slow.may_end.clear()

    late = asyncio.create_task(effects.once(EVENT, slow, add))
    await until(lambda: slow.done)
    early = await effects.once(EVENT, fast, add)
    slow.may_end.set()

    assert await late == early == {"result": 1, "done": 1}
    assert (slow.done, await sums(effects)) == (1, [1])


async def test_an_effect_that_fails_halfway_leaves_nothing_and_is_done_again(effects):
    await effects.transact(lambda connection: connection.execute(SUMS))
    work, is_broken = Work(), True

    def write(connection: sqlite3.Connection, result) -> None:
        add(connection, result)
        if is_broken:
            raise sqlite3.OperationalError("disk full")

    with pytest.raises(sqlite3.OperationalError, match="disk full"):
        await effects.once(EVENT, work, write)
    assert await sums(effects) == []
    is_broken = False
    await effects.once(EVENT, work, write)

    assert (work.done, await sums(effects)) == (2, [1])


@pytest.mark.parametrize("other", [Event("order", {}, "bob", "1"), Event("refund", {}, "ada", "1")], ids=repr)
async def test_another_tenant_or_kind_with_the_same_id_is_another_event(effects, other):
    assert (await effects.once(EVENT, Work("hers")))["result"] == "hers"
    assert (await effects.once(other, Work("its own")))["result"] == "its own"


async def test_what_a_server_forgot_is_published_again_and_done_once(own_redis, effects):
    await effects.transact(lambda connection: connection.execute(SUMS))
    events = numbered(6)

    async def handle(event: Event) -> None:
        await effects.once(event, Work(event.data["n"]), add)

    async with stream_of(own_redis.url) as stream:
        async with consuming(stream, handle):
            await stream.publish(*events[:3])
            await drained(stream)
        await stream.publish(*events[3:])
        own_redis.kill()
        own_redis.start()
        assert await effects.missing(events) == events[3:]
        async with consuming(stream, handle):
            await stream.publish(*events)  # also without a look at what is missing
            await drained(stream)

    assert sorted(await sums(effects)) == [0, 1, 2, 3, 4, 5]


async def test_a_file_that_cannot_be_opened_at_first_is_opened_when_it_can(effects, tmp_path):
    (tmp_path / "effects").write_bytes(b"no database" * 1000)
    with pytest.raises(sqlite3.DatabaseError):
        await effects.once(EVENT, Work())
    (tmp_path / "effects").write_bytes(b"")

    assert await effects.once(EVENT, Work()) == {"result": 1, "done": 1}


async def test_a_locked_file_holds_up_nobodys_threads_but_its_own(effects, tmp_path):
    await effects.missing([])
    with closing(sqlite3.connect(tmp_path / "effects", isolation_level=None)) as other:
        other.execute("begin immediate")
        waiting = [asyncio.create_task(effects.missing([])) for _ in range(40)]
        await asyncio.sleep(0)  # by now they fill what threads a pool has
        async with asyncio.timeout(5):
            assert await asyncio.to_thread(lambda: "free") == "free"
        other.execute("rollback")
    await asyncio.gather(*waiting)
    effects.close()

    await until(lambda: not any(each.name.startswith("effects") for each in threading.enumerate()))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_records_beside_its_parent_also_where_one_is_forked_during_a_transaction(effects):
    begun, other = threading.Event(), Event("order", {}, "bob", "2")

    def slow(connection: sqlite3.Connection) -> None:
        connection.execute(SUMS)
        begun.set()
        time.sleep(0.3)
        add(connection, {"result": 7})

    fork = multiprocessing.get_context("fork")
    child = fork.Process(target=lambda: asyncio.run(effects.once(other, Work("child"), add)), daemon=True)
    with ThreadPoolExecutor(1) as pool:
        transaction = pool.submit(asyncio.run, effects.transact(slow))
        begun.wait()
        child.start()
        child.join(10)
        transaction.result()

    assert child.exitcode == 0
    assert asyncio.run(effects.once(other, Work("parent")))["result"] == "child"
    assert asyncio.run(sums(effects)) == [7, "child"]


# -- documents -------------------------------------------------------------------------------------------


def document(
    name="tent-rental",
    body="A tent can be rented for a weekend.",
    day=1,
    tenant="",
    event="",
    title="Renting",
) -> Event:
    fields = {"id": name, "title": title, "body": body, "updated": date(2026, 3, day).isoformat()}
    return Event("document", {**fields, "keywords": []}, tenant, event or f"{tenant}-{name}-{day}")


def found(index: LiveIndex, question="Can I rent a tent?", tenant="") -> list[str]:
    return [hit.article.body for hit in index.search(question, tenant=tenant)]


async def test_a_document_can_be_found_as_soon_as_its_event_is_handled(redis_url, effects):
    index = LiveIndex(effects)
    assert found(index) == []

    async with stream_of(redis_url) as stream, consuming(stream, index.ingest):
        await stream.publish(document())
        await drained(stream)

    assert found(index) == ["A tent can be rented for a weekend."]


async def test_questions_are_answered_from_a_whole_state_while_documents_arrive(
    redis_url, effects, monkeypatch
):
    index, builds, counts = LiveIndex(effects), 0, []

    class Counted(desk.Index):
        def __init__(self, pages) -> None:
            nonlocal builds
            builds += 1
            super().__init__(pages)

    monkeypatch.setattr("course_lib.concurrency.events.live_index.Index", Counted)
    events = [document(f"page-{chr(97 + n // 8)}{chr(97 + n % 8)}") for n in range(64)]
    async with stream_of(redis_url) as stream, consuming(stream, index.ingest, limit=32):
        await stream.publish(*events)
        while await stream.backlog():
            counts.append(len(found(index)))

    assert counts == sorted(counts), "no search ever sees less than the one before"
    assert len(found(index)) == 64
    assert builds < 64, "those that come while an index is built share the next"


async def test_an_older_version_that_arrives_late_changes_nothing(effects):
    index = LiveIndex(effects)

    for body, day in (("new tent", 5), ("old tent", 2), ("newest tent", 9)):
        await index.ingest(document(body=body, day=day))
        assert found(index) == ["newest tent" if day == 9 else "new tent"]


async def test_documents_of_a_tenant_are_found_by_nobody_else_and_by_the_next_process(effects):
    index = LiveIndex(effects)
    for tenant in ("ada", "bob"):
        await index.ingest(document(body=f"tent of {tenant}", tenant=tenant, event="same id"))
    of_the_next_process = LiveIndex(effects)
    await of_the_next_process.refresh()

    for each in (index, of_the_next_process):
        assert [found(each, tenant=name) for name in ("ada", "bob", "eve", "")] == [
            ["tent of ada"],
            ["tent of bob"],
            [],
            [],
        ]


async def test_what_others_recorded_or_no_search_can_find_keeps_no_tenants_document_out(effects):
    index = LiveIndex(effects)
    await effects.once(Event("document", {}, "evil", "x1"), Work())
    await index.ingest(document("empty", body="", tenant="evil", title="?"))

    await index.ingest(document())

    assert found(index) == ["A tent can be rented for a weekend."]


async def test_another_kind_of_event_is_no_document(effects):
    with pytest.raises(EventError, match="event 'T-1' is no document: its kind is 'ticket'"):
        await LiveIndex(effects).ingest(Event("ticket", document().data, id="T-1"))


async def test_what_is_no_document_is_refused_with_the_field(effects):
    with pytest.raises(
        EventError, match=r"event 'x' is no document: \('updated',\): Input should be a valid date"
    ):
        await LiveIndex(effects).ingest(
            Event("document", {**document().data, "updated": "yesterday"}, id="x")
        )
