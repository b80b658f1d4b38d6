"""A database for a program and its model: predictions kept and searched, and questions in SQL, read-only.

Main path: DatabaseAdapter(running_postgres().url); await store_prediction(...); tools() for an agent.
The program's own statements are fixed text with parameters, against SQL injection. A model's statement is
parsed as one SELECT over allowed tables (selects.py), then run by a role that can do no more than that
(model_role.py), in a read-only transaction, through a cursor, with limits on time, rows and size.
The methods are async and run psycopg's blocking pool in threads: one adapter serves every event loop and
thread of the process, as notebooks and dspy.Parallel need; an async pool belongs to one loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import dspy
import psycopg

from course_lib.adapters.data import model_role, predictions
from course_lib.adapters.data.connections import (
    Connection,
    Connections,
    DatabaseError,
    DatabaseGone,
    first_line,
)
from course_lib.adapters.data.predictions import StoredPrediction
from course_lib.adapters.data.selects import one_select
from course_lib.adapters.tools.limits import ToolRefused, limited

__all__ = ["DatabaseAdapter", "DatabaseError", "DatabaseGone", "Rows", "StoredPrediction"]

T = TypeVar("T")

_LONGEST_ROW = 2_000
_COLUMNS = """
SELECT table_name, string_agg(column_name || ' ' || data_type, ', ' ORDER BY ordinal_position)
FROM information_schema.columns WHERE table_schema = 'public' AND table_name = ANY(%s)
GROUP BY table_name ORDER BY table_name
"""


@dataclass(frozen=True, slots=True)
class Rows:
    """The answer to a SELECT."""

    lines: tuple[str, ...]
    """One JSON object per row, with the columns in their order."""
    is_cut: bool
    """Whether there were more rows than allowed."""

    def __str__(self) -> str:
        if not self.lines:
            return "no rows"
        more = [f"(only the first {len(self.lines)} rows; narrow the question, or count)"] * self.is_cut
        return "\n".join([*self.lines, *more])


class DatabaseAdapter:
    """A PostgreSQL database of this application's own; opened with the first call, closed by close().

    Opening makes the tables of predictions and the model's role, and takes from the database's public what
    PostgreSQL grants to every role: temporary tables, large objects, notifications, sleeping, advisory locks.

    Args:
        url: the owner's address, as running_postgres().url gives it.
        readable: the tables of schema `public` that the model may read; allow() adds to them.
        pool_size: connections at most, for the program and again for the model.
        deadline_s: seconds for which a call is tried again while the database does not answer.
        most_rows: rows that an answer to the model may have.
    """

    def __init__(
        self,
        url: str,
        *,
        readable: Iterable[str] = (),
        pool_size: int = 4,
        deadline_s: float = 3.0,
        most_rows: int = 50,
    ) -> None:
        self.is_sealed = False
        """Whether the owner's account had the rights to close the functions open to every role."""
        self._own = Connections(url, size=pool_size, deadline_s=deadline_s)
        self._models = Connections(
            model_role.url_for(url), size=pool_size, deadline_s=deadline_s, read_only=True
        )
        self._readable = tuple(sorted(set(readable)))
        self._most_rows = most_rows
        self._threads = ThreadPoolExecutor(2 * pool_size, thread_name_prefix="database")
        self._lock = threading.RLock()
        self._is_open = False

    def __enter__(self) -> DatabaseAdapter:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Make the tables and the model's role, unless this adapter has done so already.

        Raises:
            DatabaseGone: the database does not answer.
            DatabaseError: the account may not make them, or a readable table is not there.
        """
        with self._lock:
            if not self._is_open:
                self.is_sealed = self._own.run(self._prepare)
                self._is_open = True

    def close(self) -> None:
        """Close all connections; a later call opens the adapter again."""
        with self._lock:
            self._own.close()
            self._models.close()
            self._is_open = False

    def allow(self, *tables: str) -> None:
        """Let the model read further tables."""
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
        self,
        prediction: dspy.Prediction,
        *,
        inputs: Mapping[str, Any],
        program: str = "",
        key: str | None = None,
    ) -> str:
        """Store a prediction with its inputs and token counts, whole or not at all, and return its key.

        Args:
            prediction: what a module returned.
            inputs: what the module was called with.
            program: the module's name, such as "Triage".
            key: the request's own id, so that storing it again changes nothing; by default, one made of
                program, inputs and outputs.

        Raises:
            DatabaseGone: the database does not answer; nothing was stored, or, if the connection dropped
                after the commit, all of it: storing again is safe.
            DatabaseError: a value is no JSON, or the key belongs to another prediction.
        """
        row = predictions.as_row(prediction, inputs, program=program, key=key)
        await self._write(lambda connection: predictions.store(connection, row))
        return row.key

    async def get_prediction(self, key: str) -> StoredPrediction | None:
        """Return the prediction stored under `key`, or None."""
        return await self._write(lambda connection: predictions.get(connection, key))

    async def search_predictions(
        self, text: str, *, limit: int = 5, program: str | None = None
    ) -> list[StoredPrediction]:
        """Return predictions whose inputs or outputs hold the words of `text`, best first.

        Args:
            text: words, as for a search engine: `"lost parcel" -refund` or `tent OR stove`.
            limit: how many at most.
            program: only those of this program.
        """
        return await self._write(partial(predictions.search, text=text, limit=limit, program=program))

    # What a model may do

    async def query(self, sql: str) -> Rows:
        """Answer a SELECT that a model wrote.

        Raises:
            ToolRefused: it is not one SELECT over the readable tables, or the server did not take it.
            DatabaseGone: the database does not answer.
        """
        return await self._in_thread(lambda: self._query(sql))

    def describe_tables(self) -> str:
        """Return the tables that the model may read, one a line: name(column type, ...)."""
        self.open()
        rows = self.write(lambda connection: connection.execute(_COLUMNS, [list(self._readable)]).fetchall())
        return "\n".join(f"{table}({columns})" for table, columns in rows) or "no tables"

    def tools(
        self, *, deadline_s: float = 5.0, output_chars: int = 4000, calls: int | None = 20
    ) -> list[dspy.Tool]:
        """Return tools for an agent, each within limits (see limits.py): query, describe_tables, search."""

        def query(sql: str) -> str:
            """Answer one SQL SELECT (PostgreSQL), read-only; see describe_tables for what there is."""
            return str(self._query(sql))

        def describe_tables() -> str:
            """List the tables that query can read, with their columns."""
            return self.describe_tables()

        def search_predictions(text: str) -> str:
            """Search earlier questions and the answers given to them, by their words."""
            results = self.write(partial(predictions.search, text=text, limit=5, program=None))
            lines = [f"{one.program} {one.inputs} -> {one.outputs}".strip() for one in results]
            return "\n".join(lines) or "nothing found"

        return [
            limited(func, deadline_s=deadline_s, output_chars=output_chars, calls=calls)
            for func in (query, describe_tables, search_predictions)
        ]

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await self._in_thread(lambda: self.write(work))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Wait for `work` off the loop; there are few threads, and a crowd waits in line for them."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, work)

    def _prepare(self, connection: Connection) -> bool:
        try:
            connection.execute("SET LOCAL client_min_messages = warning")  # "already exists, skipping"
            connection.execute("SELECT pg_advisory_xact_lock(20260315)")  # two openers at once would collide
            connection.execute(predictions.TABLES)
            return model_role.grant(connection, self._readable)
        except psycopg.ProgrammingError as error:
            needs = "The account needs to own it and to be allowed to make roles"
            raise DatabaseError(
                f"the database cannot be set up: {first_line(error)}. {needs}, and every table named in "
                "`readable` has to be there"
            ) from error

    def _query(self, sql: str) -> Rows:
        checked = one_select(sql, self._readable)
        self.open()
        try:
            lines = self._models.run(lambda connection: self._fetched(connection, checked))
        except psycopg.errors.QueryCanceled:
            raise ToolRefused("the statement took more than 2 s and was stopped; ask for less") from None
        except psycopg.Error as error:
            hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
            raise ToolRefused(f"the database did not take it: {first_line(error)}{hint}") from None
        if any(len(line) > _LONGEST_ROW for line in lines):
            remedy = "ask for fewer columns, or left(column, 200)"
            raise ToolRefused(f"a row is longer than {_LONGEST_ROW} characters; {remedy}")
        return Rows(tuple(lines[: self._most_rows]), is_cut=len(lines) > self._most_rows)

    def _fetched(self, connection: Connection, checked: str) -> list[str]:
        """Fetch rows as JSON, cut on the server: no more than this ever comes over."""
        statement = (
            f"SELECT left(row_to_json(answer)::text, {_LONGEST_ROW + 1}) "  # noqa: S608  (checked)
            f"FROM ({checked}) AS answer LIMIT {self._most_rows + 1}"
        )
        with connection.cursor(name="answer") as cursor:  # DECLARE takes one SELECT, and none that writes
            cursor.execute(statement.encode())
            return [row[0] for row in cursor.fetchall()]
