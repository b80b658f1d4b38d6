"""The audit log: whatever is done to it afterwards is found, and named by the first record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
import redis.asyncio
from typer.testing import CliRunner

from course_lib.cli import app
from course_lib.deployment.audit import (
    Audit,
    AuditError,
    Broken,
    Head,
    RedisHead,
    Verified,
    verify_log,
)
from course_lib.deployment.database import StoreUnavailable
from course_lib.deployment.store import Store

pytestmark = pytest.mark.anyio

KEY = b"a key of thirty-two characters.."


def change(url: str, statements: str) -> None:
    """Do what somebody can do who has the database and no key: triggers are off."""
    with psycopg.connect(url) as owner:
        owner.execute("SET session_replication_role = replica")
        owner.execute(statements.encode())


class KeptHead:
    """A keeper as Redis is one, in memory; it can be away."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.is_away = False

    async def read(self) -> Head | None:
        if self.is_away:
            raise OSError("away")
        return self.head

    async def write(self, head: Head) -> None:
        if not self.is_away:
            self.head = max(head, self.head or head)


@pytest.fixture
def head() -> KeptHead:
    return KeptHead()


@pytest.fixture
async def log(store: Store, head: KeptHead) -> AsyncIterator[Audit]:
    """A log of ten records of two tenants."""
    audit = Audit(store, KEY, head)
    for n in range(10):
        await audit.record(("lantern", "other")[n % 2], "key-1", "answers.create", f"answer_{n}", tokens=n)
    await audit.flush()
    return audit


async def test_a_log_that_nobody_touched_is_verified(log):
    assert await log.verify() == Verified(10, has_head=True)


TAMPERED = {
    "another detail": ("UPDATE audit SET detail = '{}' WHERE seq = 4", 4, "was changed"),
    "another actor": ("UPDATE audit SET actor = 'key-2' WHERE seq = 4", 4, "was changed"),
    "another tenant": ("UPDATE audit SET tenant = 'other' WHERE seq = 3", 3, "was changed"),
    "another time": ("UPDATE audit SET at = at - interval '1 microsecond' WHERE seq = 10", 10, "was changed"),
    "a time that Python has not": ("UPDATE audit SET at = 'infinity' WHERE seq = 10", 10, "was changed"),
    "two changed": ("UPDATE audit SET target = 'x' WHERE seq IN (9, 7)", 7, "was changed"),
    "removed": ("DELETE FROM audit WHERE seq = 4", 4, "is missing"),
    "the first removed": ("DELETE FROM audit WHERE seq = 1", 1, "is missing"),
    "removed and closed up": (
        "DELETE FROM audit WHERE seq = 4; UPDATE audit SET seq = -seq; "
        "UPDATE audit SET seq = CASE WHEN seq < -4 THEN -seq - 1 ELSE -seq END",
        4,
        "was changed",
    ),
    "exchanged": (
        "UPDATE audit SET seq = -seq WHERE seq IN (4, 5); "
        "UPDATE audit SET seq = 9 + seq WHERE seq IN (-4, -5)",
        4,
        "was changed",
    ),
    "inserted": (
        "UPDATE audit SET seq = -seq; UPDATE audit SET seq = CASE WHEN seq < -4 THEN 1 - seq ELSE -seq END; "
        "INSERT INTO audit (seq, id, tenant, actor, action, target, detail, hash, at) "
        "SELECT 5, 'new', tenant, actor, action, target, detail, hash, at FROM audit WHERE seq = 4",
        5,
        "was changed",
    ),
    "added at the end": (
        "INSERT INTO audit (seq, id, tenant, actor, action, target, detail, hash, at) "
        "SELECT 11, 'new', tenant, actor, action, target, detail, hash, at FROM audit WHERE seq = 10",
        11,
        "was changed, added",
    ),
    "cut off": ("DELETE FROM audit WHERE seq > 7", 8, "records 8 to 10 were cut off"),
    "all gone": ("DELETE FROM audit", 1, "records 1 to 10 were cut off"),
}


@pytest.mark.parametrize(("statements", "seq", "words"), TAMPERED.values(), ids=TAMPERED.keys())
async def test_what_was_done_to_the_log_is_found(log, service_url, statements, seq, words):
    change(service_url, statements)

    found = await log.verify()

    assert isinstance(found, Broken)
    assert found.seq == seq
    assert words in found.why


async def test_without_the_head_a_cut_end_is_not_noticed_and_this_is_said(log, store, service_url):
    change(service_url, "DELETE FROM audit WHERE seq > 7")

    assert "would not be noticed" in str(await Audit(store, KEY).verify())


async def test_a_log_written_with_another_key_is_not_verified(log, store, head):
    found = await Audit(store, b"another key", head).verify()

    assert isinstance(found, Broken)
    assert found.seq == 1


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET actor = 'me'", "DELETE FROM audit", "TRUNCATE audit"]
)
async def test_the_database_refuses_to_change_the_log(log, store, service_url, statement):
    with (
        psycopg.connect(service_url) as owner,
        pytest.raises(psycopg.errors.RaiseException, match="append-only"),
    ):
        owner.execute(statement)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await store.rows("lantern", statement, {})


async def test_replicas_that_write_at_once_make_one_chain(service_url, redis_url):
    async def replica(number: int) -> None:
        head = RedisHead(redis_url)
        async with Store(service_url, size=2, deadline_s=20) as store, Audit(store, KEY, head) as audit:
            for n in range(60):
                action = "privacy.export" if n % 20 == 0 else "answers.create"
                await audit.record("lantern", f"key-{number}", action, f"answer_{n}")
        await head.close()

    await asyncio.gather(*(replica(number) for number in range(3)))

    head = RedisHead(redis_url)
    async with Store(service_url, size=1, deadline_s=20) as store:
        assert await Audit(store, KEY, head).verify() == Verified(180, has_head=True)
        change(service_url, "DELETE FROM audit WHERE seq = 180")
        assert isinstance(await Audit(store, KEY, head).verify(), Broken)
    await head.close()


async def test_a_privacy_action_is_written_at_once_and_others_in_a_batch(store):
    audit = Audit(store, KEY)
    await audit.record("lantern", "key-1", "answers.create", "answer_1")

    assert (audit.waiting, await audit.entries("lantern")) == (1, [])
    await audit.record("lantern", "key-1", "privacy.erase", "subject_1", rows=3)
    (second, erased), (first, _) = await audit.entries("lantern")
    assert (audit.waiting, second, first, erased.target, erased.detail) == (
        0,
        2,
        1,
        "subject_1",
        '{"rows":3}',
    )
    assert await audit.entries("lantern", before=2, limit=1) == (await audit.entries("lantern"))[1:]


class BusyHead(KeptHead):
    """While it is read, another request comes in, every time."""

    audit: Audit

    async def read(self) -> Head | None:
        await self.audit.record("lantern", "key-1", "answers.create", "answer_1")
        return await super().read()


async def test_who_waits_for_a_record_waits_for_none_that_come_after_it(store):
    head = BusyHead()
    audit = head.audit = Audit(store, KEY, head)
    await audit.record("lantern", "key-1", "answers.create", "answer_0")

    await asyncio.wait_for(audit.flush(), 10)

    assert [entry.target for _, entry in await audit.entries("lantern")] == ["answer_0"]


async def test_a_tenant_reads_its_own_records(log):
    entries = await log.entries("other")

    assert [seq for seq, _ in entries] == [10, 8, 6, 4, 2]
    assert {entry.tenant for _, entry in entries} == {"other"}


@pytest.mark.parametrize("value", ["Where is my parcel?", "ada@lantern.example", "x" * 129, "a\nb", "é"])
async def test_what_may_be_personal_is_refused(store, value):
    audit = Audit(store, KEY)

    with pytest.raises(AuditError, match="nothing personal") as error:
        await audit.record("lantern", "key-1", "answers.create", "answer_1", comment=value)

    assert value not in str(error.value)
    assert audit.waiting == 0


async def test_records_wait_for_a_database_that_is_away_up_to_a_bound(
    service_url, postgres, head, monkeypatch
):
    monkeypatch.setattr("course_lib.deployment.audit.MOST_WAITING", 3)
    async with Store(service_url, size=1, deadline_s=0.3) as store:
        audit = Audit(store, KEY, head)
        postgres.kill()
        await audit.record("lantern", "key-1", "answers.create", "answer_1")
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await audit.record("lantern", "key-1", "privacy.erase", "subject_1")
        with pytest.raises(AuditError, match="3 records wait"):
            await audit.record("lantern", "key-1", "answers.create", "answer_2")

        postgres.start()
        store.deadline_s = 20
        await audit.flush()

        assert await audit.verify() == Verified(3, has_head=True)


async def test_a_batch_whose_commit_was_not_heard_of_is_written_once(log, store):
    entries = [entry for _, entry in await log.entries("lantern")]
    log._waiting.extend(entries)  # as after a connection that was lost after the commit
    await log.record("lantern", "key-1", "privacy.export", "subject_1")

    assert await log.verify() == Verified(11, has_head=True)


async def test_a_head_never_goes_back(redis_url):
    keeper = RedisHead(redis_url)
    assert await keeper.read() is None
    await keeper.write(Head(7, "b"))
    await keeper.write(Head(6, "c"))
    assert await keeper.read() == Head(7, "b")
    await keeper.close()


# Whoever cuts the end off and waits


async def add(audit: Audit, count: int) -> None:
    for n in range(count):
        await audit.record("lantern", "key-1", "answers.create", f"more_{n}")
    await audit.flush()


@pytest.mark.parametrize("is_restarted", [False, True], ids=["the same process", "after a restart"])
async def test_a_log_that_was_cut_stays_broken_however_much_is_added(
    log, store, head, service_url, is_restarted
):
    change(service_url, "DELETE FROM audit WHERE seq > 7")
    audit = Audit(store, KEY, head) if is_restarted else log
    await add(audit, 12)
    await add(audit, 12)

    found = await audit.verify()

    assert isinstance(found, Broken)
    assert (found.seq, found.why) == (8, "record 8 is missing")


async def test_what_was_written_while_the_head_was_away_does_not_hide_a_cut(log, store, head, service_url):
    change(service_url, "DELETE FROM audit WHERE seq > 7")
    await add(Audit(store, KEY, AwayHead()), 3)  # as a replica that began while Redis was away
    await add(Audit(store, KEY, head), 12)

    assert isinstance(await Audit(store, KEY, head).verify(), Broken)


class AwayHead:
    """A keeper that cannot be reached."""

    async def read(self) -> Head | None:
        raise OSError("away")

    async def write(self, head: Head) -> None:
        raise OSError("away")


async def test_a_cut_with_the_head_gone_is_found_by_who_wrote_it_and_told_as_unsure_by_others(
    log, store, head, service_url
):
    head.head = None
    assert "there is no head" in str(await Audit(store, KEY, head).verify())
    change(service_url, "DELETE FROM audit WHERE seq > 7")
    assert isinstance(await log.verify(), Broken)

    await add(Audit(store, KEY, head), 3)

    found = await Audit(store, KEY, head).verify()
    assert found == Verified(11, has_head=True, head_lost_at=8)
    assert "the head was gone before record 8" in str(found)


@pytest.mark.parametrize("is_forgotten", [False, True])
async def test_a_cut_while_the_head_could_not_be_read_is_told_when_it_can(
    log, store, head, service_url, is_forgotten
):
    change(service_url, "DELETE FROM audit WHERE seq > 7")
    head.is_away = True
    audit = Audit(store, KEY, head)
    await add(audit, 5)
    head.is_away = False
    if is_forgotten:
        head.head = None
    await add(audit, 1)

    found = await Audit(store, KEY, head).verify()
    if is_forgotten:
        assert found == Verified(14, has_head=True, head_lost_at=8)
    else:
        assert isinstance(found, Broken)


async def test_a_log_that_went_on_while_the_head_could_not_be_read_is_whole(log, store, head):
    head.is_away = True
    audit = Audit(store, KEY, head)
    await add(audit, 1)
    head.is_away = False
    await add(audit, 1)

    assert await audit.verify() == Verified(13, has_head=True, head_lost_at=11)


JUNK = [
    b"junk",
    b"1 2 3",
    b"x y",
    b"%d y" % 10**30,
    b"1 \xff\xfe",
    b"\xff ff",
    b"1e3 ff",
    "\u0663 ff".encode(),
]


@pytest.mark.parametrize("junk", JUNK)
async def test_a_head_that_is_junk_is_gone_and_a_new_one_is_kept(store, redis_url, junk):
    seq, *rest = junk.split()
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        if len(rest) == 1:
            await client.hset("service:audit-head", mapping={"seq": seq, "hash": rest[0]})
        else:
            await client.set("service:audit-head", junk)
    in_redis = RedisHead(redis_url)
    await add(Audit(store, KEY), 1)

    assert isinstance(await Audit(store, KEY, in_redis).verify(), Verified)
    await add(Audit(store, KEY, in_redis), 1)
    assert (await Audit(store, KEY, in_redis).verify()).has_head
    await in_redis.close()


async def test_a_head_that_cannot_be_read_is_told(log, store):
    with pytest.raises(AuditError, match="does not answer"):
        await Audit(store, KEY, AwayHead()).verify()


async def test_the_writer_outlives_whatever_the_database_says(store, service_url):
    """Takes a second: records are written every half second."""
    async with Audit(store, KEY) as audit:
        change(service_url, "ALTER TABLE audit RENAME TO away")
        try:
            await audit.record("lantern", "key-1", "answers.create", "answer_1")
            while not audit.error:  # noqa: ASYNC110  (a text has no event)
                await asyncio.sleep(0.01)
        finally:
            change(service_url, "ALTER TABLE away RENAME TO audit")
        await audit.record("lantern", "key-1", "answers.create", "answer_2")
        while audit.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

        assert audit.error == ""
        assert await audit.verify() == Verified(2, has_head=False)


# course audit verify


def verified(monkeypatch: pytest.MonkeyPatch, url: str, redis_url: str) -> tuple[int, str]:
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("COURSE_SERVICE_SIGNING_KEY", KEY.decode())
    monkeypatch.setenv("REDIS_URL", redis_url)
    done = CliRunner().invoke(app, ["audit", "verify"])
    return done.exit_code, done.output.strip()


async def test_the_command_says_whether_the_log_is_whole(log, head, service_url, redis_url, monkeypatch):
    in_redis = RedisHead(redis_url)
    await in_redis.write(head.head)
    await in_redis.close()

    whole = await asyncio.to_thread(verified, monkeypatch, service_url, redis_url)
    change(service_url, "DELETE FROM audit WHERE seq > 7")
    cut = await asyncio.to_thread(verified, monkeypatch, service_url, redis_url)

    assert whole == (0, "verified: 10 records are as they were written")
    assert cut[0] == 1
    assert cut[1].startswith("broken at record 8: records 8 to 10 were cut off at the end")


async def test_the_command_says_what_it_needs(monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)

    with pytest.raises(AuditError, match="DATABASE_URL is not set"):
        await verify_log()
