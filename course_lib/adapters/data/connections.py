"""Pools of database connections that outlive the server's restarts.

Main path: Connections(url).run(work) -> what `work` returns, in one transaction; repeated after a lost
connection.
Source: psycopg 3.3 and psycopg_pool 3.3. A pool's own reconnecting doubles its pauses up to minutes, so here
it gives up at once, and each call connects anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from course_lib.errors import CourseError
from course_lib.resilience.deadline import Deadline
from course_lib.resilience.retries import retry

T = TypeVar("T")
Connection = psycopg.Connection[TupleRow]

_ATTEMPT_S = 1.0
_SHORTEST_ATTEMPT_S = 0.2
_DROPPED = ("08", "57P01", "57P02", "57P03", "53300", "40001", "40P01")
"""SQLSTATEs of a lost connection, of a server that stops or starts, and of a transaction that lost."""

# The pool reports each failed connection to its log; the caller gets an error that says the same.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())


class DatabaseError(CourseError):
    """The database refused something, or was asked wrongly."""


class DatabaseGone(DatabaseError):  # noqa: N818  (it says what happened)
    """The database did not answer in time; what was under way is kept whole or not at all."""


class Connections:
    """At most `size` connections to one database, made when needed, tested before use."""

    def __init__(self, url: str, *, size: int, deadline_s: float, read_only: bool = False) -> None:
        self.url = url
        self.deadline_s = deadline_s
        """Seconds for which a call is tried again while the database does not answer."""
        self._size = size
        self._read_only = read_only
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Connection] | None = None

    def run(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` makes of a connection: all of it in one transaction, or none.

        `work` may be called more than once, so it must be safe to repeat: a connection may drop after the
        commit.

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
            raise DatabaseGone(self._why(error)) from None

    def _attempt(self, work: Callable[[Connection], T]) -> T:
        pool, deadline = self._opened(), Deadline.current()
        left_s = deadline.remaining_s() if deadline else _ATTEMPT_S
        try:
            with pool.connection(timeout=min(_ATTEMPT_S, max(left_s, _SHORTEST_ATTEMPT_S))) as connection:
                return work(connection)
        except psycopg.OperationalError as error:
            if is_dropped(error):
                pool.check()  # other connections may have been lost with this one
            raise

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _opened(self) -> ConnectionPool[Connection]:
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self.url,
                    min_size=0,
                    max_size=self._size,
                    max_waiting=64,
                    max_idle=60.0,
                    reconnect_timeout=_ATTEMPT_S / 4,
                    kwargs={"connect_timeout": 2, "application_name": "advanced-dspy"},
                    configure=self._configure,
                    check=ConnectionPool.check_connection,
                    open=True,
                )
            return self._pool

    def _configure(self, connection: Connection) -> None:
        connection.read_only = self._read_only

    def _why(self, error: psycopg.OperationalError) -> str:
        """Say whether the server is gone, or only all of our connections are in use."""
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError as reason:
            words = f"the database does not answer after {self.deadline_s:g} s: {first_line(reason)}"
            kept = "What was under way is kept whole or not at all"
            return f"{words}. {kept}; start it again (running_postgres().start()) and repeat the call"
        words = f"the database gave no connection for {self.deadline_s:g} s, though it answers"
        remedy = "make the pool larger, or do less at once"
        return f"{words}: {first_line(error)}. All {self._size} connections may be in use; {remedy}"


def is_dropped(error: Exception) -> bool:
    """Return whether the connection was lost, so that the call can be made again."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_DROPPED)


def first_line(error: psycopg.Error) -> str:
    """Return the first line of what the server or the client library said."""
    return (error.diag.message_primary or str(error) or type(error).__name__).splitlines()[0]
