"""PostgreSQL for the service: a pool that outlives the server's restarts, migrations, the rows of one tenant.

Main path: await Database.open(url) -> await database.run(tenant, work): a transaction that sees that tenant's
rows; rows(tenant, query, values) is the same for one statement, in one round trip.
Source: psycopg_pool 3.3 (AsyncConnectionPool), whose own reconnecting doubles its pauses up to minutes: here
it gives up at once, and the call tries again until its deadline. The walls between tenants are in
migrations/0003_row_security.sql.

While PostgreSQL is gone, a call raises StoreUnavailable after `deadline_s`; then calls work again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, LiteralString, Self, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.errors import ReadOnlySqlTransaction, UndefinedTable
from psycopg.sql import Composed
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from course_lib.adapters.data.connections import DatabaseError, first_line, is_dropped, parts_of
from course_lib.errors import CourseError
from course_lib.redaction.secrets import hide_secrets
from course_lib.resilience.retries import retry

T = TypeVar("T")
Connection = AsyncConnection[Any]
Cursor = AsyncCursor[Any]
Row = tuple[Any, ...]

EVERY_TENANT = "*"
"""For the worker's claim of a job, the daily deletions and the audit log's check; no tenant has this name."""

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_ATTEMPT_S = 1.0
_SEE_TENANT = "SELECT set_config('course.tenant', %s, true)"  # until the transaction ends
_STATE = "SELECT current_setting('transaction_read_only') = 'on', to_regclass('migrations') IS NULL"
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext(%s))"
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATIONS_TABLE = """CREATE TABLE IF NOT EXISTS migrations (
    name text PRIMARY KEY, sha256 text NOT NULL, applied timestamptz NOT NULL DEFAULT now()
)"""
_APPLIED = "INSERT INTO migrations (name, sha256) VALUES (%s, %s)"

logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())  # the caller gets an error that says it


class StoreError(CourseError):
    """The store refused something, or was asked wrongly."""


class StoreUnavailable(StoreError):  # noqa: N818  (it says what happened)
    """PostgreSQL did not answer in time; what was under way is kept whole or not at all."""


class Database:
    """A few connections to one database, for the event loop in which it was opened."""

    def __init__(self, url: str, *, size: int = 8, deadline_s: float = 2.0) -> None:
        """Take an address; nothing is sent yet.

        Of `size` connections at most; a call waits `deadline_s` for the database.

        Raises:
            StoreError: it is none, or a piece of its password may be taken for another part.
        """
        self.deadline_s = deadline_s
        self._url = url
        try:
            parts_of(url)
        except DatabaseError as error:
            raise StoreError(f"{error} (DATABASE_URL, if it came from there)") from None
        again = retry(is_retryable=_may_pass, attempts=None, deadline_s=deadline_s, first_wait_s=0.05)
        self._again = again(_call)
        self.is_empty = False
        """Whether its tables were gone when it was last pinged: migrate() makes them."""
        self._left: set[asyncio.Task[Any]] = set()
        self._refusal = ""  # what the server said to the user of the last connection
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            min_size=0,
            max_size=size,
            max_idle=60.0,
            reconnect_timeout=_ATTEMPT_S / 4,
            kwargs={"connect_timeout": 2, "application_name": "course-service", "autocommit": True},
            configure=self._enter_role,
            open=False,
        )

    @classmethod
    async def open(cls, url: str, *, size: int = 8, deadline_s: float = 2.0) -> Self:
        """Connect, and apply the migrations that this database lacks; replicas may do so at once.

        Raises:
            StoreError: as for the class, and for migrate().
        """
        store = cls(url, size=size, deadline_s=deadline_s)
        await store.migrate()
        return await store.__aenter__()

    async def close(self) -> None:
        """Close all connections, for good."""
        await asyncio.gather(*self._left, return_exceptions=True)
        await self._pool.close()

    async def __aenter__(self) -> Self:
        await self._pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the database answers, has its tables and can be written to."""

        async def work(cursor: Cursor) -> None:
            await cursor.execute(_STATE)
            (is_read_only, self.is_empty), *_ = await cursor.fetchall()
            if is_read_only:
                raise ReadOnlySqlTransaction("it is read-only for now")
            if self.is_empty:
                raise UndefinedTable("its tables are gone")

        await self.run(EVERY_TENANT, work)

    async def migrate(self, folder: Path = _MIGRATIONS) -> list[str]:
        """Apply the migrations of a folder that are missing, in order, and return their names.

        Raises:
            StoreUnavailable: the database does not answer.
            StoreError: an applied migration was changed, or the server refuses one.
        """
        try:
            done = await self._patiently(partial(_migrate, self._url, folder))
        except psycopg.Error as error:
            raise StoreError(_refused("to make or change its tables", error)) from None
        self.is_empty = False
        return done

    async def run(self, tenant: str, work: Callable[[Cursor], Awaitable[T]]) -> T:
        """Return what `work` makes of a cursor that sees this tenant's rows: in one transaction.

        `work` must be safe to repeat: a connection may drop after the commit.

        Raises:
            StoreUnavailable: the database has not answered within the deadline.
            StoreError: the tenant has no such name as tenants have.
        """

        async def attempt() -> T:
            async with self._connection(tenant) as line, line.transaction(), line.cursor() as cursor:
                await cursor.execute(_SEE_TENANT, [tenant])
                return await work(cursor)

        return await self._patiently(attempt)

    async def rows(
        self, tenant: str, query: LiteralString | Composed, values: Mapping[str, Any]
    ) -> list[Row]:
        """Return the rows of one statement, as `run` does; `%(tenant)s` is among its values."""

        async def attempt() -> list[Row]:
            async with self._connection(tenant) as connection, connection.cursor() as cursor:
                async with connection.pipeline():  # one round trip, and one transaction, for both statements
                    await connection.execute(_SEE_TENANT, [tenant])
                    await cursor.execute(query, {"tenant": tenant, **values})
                return await cursor.fetchall() if cursor.description else []

        return await self._patiently(attempt)

    @asynccontextmanager
    async def alone(self, what: str) -> AsyncIterator[bool]:
        """Yield whether nobody else, in any process, is in such a block of this name; a kill ends it too."""
        async with self._connection(EVERY_TENANT) as line, line.transaction():
            row = await (await line.execute(_TRY_LOCK, [what])).fetchone()
            yield bool(row and row[0])

    @asynccontextmanager
    async def _connection(self, tenant: str) -> AsyncIterator[Connection]:
        if tenant != EVERY_TENANT:
            checked_name("tenant", tenant)
        try:
            async with self._pool.connection(timeout=min(_ATTEMPT_S, self.deadline_s)) as connection:
                try:
                    yield connection
                except ReadOnlySqlTransaction:
                    await connection.close()  # the next may reach a server that was promoted meanwhile
                    raise
        except PoolClosed:
            raise StoreError("the store is closed; open a new one") from None
        except psycopg.OperationalError as error:
            if isinstance(error, PoolTimeout) and self._refusal:
                raise StoreUnavailable(self._refusal) from None
            if is_dropped(error):
                await self._pool.check()  # other connections may have been lost with this one
            raise

    async def _enter_role(self, connection: Connection) -> None:
        """Work under a role that row level security holds for, whoever owns the tables."""
        try:
            await connection.execute("SET ROLE course_service")
        except psycopg.Error as error:
            self._refusal = _refused("the role course_service", error)
            raise
        self._refusal = ""

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make the attempt, again after a lost connection, until the deadline."""
        call = asyncio.create_task(self._again(attempt))
        try:
            await asyncio.wait({call}, timeout=self.deadline_s)
            if call.done():
                return call.result()
            said = "no answer"
        except (psycopg.OperationalError, ReadOnlySqlTransaction, UndefinedTable) as error:  # or a full disk
            said = hide_secrets(first_line(error))
        finally:
            if call.cancel():  # not waited for: psycopg asks a server that hangs to cancel, for 5 s
                self._left.add(call)
                call.add_done_callback(self._left.discard)
        raise StoreUnavailable(
            f"PostgreSQL did not do it within {self.deadline_s:g} s: {said}. What was under way is kept "
            "whole or not at all; start the server again, or ask for less at once"
        )


def _may_pass(error: Exception) -> bool:
    return is_dropped(error) or isinstance(error, ReadOnlySqlTransaction)


async def _call(attempt: Callable[[], Awaitable[T]]) -> T:
    return await attempt()


def checked_name(what: str, name: str) -> str:
    """Return the name of a tenant or a customer.

    Raises:
        StoreError: it is not of the form that such names have.
    """
    if not _NAME.fullmatch(name):
        form = "1 to 64 letters A-Z or a-z, digits and _.:-"
        raise StoreError(f"{name!r:.80} cannot be the name of a {what}: {form}")
    return name


def _refused(what: str, error: psycopg.Error) -> str:
    said = hide_secrets(first_line(error))
    remedy = "Grant it, start the service once with a user who may, or name another user there"
    return f"PostgreSQL refuses the user of DATABASE_URL {what}: {said}. {remedy}"


async def _migrate(url: str, folder: Path) -> list[str]:
    async with await AsyncConnection.connect(url, connect_timeout=2) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('migrations'))")  # until the commit
        await connection.execute(_MIGRATIONS_TABLE)
        rows = await (await connection.execute("SELECT name, sha256 FROM migrations")).fetchall()
        applied: dict[str, str] = dict(rows)
        done = []
        for path in sorted(folder.glob("*.sql")):  # noqa: ASYNC240  (a few small files, at the start)
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            if applied.get(path.name, digest) != digest:
                raise StoreError(
                    f"the migration {path.name} is not the one that was applied to this database; "
                    "put it back as it was, and write the change as a new migration"
                )
            if path.name not in applied:
                await connection.execute(content)
                await connection.execute(_APPLIED, [path.name, digest])
                done.append(path.name)
        return done


async def ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks until they have ended: a client library may keep a cancellation to itself, once."""
    while under_way := [task for task in tasks if not task.done()]:
        for task in under_way:
            task.cancel()
        await asyncio.wait(under_way, timeout=1.0)
