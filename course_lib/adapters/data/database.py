"""A database for a program and its model: predictions kept and searched, and questions in SQL, read-only.

Main path: DatabaseAdapter(running_postgres().url); await store_prediction(...); tools() for an agent.
The program's own statements are fixed text with parameters, against SQL injection. A model's statement is
parsed as one SELECT over allowed tables (selects.py), then run by a role that can do no more (grant), with
limits on time, rows and size.
The async methods run psycopg's blocking pool in threads, so that one adapter serves every event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import dspy
import psycopg
from psycopg.rows import TupleRow

from course_lib.adapters.data import connections, predictions
from course_lib.adapters.data.connections import Connection, Connections, DatabaseError, first_line
from course_lib.adapters.data.predictions import StoredPrediction
from course_lib.adapters.data.selects import one_select
from course_lib.adapters.tools.limits import LimitedTool, ToolRefused, limited

T = TypeVar("T")

MOST_ROWS = 50
"""Rows that an answer to the model may have."""
_LONGEST_ROW = 2_000
_LONGEST_WAIT_S = 3
_BEYOND_LIMITS = "the statement took more than 1.5 s, or too much memory, and was stopped; ask for less"
_BUSY = "the database is busy with other questions; ask again in a few seconds"
_REFUSALS = {**dict.fromkeys(("57014", "53200", "53400"), _BEYOND_LIMITS), "55P03": _BUSY}
"""By SQLSTATE: a statement canceled, out of memory or of temporary files, and a lock that was not free."""
_COLUMNS = """
SELECT quote_ident(table_name),
    string_agg(quote_ident(column_name) || ' ' || data_type, ', ' ORDER BY ordinal_position)
FROM information_schema.columns WHERE table_schema = 'public' AND table_name = ANY(%s)
GROUP BY table_name ORDER BY table_name
"""


class DatabaseAdapter(AbstractContextManager["DatabaseAdapter"]):
    """A PostgreSQL database of this application's own; opened with the first call, closed by close().

    Opening makes the tables of predictions and the model's role, and takes from the database's public what
    PostgreSQL grants to every role: temporary tables, large objects, notifications, sleeping, advisory locks.

    Args:
        url: an administrator's address, as running_postgres().url gives it.
        deadline_s: seconds for which a call is tried again while the database does not answer.
    """

    def __init__(self, url: str, *, deadline_s: float = 3.0) -> None:
        self._own = Connections(url, deadline_s=deadline_s)
        self._models = Connections(connections.url_for(url), deadline_s=deadline_s, most=1)
        self._readable: tuple[str, ...] = ()
        self._lock = threading.RLock()
        self._asking = threading.Lock()
        self._is_open = False

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Make the tables and the model's role, unless this adapter has done so already.

        Raises:
            DatabaseGone: the database does not answer.
            DatabaseError: the account may not make them, or a table of allow() is not there.
        """
        with self._lock:
            if not self._is_open:
                self._own.run(self._prepare)
                self._is_open = True

    def close(self) -> None:
        """Close all connections; the adapter refuses from then on."""
        self._own.close()
        self._models.close()

    def allow(self, *tables: str) -> None:
        """Let the model read further tables of the schema `public`."""
        with self._lock:
            self._readable = tuple(sorted({*self._readable, *tables}))
            self._is_open = False
            self.open()

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run the program's own `work` in one transaction, and wait for it; repeated after a lost connection.

        Raises:
            DatabaseGone: the database does not answer.
            DatabaseError: the database refused; the message has its words.
        """
        self.open()
        try:
            return self._own.run(work)
        except psycopg.Error as error:
            raise DatabaseError(f"the database refused: {first_line(error)}") from error

    # Predictions; each call raises DatabaseGone while the database does not answer

    async def store_prediction(
        self, prediction: dspy.Prediction, *, inputs: Mapping[str, Any], program: str = ""
    ) -> str:
        """Store what a module returned for these inputs, and return its key.

        Storing it again is safe and changes nothing.

        Raises:
            DatabaseError: a value is no JSON.
        """
        row = predictions.as_row(prediction, inputs, program=program)
        await asyncio.to_thread(self.write, lambda line: predictions.store(line, row))
        return row[0]

    async def get_prediction(self, key: str) -> StoredPrediction | None:
        """Return the prediction stored under `key`, or None."""
        return await asyncio.to_thread(self.write, lambda line: predictions.get(line, key))

    async def search_predictions(self, text: str, *, limit: int = 5) -> list[StoredPrediction]:
        """Return predictions by words, as in `"lost parcel" OR tent -refund`, best first, at most `limit`."""
        return await asyncio.to_thread(self.write, lambda line: predictions.search(line, text, limit))

    # What a model may do

    def query(self, sql: str) -> str:
        """Answer one SQL SELECT (PostgreSQL), read-only; see describe_tables for what there is."""
        lines = self._fetch(one_select(sql, self._readable))
        if any(len(line) > _LONGEST_ROW for line in lines):
            raise ToolRefused(f"a row is longer than {_LONGEST_ROW} characters; ask for left(column, 200)")
        if len(lines) > MOST_ROWS:
            lines[MOST_ROWS:] = [f"(only the first {MOST_ROWS} rows; narrow the question, or count)"]
        return "\n".join(lines) or "no rows"

    def describe_tables(self) -> str:
        """List the tables that query can read, with their columns."""
        rows = self.write(lambda connection: connection.execute(_COLUMNS, [list(self._readable)]).fetchall())
        return "\n".join(f"{table}({columns})" for table, columns in rows) or "no tables"

    def tools(self, *, calls: int | None = 20) -> list[LimitedTool]:
        """Return tools for an agent, each within limits (see limits.py): query, describe_tables, search."""

        def search_predictions(text: str) -> str:
            """Search earlier questions and the answers given to them, by their words."""
            results = self.write(lambda connection: predictions.search(connection, text, 5))
            lines = [f"{one.program} {one.inputs} -> {one.outputs}".strip() for one in results]
            return "\n".join(lines) or "nothing found"

        return [limited(func, calls=calls) for func in (self.query, self.describe_tables, search_predictions)]

    def _prepare(self, connection: Connection) -> None:
        try:
            connection.execute("SET LOCAL client_min_messages = warning")  # "already exists, skipping"
            connection.execute("SELECT pg_advisory_xact_lock(20260315)")  # two openers at once would collide
            connection.execute(predictions.TABLES)
            connections.grant(connection, self._readable)
        except psycopg.ProgrammingError as error:
            needs = "it needs an administrator's account and every table of allow()"
            raise DatabaseError(f"the database cannot be set up: {first_line(error)}; {needs}") from error

    def _fetch(self, checked: str) -> list[str]:
        """Fetch rows as JSON, cut on the server: no more than this ever comes over."""
        statement = (
            f"SELECT left(row_to_json(answer)::text, {_LONGEST_ROW + 1}) "  # noqa: S608  (checked)
            f"FROM ({checked}) AS answer LIMIT {MOST_ROWS + 1}"
        )
        self.open()
        if not self._asking.acquire(timeout=_LONGEST_WAIT_S):
            raise ToolRefused(_BUSY)
        try:
            return [row[0] for row in self._own.run(lambda own: self._one_at_a_time(own, statement))]
        except psycopg.Error as error:
            hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
            words = f"the database did not take it: {first_line(error)}{hint}"
            raise ToolRefused(_REFUSALS.get(error.sqlstate or "", words)) from None
        finally:
            self._asking.release()

    def _one_at_a_time(self, own: Connection, statement: str) -> list[TupleRow]:
        """Run a model's statement while no other model's runs in this database, so that memory is bounded."""
        own.execute(f"SET LOCAL lock_timeout = '{_LONGEST_WAIT_S}s'")
        own.execute("SELECT pg_advisory_xact_lock(20260317)")
        # binary: so it goes by the protocol that takes one statement, in parentheses none that writes
        return self._models.run(lambda line: line.execute(statement.encode(), binary=True).fetchall())
