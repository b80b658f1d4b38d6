"""What events have done, in SQLite: an effect and its event's id are written in one transaction.

Main path: result = await effects.once(event, work): delivered at least once, done once.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar

from course_lib.concurrency.events.stream import Event
from course_lib.resilience import forks

T = TypeVar("T")
_TABLE = """
create table if not exists effects (
    tenant text not null, kind text not null, id text not null, result text not null,
    primary key (tenant, kind, id)
)
"""


class Effects:
    """A file of effects on a local disk, for many tasks and processes; a kind of event has one handler."""

    def __init__(self, path: Path | str) -> None:
        """Name the file; it is opened, or made, with the first need."""
        self._path, self._thread = path, ThreadPoolExecutor(1, "effects")  # SQLite has one writer
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.RLock()  # held by a transaction: a process forks between two
        forks.held.add(self)

    def close(self) -> None:
        """Let the thread do what is under way, close the file and end; this does not wait for it."""
        with suppress(RuntimeError):  # closed already
            self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=False)

    async def once(
        self,
        event: Event,
        work: Callable[[], Awaitable[Any]],
        write: Callable[[sqlite3.Connection, Any], object] | None = None,
    ) -> Any:
        """Return the result of an event's work: the recorded one, or that of doing it now.

        Where two do the work at once, that of the first to end is recorded, and both return it.

        Args:
            event: known by tenant, kind and id.
            work: returns what can be JSON; it is repeated if its process dies, so it changes nothing itself.
            write: makes the effect: given the result, in the transaction that records the event.
        """

        def record(connection: sqlite3.Connection) -> str:
            if (found := _recorded(connection, event)) is not None:
                return found
            if write is not None:
                write(connection, json.loads(text))
            row = (event.tenant, event.kind, event.id, text)
            connection.execute("insert into effects values (?, ?, ?, ?)", row)
            return text

        found = await self.transact(lambda connection: _recorded(connection, event))
        if found is None:
            text = json.dumps(await work())
            found = await self.transact(record)
        return json.loads(found)

    async def missing(self, events: Iterable[Event]) -> list[Event]:
        """Return those that have no effect: what to publish again when the server has lost its memory."""
        return await self.transact(
            lambda connection: [event for event in events if _recorded(connection, event) is None]
        )

    async def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do this in a transaction, in a thread: all of it, or nothing if it raises."""
        loop, run = asyncio.get_running_loop(), copy_context().run
        return await loop.run_in_executor(self._thread, lambda: run(self._transact, work))

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _begin_anew(self) -> None:
        """In a forked child, which has not the thread: give up the parent's connection, as SQLite demands."""
        self._disconnect()
        self._thread, self._connection = ThreadPoolExecutor(1, "effects"), None

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            if self._connection is None:
                self._connection = _opened(self._path)
            with self._connection as connection:  # commits, or rolls back what raises
                connection.execute("begin immediate")
                return work(connection)


def _opened(path: Path | str) -> sqlite3.Connection:
    """Return a connection to the file with its table; nothing stays open where that fails (a full disk)."""
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("pragma journal_mode=wal")  # synchronous stays full
        connection.execute(_TABLE)
    except BaseException:
        connection.close()
        raise
    return connection


def _recorded(connection: sqlite3.Connection, event: Event) -> str | None:
    query = "select result from effects where tenant = ? and kind = ? and id = ?"
    row = connection.execute(query, (event.tenant, event.kind, event.id)).fetchone()
    return row and str(row[0])
