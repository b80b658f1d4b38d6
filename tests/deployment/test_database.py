"""The database under the store: migrations once and in order, calls that outlive the server's restarts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import psycopg
import pytest

from course_lib.deployment.database import Database, StoreError, StoreUnavailable
from course_lib.deployment.store import Store
from tests.deployment.serving import desk
from tests.deployment.test_service import until

pytestmark = pytest.mark.anyio


def count(url: str, table: str) -> int:
    with psycopg.connect(url) as connection:
        ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchall()
    return int(rows)


def write(path: Path, statements: str) -> None:
    path.write_text(statements, "utf-8")


# Migrations


async def test_replicas_that_start_at_once_migrate_once(database_url):
    stores = await asyncio.gather(*(Store.open(database_url, deadline_s=20) for _ in range(4)))

    assert [await store.migrate() for store in stores] == [[]] * 4
    assert count(database_url, "migrations") == 6
    for store in stores:
        await store.close()


async def test_migrations_run_in_order_and_a_changed_one_is_refused(tmp_path, database_url):
    database = Database(database_url, size=1, deadline_s=20)
    write(tmp_path / "0005_b.sql", "ALTER TABLE lamps ADD lumen integer")
    write(tmp_path / "0004_a.sql", "CREATE TABLE lamps (name text); SELECT 'two statements'")

    assert await database.migrate(tmp_path) == ["0004_a.sql", "0005_b.sql"]
    write(tmp_path / "0004_a.sql", "CREATE TABLE lamps (name text, lumen integer)")
    with pytest.raises(StoreError, match=r"0004_a\.sql is not the one that was applied"):
        await database.migrate(tmp_path)
    assert count(database_url, "lamps") == 0


async def test_a_migration_that_fails_leaves_nothing(tmp_path, database_url):
    database = Database(database_url, size=1, deadline_s=20)
    write(tmp_path / "0004_a.sql", "CREATE TABLE lamps (name text)")
    write(tmp_path / "0005_b.sql", "CREATE TABLE lamps (name text)")

    with pytest.raises(StoreError, match='"lamps" already exists'):
        await database.migrate(tmp_path)
    with pytest.raises(psycopg.errors.UndefinedTable):
        count(database_url, "lamps")


# A user who may not


@pytest.fixture
def limited_url(database_url):
    """The address of an empty database, for a user who may do nothing there."""
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("CREATE ROLE limited LOGIN")
        try:
            yield database_url.replace("postgres@", "limited@", 1)
        finally:
            owner.execute("DROP OWNED BY limited")
            owner.execute("DROP ROLE limited")


async def test_a_user_whom_the_server_refuses_is_told_so(limited_url, database_url):
    with pytest.raises(StoreError, match=r"refuses the user .* permission denied"):
        await Store.open(limited_url, deadline_s=20)
    await (await Store.open(database_url, deadline_s=20)).close()  # the tables are there, and not the user's
    async with Database(limited_url, size=1, deadline_s=20) as database:
        with pytest.raises(StoreUnavailable, match=r"refuses the user .* the role course_service"):
            await database.ping()


async def test_the_service_logs_why_and_goes_on_when_the_user_may(limited_url, database_url, caplog):
    async with desk(database_url=limited_url) as served:

        async def is_told():
            return "permission denied" in caplog.text

        async def is_there():
            return served.app.service.store is not None

        await until(is_told)
        with psycopg.connect(database_url, autocommit=True) as owner:
            owner.execute("ALTER ROLE limited SUPERUSER")
        await until(is_there)
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("REASSIGN OWNED BY limited TO postgres")


# Outages


async def test_an_empty_database_in_the_place_of_the_old_one_gets_its_tables(database_url):
    async with desk(database_url=database_url) as served, served.client() as client:

        async def is_there():
            return served.app.service.parts()["database"] == "ok"

        async def is_missed():
            return not await is_there()

        await until(is_there)
        with psycopg.connect(database_url, autocommit=True) as owner:
            owner.execute("DROP SCHEMA public CASCADE")
            await until(is_missed)
            owner.execute("CREATE SCHEMA public")
        await until(is_there)
        assert (await client.get("/v1/answers")).status_code == 200


async def test_a_server_that_is_away_is_told_in_time_and_used_again_when_it_is_back(service_url, postgres):
    async with Store(service_url, size=8, deadline_s=0.5) as store:
        postgres.kill()
        begun_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match="did not do it within"):
            await store.ping()
        assert time.monotonic() - begun_s < 3  # on a busy machine

        postgres.start()
        store.deadline_s = 20
        await store.ping()


async def test_a_server_that_hangs_is_told_in_time(service_url, postgres):
    async with Store(service_url, size=8, deadline_s=20) as store:
        pids = [
            postgres.pid,
            *(pid for (pid,) in await store.rows("*", "SELECT pid FROM pg_stat_activity", {})),
        ]
        store.deadline_s = 0.5
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        begun_s = time.monotonic()
        try:
            with pytest.raises(StoreUnavailable, match="no answer"):
                await store.ping()
            assert time.monotonic() - begun_s < 3
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        store.deadline_s = 20
        await store.ping()


async def test_no_row_is_lost_or_doubled_when_the_server_is_killed_under_load(service_url, postgres):
    """Takes some seconds, since it waits for a server that is killed and started twice."""
    async with Store(service_url, size=8, deadline_s=30) as store:
        subject, done, errors = await store.subject("lantern", "ada"), [], []
        ends = asyncio.Event()

        async def write() -> None:
            while not ends.is_set():
                try:
                    done.append(
                        await store.save_answer(
                            "lantern", program="answer", version="1", question="?", answer={}, subject=subject
                        )
                    )
                except StoreError as error:
                    errors.append(error)

        async def more(before: int) -> None:
            while len(done) < before + 50:  # noqa: ASYNC110  (a list has no event)
                await asyncio.sleep(0.01)

        writers = [asyncio.create_task(write()) for _ in range(6)]
        for _ in range(2):
            before = len(done)
            await more(before)
            await asyncio.to_thread(postgres.kill)
            await asyncio.to_thread(postgres.start)
        before = len(done)
        await more(before)
        ends.set()
        await asyncio.gather(*writers)

        kept = {answer.id for answer in await store.history("lantern", limit=100_000)}
    assert None not in done
    assert len({*done}) == len(done)
    assert kept == {*done}
    assert errors == []


async def test_the_address_is_in_no_error():
    url = "postgresql://bob:hunter2@127.0.0.1:1/service"  # a port where nothing listens

    with pytest.raises(StoreUnavailable) as error:
        await Database.open(url, deadline_s=0.3)

    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bob:hunt@er2@127.0.0.1/service",
        "postgresql://bob:hunt/er2@127.0.0.1/service",
        "postgresql://bob:12/er2@127.0.0.1/service",
        "nonsense:hunter2",
    ],
)
async def test_no_part_of_a_password_is_in_what_is_said_of_an_address(url):
    with pytest.raises(StoreError, match="cannot be read") as error:
        await Database.open(url, deadline_s=0.3)

    assert "er2" not in str(error.value)
    assert error.value.__cause__ is None


async def test_a_database_that_is_read_only_for_now_is_told_and_written_to_again(service_url):
    def make_read_only(word: str) -> None:
        with psycopg.connect(service_url, autocommit=True) as owner:
            owner.execute("SET default_transaction_read_only = off")
            owner.execute(f"ALTER DATABASE service SET default_transaction_read_only = {word}".encode())

    make_read_only("on")
    try:
        async with Store(service_url, size=2, deadline_s=0.5) as store:
            for call in (store.ping(), store.subject("lantern", "ada")):
                with pytest.raises(StoreUnavailable, match="read-only"):
                    await call
            make_read_only("off")
            store.deadline_s = 10
            await store.ping()
            assert await store.subject("lantern", "ada")
    finally:
        make_read_only("off")


async def test_a_table_that_is_away_is_told_as_a_database_that_is(service_url, store):
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await store.rows("lantern", "SELECT * FROM nothing", {})


async def test_a_closed_store_says_so(service_url):
    store = await Store.open(service_url, deadline_s=20)
    await store.close()

    with pytest.raises(StoreError, match="the store is closed"):
        await store.ping()
