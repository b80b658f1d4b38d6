"""Our own parts: what the rooms of sections 1 to 5 have, in the form that the flight asks for.

Main path: ours(off) -> Parts, of which a mechanism that is switched off is missing.
Source: psycopg_pool 3.3, prometheus-client 0.26; the rest is this library's.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import zlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import dspy
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from psycopg_pool import AsyncConnectionPool

from course_lib import desk, lm
from course_lib.caching import DiskTier, MemoryTier, RedisTier
from course_lib.concurrency import Consumer, EventStream
from course_lib.concurrency.events import Effects, Event
from course_lib.debugging import Tracer
from course_lib.deployment import Evidence
from course_lib.flight.help_centre import FIND
from course_lib.flight.parts import Busy, Job, Parts, Servers
from course_lib.resilience import Bulkhead, BulkheadFull, Deadline

T = TypeVar("T")
JOBS = "sim-large@flight-jobs"
STREAM = "tickets"
_TTL_S = 600.0
_TABLE = "create table if not exists outbox (id text, category text)"
Handle = Callable[[Job, Callable[[str], Awaitable[str]], Path], Awaitable[object]]
"""Does a job, once: given what sorts a text, and the file with the table `outbox`."""


class HelpCentre:
    """Documents: full text in PostgreSQL."""

    def __init__(self, servers: Servers) -> None:
        self._pool = AsyncConnectionPool(
            servers.database_url, min_size=1, max_size=4, timeout=1.0, open=False, kwargs={"autocommit": True}
        )

    async def __aenter__(self) -> Self:
        await self._pool.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    async def search(self, text: str, limit: int = 3) -> Sequence[str]:
        """Return the articles that share words with the text."""
        async with self._pool.connection() as connection:
            found = await connection.execute(FIND, {"text": text.replace("\0", " "), "limit": limit})
            rows = await found.fetchall()
        return [row[0] for row in rows]

    async def health(self) -> Mapping[str, Any]:
        """Ask the database."""
        async with asyncio.timeout(1.0), self._pool.connection() as connection:
            await connection.execute("select 1")
        return {"ok": True}


class Levels:
    """Cache: memory, Redis, a file; or Redis alone."""

    def __init__(self, servers: Servers, *, is_local: bool = True) -> None:
        self._memory = MemoryTier(4_000_000)
        self._redis = RedisTier(servers.redis_url, prefix="desk:")
        self._disk = DiskTier(servers.folder / "cache.db", 16_000_000)
        self._is_local = is_local
        self._below: list[Any] = [self._redis, self._disk] if is_local else [self._redis]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._redis.close()
        self._disk.close()

    async def get(self, key: str) -> str | None:
        """Return from the first level that has it, and fill memory."""
        if self._is_local and (kept := self._memory.get(key)) is not None:
            return str(kept)
        found: bytes | None = await asyncio.to_thread(
            lambda: next((value for level in self._below if (value := level.get(key)) is not None), None)
        )
        if found is None:
            return None
        if self._is_local:
            self._memory.put(key, found.decode(), ttl_s=_TTL_S)
        return found.decode()

    async def set(self, key: str, value: str) -> None:
        """Keep in every level."""
        if self._is_local:
            self._memory.put(key, value, ttl_s=_TTL_S)
        await asyncio.to_thread(
            lambda: [level.put(key, value.encode(), ttl_s=_TTL_S) for level in self._below]
        )


class NoCache:
    """Cache that keeps nothing."""

    async def get(self, key: str) -> str | None:  # noqa: ARG002
        """Return nothing."""
        return None

    async def set(self, key: str, value: str) -> None:
        """Forget it."""


class BoundedRunner:
    """Runner: so many at once, twice as many wait, the rest is refused."""

    def __init__(self, _: Servers, *, limit: int = 8) -> None:
        self._places = Bulkhead("the desk", limit=limit, waiting=2 * limit)

    async def run(self, call: Callable[[], Awaitable[T]], within_s: float) -> T:
        """Take a place, and call; whoever is late is cancelled."""
        try:
            async with Deadline.after(within_s).held(), self._places:
                return await call()
        except BulkheadFull as error:
            raise Busy(str(error)) from None


class Spans:
    """Tracer: debugging's, its spans as plain data."""

    def __init__(self, _: Servers) -> None:
        self._tracer = Tracer(content=False, kept=50_000)

    def __enter__(self) -> Self:
        self._tracer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._tracer.__exit__(*error)
        self._tracer.close()

    def span(self, name: str) -> AbstractContextManager[Any]:
        """Trace a block."""
        return self._tracer.span(name)

    @property
    def spans(self) -> Sequence[Mapping[str, Any]]:
        """All that have ended."""
        return [_plain(each) for each in self._tracer.spans]


def _plain(span: Any) -> dict[str, Any]:
    return {
        "name": span.name,
        "trace": f"{span.context.trace_id:032x}",
        "id": f"{span.context.span_id:016x}",
        "parent": f"{span.parent.span_id:016x}" if span.parent else None,
        "begun_s": span.start_time / 1e9,
        "took_s": (span.end_time - span.start_time) / 1e9,
        "error": span.attributes.get("error.type"),
        "attributes": dict(span.attributes),
    }


class Requests:
    """Monitor: rate, outcome, duration."""

    def __init__(self, _: Servers) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("desk_requests", "Requests that ended", ["outcome"], registry=self._registry)
        self._seconds = Histogram("desk_request_seconds", "Until the reply", registry=self._registry)

    def count(self, outcome: str, took_s: float) -> None:
        """Count one."""
        self._requests.labels(outcome).inc()
        self._seconds.observe(took_s)

    def text(self) -> str:
        """Return all as Prometheus reads it."""
        return generate_latest(self._registry).decode()


class EvidentCanary:
    """Canary: a fifth of the requests, until the bet that it is worse is won (deployment.Evidence)."""

    def __init__(self, _: Servers, *, share: float = 0.2, tolerated: float = 0.15) -> None:
        self.live, self.tried, self._share, self._tolerated = "1", "", share, tolerated
        self._evidence = Evidence()

    def deploy(self, version: str) -> None:
        """Try it on a share; without one, on all."""
        if self._share == 1:
            self.live = version
        else:
            self.tried, self._evidence = version, Evidence()

    def version(self, request_id: str) -> str:
        """Choose by the request's id."""
        is_tried = self.tried and zlib.crc32(request_id.encode()) % 1000 < 1000 * self._share
        return self.tried if is_tried else self.live

    def saw(self, version: str, *, is_good: bool) -> None:
        """Bet on it; take the version back when the bet is won."""
        if not self.tried or version not in (self.live, self.tried):
            return
        scores = ([float(is_good)], []) if version == self.tried else ([], [float(is_good)])
        self._evidence.take(*scores, self._tolerated)
        if self._evidence.worse > math.log(20):
            self.tried = ""


class TicketWorker:
    """Worker: sorts a ticket, writes that into the outbox once, and drafts an answer."""

    def __init__(self, servers: Servers, *, handle: Handle | None = None, off: Collection[str] = ()) -> None:
        """Make it; `handle` does one job in place of ours (stage 6.7.2)."""
        self._stream, self._outbox = EventStream(servers.queue_url, STREAM), servers.folder / "outbox.db"
        self._effects, self._off, self._do = Effects(self._outbox), off, handle
        self._lm = lm.connect(JOBS, cache=False)
        self._triage, self._draft = desk.Triage(), desk.Answer()

    async def run(self) -> None:
        """Handle events, each acknowledged when it is done."""
        await self._effects.transact(lambda connection: connection.execute(_TABLE).rowcount)
        if "redelivery" not in self._off:
            await Consumer(self._stream, self._handle, limit=16, idle_s=1.5).run()
        async with asyncio.TaskGroup() as group:
            while True:
                for entry in await self._stream.read("worker", 8):
                    await self._stream.acknowledge(entry)  # before it is done: a kill loses it
                    group.create_task(self._handle(entry.event()))

    async def _handle(self, event: Event) -> None:
        ticket = event.data["text"]
        with dspy.context(lm=self._lm):
            if self._do is not None:
                await self._do(Job(event.id, event.tenant, ticket), self._sort, self._outbox)
            elif "idempotent effects" in self._off:
                await self._effects.transact(partial(_write, event.id, await self._sort(ticket)))
            else:
                write = lambda connection, category: _write(event.id, category, connection)  # noqa: E731
                await self._effects.once(event, partial(self._sort, ticket), write)
            await self._draft.acall(question=ticket)

    async def _sort(self, ticket: str) -> str:
        return str((await self._triage.acall(ticket=ticket)).category)


def _write(job_id: str, category: str, connection: sqlite3.Connection) -> None:
    connection.execute("insert into outbox values (?, ?)", (job_id, category))


def ours(off: Collection[str] = ()) -> Parts:
    """Return our parts, without the mechanisms that are named."""
    off = frozenset(off)
    return Parts(
        documents=HelpCentre,
        cache=(lambda _: NoCache())
        if "cache" in off
        else partial(Levels, is_local="memory level" not in off),
        runner=partial(BoundedRunner, limit=10_000 if "bounded runner" in off else 8),
        tracer=Spans,
        monitor=Requests,
        worker=partial(TicketWorker, off=off),
        canary=partial(EvidentCanary, share=1.0 if "canary" in off else 0.2),
    )
