"""Pools of database connections that outlive the server's restarts, and the role that a model's may have.

Main path: Connections(url).run(work) -> what `work` returns, in one transaction; repeated after a lost
connection. grant(connection, readable) makes the role that a model's statements run under; url_for(owner_url)
is its own address, since a role that is only put on (SET ROLE) could be put off again by a statement.
Source: psycopg_pool 3.3, whose own reconnecting doubles its pauses up to minutes: here it gives up at once.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolClosed

from course_lib.errors import CourseError
from course_lib.redaction.secrets import hide_secrets
from course_lib.resilience.retries import retry

T = TypeVar("T")
Connection = psycopg.Connection[TupleRow]

_ATTEMPT_S = 1.0
_DROPPED = ("08", "57P01", "57P02", "57P03", "53300", "40001", "40P01")
"""SQLSTATEs of a lost connection, of a server that stops or starts, and of a transaction that lost."""

NAME = "course_model"

_FLAGS = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 16"
_SETTINGS = {
    "default_transaction_read_only": "on",
    "statement_timeout": "1500ms",
    "lock_timeout": "500ms",
    "transaction_timeout": "10s",
    "idle_in_transaction_session_timeout": "5s",
    "work_mem": "4MB",
    "hash_mem_multiplier": "1",
    "max_parallel_workers_per_gather": "0",
    "search_path": "public",
    "temp_file_limit": "64MB",
}
_WRITING_FUNCTIONS = """
    lo_creat lo_create lo_from_bytea lo_open lo_put lo_get lo_truncate lo_truncate64 lo_unlink loread lowrite
    pg_notify pg_logical_emit_message pg_export_snapshot pg_current_xact_id txid_current
    pg_sleep pg_sleep_for pg_sleep_until pg_cancel_backend pg_terminate_backend
"""
"""Functions that every role may call, and that write, wait or end something; advisory locks are added."""

_REVOKE = """
SELECT 'REVOKE EXECUTE ON FUNCTION ' || p.oid::regprocedure || ' FROM PUBLIC'
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = 'pg_catalog' AND (p.proname = ANY(%s) OR p.proname LIKE 'pg\\_%%advisory%%lock%%')
"""

# The pool reports each failed connection to its log; the caller gets an error that says the same.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())


class DatabaseError(CourseError):
    """The database refused something, or was asked wrongly."""


class DatabaseGone(DatabaseError):  # noqa: N818  (it says what happened)
    """The database did not answer in time; what was under way is kept whole or not at all."""


class Connections:
    """A few connections to one database, made when needed, tested before use."""

    def __init__(self, url: str, *, deadline_s: float, most: int = 4) -> None:
        self.url = url
        self.deadline_s = deadline_s
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            url,
            min_size=0,
            max_size=most,
            max_waiting=64,
            max_idle=60.0,
            reconnect_timeout=_ATTEMPT_S / 4,
            kwargs={"connect_timeout": 2, "application_name": "advanced-dspy"},
            check=ConnectionPool.check_connection,
            open=False,
        )

    def run(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` makes of a connection: all of it in one transaction, or none.

        `work` must be safe to repeat: a connection may drop after the commit.

        Raises:
            DatabaseGone: the database has not answered within the deadline.
            psycopg.Error: the database answered with an error.
        """
        attempt = retry(
            is_retryable=is_dropped,
            attempts=None,
            deadline_s=self.deadline_s,
            first_wait_s=0.05,
            longest_wait_s=1.0,
        )(self._attempt)
        try:
            return attempt(work)
        except psycopg.OperationalError as error:
            if not is_dropped(error):
                raise
            words = (
                f"the database does not answer after {self.deadline_s:g} s: {hide_secrets(first_line(error))}"
            )
            kept = "What was under way is kept whole or not at all"
            raise DatabaseGone(f"{words}. {kept}; start it again, or ask for less at once") from None

    def _attempt(self, work: Callable[[Connection], T]) -> T:
        try:
            self._pool.open()
            with self._pool.connection(timeout=min(_ATTEMPT_S, self.deadline_s)) as connection:
                return work(connection)
        except PoolClosed:
            raise DatabaseError("the adapter is closed; make a new one") from None
        except psycopg.OperationalError as error:
            if is_dropped(error):
                self._pool.check()  # other connections may have been lost with this one
            raise

    def close(self) -> None:
        """Close all connections, for good."""
        self._pool.close()


def is_dropped(error: Exception) -> bool:
    """Return whether the connection was lost, so that the call can be made again."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_DROPPED)


def first_line(error: psycopg.Error) -> str:
    """Return the first line of what the server or the client library said."""
    return (error.diag.message_primary or str(error) or type(error).__name__).splitlines()[0]


def grant(connection: Connection, readable: Sequence[str]) -> None:
    """Make the role or mend it, and let it read `readable` and nothing else.

    The connection has to be an administrator's, who also closes what PostgreSQL opens to every role.
    """
    password = _password(connection.info.password)
    if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [NAME]).fetchone():
        connection.execute(f"CREATE ROLE {NAME}")
    connection.execute(sql.SQL(f"ALTER ROLE {NAME} {_FLAGS} PASSWORD {{}}").format(sql.Literal(password)))
    for name, value in _SETTINGS.items():
        connection.execute(sql.SQL(f"ALTER ROLE {NAME} SET {name} = {{}}").format(sql.Literal(value)))
    _grant_tables(connection, readable)
    for (statement,) in connection.execute(_REVOKE, [_WRITING_FUNCTIONS.split()]).fetchall():
        connection.execute(statement)


def _grant_tables(connection: Connection, readable: Sequence[str]) -> None:
    database = sql.Identifier(connection.info.dbname)
    connection.execute(sql.SQL("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC").format(database))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO " + NAME).format(database))
    connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
        connection.execute(f"REVOKE ALL ON ALL {kind} IN SCHEMA public FROM PUBLIC, {NAME}")
    for table in readable:
        name = sql.Identifier("public", table)
        connection.execute(sql.SQL(f"GRANT SELECT ON {{}} TO {NAME}").format(name))


def parts_of(url: str) -> dict[str, Any]:
    """Return the parts of a database's address.

    Raises:
        DatabaseError: a piece of the password may have been taken for another part; none is in the message.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        parts = {"host": "@"}
    others = "".join(str(value) for key, value in parts.items() if key not in ("user", "password"))
    if "@" in others or not str(parts.get("port") or "0").replace(",", "").isdigit():
        raise DatabaseError(
            "the database's address cannot be read; write postgresql://user:password@host:port/name, and "
            "percent-encode what is neither letter nor digit in the password"
        )
    return parts


def url_for(owner_url: str) -> str:
    """Return the address at which the model's role logs in to the same database.

    Raises:
        DatabaseError: as parts_of() does.
    """
    parts = parts_of(owner_url)
    password = _password(str(parts.get("password") or ""))
    return make_conninfo("", **parts | {"user": NAME, "password": password})


def _password(owners: str) -> str | None:
    """Derive the role's password from the owner's, so that every process finds the same one."""
    if not owners:  # the server lets its socket's owner in without
        return None
    return hmac.new(owners.encode(), b"advanced-dspy " + NAME.encode(), hashlib.sha256).hexdigest()
