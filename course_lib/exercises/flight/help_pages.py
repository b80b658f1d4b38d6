"""The help centre in PostgreSQL: its tables, a line to it that can hang, and the joined parts of project 1.

Main path: HelpPages(url) -> Watched -> Search -> Pool; each of the three can be a learner's own.
Source: psycopg 3.3 (AsyncConnection); course_lib.flight.Documents is what it satisfies.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, LiteralString, Self

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus

from course_lib.exercises.engine.registry import is_stub
from course_lib.flight import help_centre
from course_lib.flight.help_centre import FIND, TABLE

_CHANGES: LiteralString = """CREATE INDEX IF NOT EXISTS articles_words ON articles USING gin (words);
CREATE TABLE IF NOT EXISTS changes (number bigint NOT NULL);
INSERT INTO changes SELECT 0 WHERE NOT EXISTS (SELECT FROM changes);
CREATE OR REPLACE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN UPDATE changes SET number = number + 1; RETURN NULL; END';
CREATE OR REPLACE TRIGGER counted AFTER INSERT OR UPDATE OR DELETE ON articles
    FOR EACH STATEMENT EXECUTE FUNCTION count_change();
"""
SCHEMA: LiteralString = TABLE + _CHANGES
"""The flight's table, and a number that counts its changes."""


def fresh(url: str, schema: str) -> str:
    """Return an address of this database whose tables are an empty help centre of this name."""
    with psycopg.connect(url, autocommit=True, options="-c client_min_messages=warning") as owner:
        name = sql.Identifier(schema)
        owner.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(name))
        owner.execute(sql.SQL("CREATE SCHEMA {}").format(name))
    address = make_conninfo(url, options=f"-c search_path={schema} -c client_min_messages=warning")
    with psycopg.connect(address, autocommit=True) as owner:
        owner.execute(SCHEMA)
    return address


def fill(url: str, rows: Sequence[tuple[str, str, str, str]] | None = None) -> None:
    """Make missing tables, and put in rows of id, title, body, keywords; else the desk's."""
    help_centre.fill(url, rows, SCHEMA)


class Line:
    """A line to a PostgreSQL, in an `async with`: it can hang, as a stopped server does, or be cut."""

    def __init__(self, url: str) -> None:
        self._to = {name: str(value) for name, value in conninfo_to_dict(url).items()}
        self._flows, self._is_cut = asyncio.Event(), False
        self._ends, self._open = set[asyncio.StreamWriter](), set[asyncio.Task[None]]()

    async def __aenter__(self) -> Self:
        self._flows.set()
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = make_conninfo(**self._to | {"host": "127.0.0.1", "port": str(port), "sslmode": "disable"})
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        self._server.close()
        await asyncio.gather(*self._open, return_exceptions=True)

    def hang(self) -> None:
        """Let nothing through from now on; connections stay open, and new ones open."""
        self._flows.clear()

    def cut(self) -> None:
        """End all connections, and each new one at once."""
        self._is_cut = True
        self._flows.set()
        for end in self._ends:
            end.close()

    def mend(self) -> None:
        """Let all through again."""
        self._is_cut = False
        self._flows.set()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))  # ours to wait for, so not the server's
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._to.get("host", "127.0.0.1"), self._to.get("port", "5432")
        is_path = host.startswith("/")
        if self._is_cut:
            writer.close()
            return
        opened = asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}") if is_path else None
        there, back = await (opened or asyncio.open_connection(host, int(port)))
        self._ends |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        self._ends -= {writer, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


class Pool:
    """At most `size` connections; whoever waits longer than `wait_s` for one gets TimeoutError."""

    def __init__(self, url: str, size: int, wait_s: float) -> None:
        self.url, self.size, self.wait_s = url, size, wait_s
        self._slots, self._idle = asyncio.Semaphore(size), list[AsyncConnection[Any]]()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Give a connection for a block that is one transaction.

        Raises:
            TimeoutError: none was free in time.
        """
        try:
            async with asyncio.timeout(self.wait_s):
                await self._slots.acquire()
        except TimeoutError:
            message = f"all {self.size} connections to the database were in use for {self.wait_s} s"
            raise TimeoutError(message) from None
        connection = self._idle.pop() if self._idle else None
        try:
            connection = connection or await AsyncConnection.connect(self.url, autocommit=True)
            async with connection.transaction():
                yield connection
        finally:
            if connection and connection.info.transaction_status == TransactionStatus.IDLE:
                self._idle.append(connection)
            elif connection:
                await connection.close()
            self._slots.release()

    async def close(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            await self._idle.pop().close()


class Search:
    """Full-text search, which remembers the last `most` searches until an article changes."""

    def __init__(self, pool: Any, most: int = 100) -> None:
        self.pool, self.most = pool, most
        self._kept = OrderedDict[tuple[str, int], tuple[int, list[str]]]()

    async def search(self, text: str, limit: int = 3) -> list[str]:
        """Return the texts of the articles that fit best, best first."""
        text = text.replace("\0", " ").encode(errors="replace").decode()
        key = text, limit
        async with self.pool.connection() as connection:
            (number,) = await (await connection.execute("SELECT number FROM changes")).fetchone()
            before, texts = self._kept.get(key, (None, []))
            if before != number:
                found = await connection.execute(FIND, {"text": text, "limit": limit})
                texts = [row[0] for row in await found.fetchall()]
        self._kept[key] = number, texts
        self._kept.move_to_end(key)
        while len(self._kept) > self.most:
            self._kept.popitem(last=False)
        return list(texts)


class Watched:
    """Documents whose searches are counted, with their time; `health` answers within `within_s`."""

    def __init__(self, documents: Any, within_s: float = 0.5) -> None:
        self.documents, self.within_s = documents, within_s
        self._counts, self._seconds = Counter[str](), defaultdict[str, float](float)

    async def search(self, text: str, limit: int = 3) -> list[str]:
        """Return what the documents return."""
        began_s, outcome = time.monotonic(), "failed"
        try:
            texts: list[str] = await self.documents.search(text, limit)
            outcome = "found" if texts else "nothing"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self._counts[outcome] += 1
            self._seconds[outcome] += time.monotonic() - began_s
        return texts

    async def health(self) -> dict[str, Any]:
        """Return whether the database answers now, and else what is wrong, without an address."""
        probe = asyncio.ensure_future(self.documents.ping())
        await asyncio.wait([probe], timeout=self.within_s)  # which does not wait for a cancelled one
        if not probe.done():
            probe.cancel()
            probe.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            return {"ok": False, "error": "TimeoutError"}
        error = probe.exception()
        return {"ok": error is None, "error": type(error).__name__ if error else ""}

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return by outcome how many searches ended so, and the seconds they took together."""
        return {
            outcome: {"count": count, "seconds": self._seconds[outcome]}
            for outcome, count in self._counts.items()
        }


class Found:
    """What a watch needs of a pool and a search over it."""

    def __init__(self, pool: Any, found: Any) -> None:
        self._pool, self.search = pool, found.search

    async def ping(self) -> None:
        """Raise what goes wrong when the database does not answer."""
        async with self._pool.connection() as connection:
            await connection.execute("SELECT 1")


class HelpPages:
    """The documents of a system, in an `async with`: a pool, a search and a watch.

    Args:
        url: of a database, where tables and articles are made if they are missing.
        parts: the learner's Pool, Search and Watched; ours where one is still a stub, or is not given.
        size: of the pool.
        wait_s: for a connection.
        most: searches that are kept.
    """

    def __init__(self, url: str, *parts: Any, size: int = 4, wait_s: float = 2.0, most: int = 100) -> None:
        ours: tuple[Any, ...] = (Pool, Search, Watched)
        chosen = zip([*parts, *ours[len(parts) :]], ours, strict=True)
        pool, search, watched = (own if is_stub(part) else part for part, own in chosen)
        self._url, self._pool = url, pool(make_conninfo(url, connect_timeout=2), size, wait_s)
        self._watched = watched(Found(self._pool, search(self._pool, most)))

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(fill, self._url)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    async def search(self, text: str, limit: int = 3) -> Sequence[str]:
        """Return the texts of the articles that answer `text` best, the best one first."""
        found: Sequence[str] = await self._watched.search(text, limit)
        return found

    async def health(self) -> Mapping[str, Any]:
        """Return at least `ok`: whether the database answers now."""
        state: Mapping[str, Any] = await self._watched.health()
        return state

    def metrics(self) -> Mapping[str, Any]:
        """Return by outcome how many searches ended so, and the seconds they took together."""
        counts: Mapping[str, Any] = self._watched.metrics()
        return counts
