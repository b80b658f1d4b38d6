"""What events have done, in SQLite: an effect and its event's id are written in one transaction.

Main path: result = await effects.once(event, work): delivered at least once, done once.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from course_lib.concurrency.events.stream import Event

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
        self._path, self._lock = path, threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file, after a transaction that is under way."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()

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
        return await asyncio.to_thread(self._transact, work)

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    self._path, 30, isolation_level=None, check_same_thread=False
                )
                self._connection.execute("pragma journal_mode=wal")  # synchronous stays full
                self._connection.execute(_TABLE)
            with self._connection as connection:  # commits, or rolls back what raises
                connection.execute("begin immediate")
                return work(connection)


def _recorded(connection: sqlite3.Connection, event: Event) -> str | None:
    query = "select result from effects where tenant = ? and kind = ? and id = ?"
    row = connection.execute(query, (event.tenant, event.kind, event.id)).fetchone()
    return row and str(row[0])
