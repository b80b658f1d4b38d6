"""The audit log: who did what to which thing, in a chain of hashes that shows what was changed afterwards.

Main path: await audit.record(tenant, actor, "privacy.erase", subject) -> a batch in PostgreSQL -> its head
elsewhere; await audit.verify() -> Verified, or Broken with the first record that is not as it was written.

Each record's hash is an HMAC over the hash before it and the record, so whoever has the database alone can
neither change a record nor add one. Records cut off at the end leave a chain that is whole: they are told by
its head, kept in Redis. A log that does not end with its head goes on from the head, so that the
gap is there for ever; and a head that is gone or cannot be read, and known to no process, is told by a record
of its own.
Somebody who has the key, or can set both database and head back to an earlier day, is out of reach of this:
keep the head where the database's administrator cannot write.

Nothing personal is in a record: names of keys, pseudonyms, ids and counts; `record` refuses other values.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import re
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, LiteralString, NamedTuple, Self

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from course_lib.deployment.database import EVERY_TENANT, Cursor, Database, ended
from course_lib.deployment.store import new_id
from course_lib.errors import CourseError

Value = str | int | float | bool | None

START = "0" * 64
"""The hash before the first record."""
MOST_WAITING = 10_000
"""So many records may wait for the database."""

_AT_ONCE = ("admin.", "privacy.")
_EVERY_S = 0.5
_BATCH = 500
_IDENTIFIER = re.compile(r"[\w.:/=-]{0,128}", re.ASCII)
_SELECT: LiteralString = """SELECT seq, id, tenant, actor, action, target, detail,
    CASE WHEN at BETWEEN '0002-01-01' AND '9998-12-31' THEN at ELSE '0002-01-01' END, hash FROM audit
"""  # a time that somebody set which Python has not, such as infinity, is another time too
_PAGE_AFTER: LiteralString = f"{_SELECT} WHERE seq > %(after)s ORDER BY seq LIMIT 1000"
_NEWEST: LiteralString = f"""{_SELECT} WHERE tenant = %(tenant)s
    AND (%(before)s::bigint IS NULL OR seq < %(before)s) ORDER BY seq DESC LIMIT %(limit)s"""
_INSERT: LiteralString = """INSERT INTO audit (seq, id, tenant, actor, action, target, detail, at, hash)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"""
_ENDS: LiteralString = """
SELECT seq, hash FROM audit WHERE seq = ANY(%s) OR seq = (SELECT max(seq) FROM audit) ORDER BY seq
"""
_HEAD_LOST = "audit.head_lost"
_REDIS_NAME = "service:audit-head"
_PUT_HEAD = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local seq, hash = unpack(redis.call('HMGET', KEYS[1], 'seq', 'hash'))
local is_head = seq and hash and #seq < 16 and seq:match('^%d+$') and hash:match('^[0-9a-f]+$')
if not is_head or tonumber(ARGV[1]) > tonumber(seq) then
  redis.call('HSET', KEYS[1], 'seq', ARGV[1], 'hash', ARGV[2])
end
"""
_SEQ, _HASH = re.compile(rb"[0-9]{1,15}"), re.compile(rb"[0-9a-f]+")  # numbers that Redis can compare
_log = logging.getLogger("course_lib.deployment")


class AuditError(CourseError):
    """A record that cannot be taken: it holds what no record may hold, or too many wait to be written."""


class Entry(NamedTuple):
    """A record of the log."""

    id: str
    tenant: str
    actor: str
    """The name of the key or the service that acted."""
    action: str
    """Such as `answers.create`; those that begin with `admin.` or `privacy.` are written at once."""
    target: str
    """An id, or a pseudonym."""
    detail: str
    """Canonical JSON."""
    at: datetime


class Head(NamedTuple):
    """The end of the chain."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Verified:
    """Every record is as it was written."""

    records: int
    has_head: bool
    """Without a head, records that were cut off at the end would not be noticed."""
    head_lost_at: int = 0
    """The last record before which the head was gone, so that what was cut off then was not noticed."""

    @property
    def doubt(self) -> str:
        """Why records cut off at the end would not be noticed; empty if they would."""
        lost = f"the head was gone before record {self.head_lost_at}" if self.head_lost_at else ""
        why = lost if self.has_head else "there is no head"
        return f"; {why}, so records cut off at the end would not be noticed" if why else ""

    def __str__(self) -> str:
        return f"verified: {self.records} records are as they were written{self.doubt}"


@dataclass(frozen=True, slots=True)
class Broken:
    """The first record that is not as it was written."""

    seq: int
    why: str

    def __str__(self) -> str:
        return f"broken at record {self.seq}: {self.why}; or the key is not the one it was written with"


class RedisHead:
    """The chain's head in Redis, outside the database; one that evicts keys may lose it."""

    def __init__(self, url: str) -> None:
        waits: dict[str, Any] = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5}
        self._client = redis.asyncio.Redis.from_url(url, retry=Retry(NoBackoff(), 0), **waits)

    async def read(self) -> Head | None:
        """Return the last head; None before the first, and where something else stands in its place."""
        try:
            found = await self._client.hmget(_REDIS_NAME, "seq", "hash")
        except ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            return None
        if not isinstance(found, list) or len(found) != 2:
            raise RedisError("it answers something else than was asked")
        seq, digest = (each if isinstance(each, bytes) else b"" for each in found)
        is_head = _SEQ.fullmatch(seq) and _HASH.fullmatch(digest)
        return Head(int(seq), digest.decode()) if is_head else None

    async def write(self, head: Head) -> None:
        """Keep a head, unless a later one is there."""
        await self._client.eval(_PUT_HEAD, 1, _REDIS_NAME, str(head.seq), head.hash)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()


class Audit:
    """Writes records in batches, from any number of replicas; at its end, `async with` writes the rest."""

    def __init__(self, database: Database, key: bytes, head: RedisHead | None = None) -> None:
        """Take the service's signing key, and what keeps the head."""
        self._database, self._head = database, head
        self._key = hmac.digest(key, b"audit", "sha256")
        self._waiting: deque[Entry] = deque()
        self._written = 0
        self._last: Head | None = None  # that this process wrote
        self.error = ""
        """The class of the error that the last attempt to write ended with; empty if it was written."""
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._flush_often())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await ended(self._task)
        try:
            await self.flush()
        except Exception as error:  # border: a database may say anything
            _log.error("%d records of the audit log are lost: %s", self.waiting, type(error).__name__)

    @property
    def waiting(self) -> int:
        """How many records are not written yet."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether so many wait that no more is taken."""
        return self.waiting >= MOST_WAITING

    async def record(self, tenant: str, actor: str, action: str, target: str, **detail: Value) -> None:
        """Take a record, to be written within half a second; one of admin or privacy at once.

        Raises:
            AuditError: too many wait, since the database is away; or a value is no id, number or pseudonym.
            StoreUnavailable: an action that is written at once was not written; it stays in the queue.
        """
        names = {"tenant": tenant, "actor": actor, "action": action, "target": target}
        for name, value in (names | detail).items():
            if isinstance(value, str) and not _IDENTIFIER.fullmatch(value):
                what = f"{name} of {action!r:.80}"
                raise AuditError(f"{what} is no id, number or pseudonym: the log holds nothing personal")
        if self.is_full:
            raise AuditError(f"{self.waiting} records wait for the database; no more is taken till then")
        entry = Entry(new_id("audit"), tenant, actor, action, target, _canonical(detail), datetime.now(UTC))
        self._waiting.append(entry)
        if action.startswith(_AT_ONCE):
            await self.flush()

    async def flush(self) -> None:
        """Write all that waits by now: what comes meanwhile might never end, while the head is slow to read.

        Raises:
            StoreUnavailable: the database is away; what was not written stays in the queue.
        """
        end = self._written + self.waiting
        async with self._writing:
            while self._written < end:
                batch = tuple(islice(self._waiting, _BATCH))
                try:
                    kept = await self._kept()
                    head = await self._database.run(EVERY_TENANT, partial(self._append, batch, kept))
                except Exception as error:
                    self.error = type(error).__name__
                    raise
                for _ in batch:
                    self._waiting.popleft()
                self._written += len(batch)
                self._last, self.error = head, ""
                if not kept.error:  # else what it has was not compared with the log; the next batch is
                    await self._keep(head)

    async def entries(
        self, tenant: str, *, before: int | None = None, limit: int = 100
    ) -> list[tuple[int, Entry]]:
        """Return a tenant's records with their sequence numbers, newest first."""
        rows = await self._database.rows(tenant, _NEWEST, {"before": before, "limit": limit})
        return [(seq, Entry(*fields)) for seq, *fields, _ in rows]

    async def verify(self) -> Verified | Broken:
        """Read the whole log, and compare it with its hashes and its head.

        Raises:
            AuditError: the head cannot be read, since what keeps it is away.
            StoreUnavailable: the database is away.
        """
        kept, lost_at, last = await self._kept(), 0, Head(0, START)
        if kept.error:
            raise AuditError(f"what keeps the audit log's head does not answer ({kept.error}); ask again")
        heads, head = {each.seq: each.hash for each in kept.heads}, max(kept.heads, default=None)
        while rows := await self._database.rows(EVERY_TENANT, _PAGE_AFTER, {"after": last.seq}):
            for seq, *fields, digest in rows:
                expected = self._next(last, Entry(*fields))
                if seq != expected.seq:
                    return Broken(expected.seq, f"record {expected.seq} is missing")
                if not hmac.compare_digest(digest, expected.hash):
                    return Broken(expected.seq, f"record {expected.seq} was changed, added or put elsewhere")
                if heads.get(expected.seq, expected.hash) != expected.hash:
                    return Broken(expected.seq, f"record {expected.seq} is not the one that the head names")
                lost_at, last = (seq if fields[3] == _HEAD_LOST else lost_at), expected
        if head and head.seq > last.seq:
            return Broken(last.seq + 1, f"records {last.seq + 1} to {head.seq} were cut off at the end")
        has_head = self._head is not None and head is not None
        return Verified(last.seq, has_head=has_head, head_lost_at=lost_at)

    async def _append(self, batch: Sequence[Entry], kept: _Kept, cursor: Cursor) -> Head:
        """Add a batch to the chain's end, which no other replica moves meanwhile.

        Where the log is not as its head says, the chain goes on from the head, one number later at least: the
        gap tells it for ever.
        """
        await cursor.execute("SELECT pg_advisory_xact_lock(hashtext('audit'))")
        await cursor.execute("SELECT id FROM audit WHERE id = ANY(%s)", [[entry.id for entry in batch]])
        written = set(await cursor.fetchall())  # by an attempt whose connection was lost after its commit
        missing = [entry for entry in batch if (entry.id,) not in written]
        if kept.is_lost and not kept.error:
            kept = await self._kept()  # another replica has begun the log meanwhile, or it is really gone
        await cursor.execute(_ENDS, [[each.seq for each in kept.heads]])
        ends = [Head(0, START), *(Head(*row) for row in await cursor.fetchall())]
        end, rows = ends[-1], []
        if kept.is_lost and missing and (end.seq or kept.error):
            names = new_id("audit"), EVERY_TENANT, "service", _HEAD_LOST, "audit"
            missing.insert(0, Entry(*names, "{}", datetime.now(UTC)))
        elif (
            kept.is_lost and not kept.error
        ):  # the log begins: from before its first record on there is a head
            await self._keep(end)
        if missing and not set(kept.heads) <= set(ends):
            _log.error("the audit log does not end with its head: verify it")
            head = max(kept.heads)
            end = Head(max(end.seq + 1, head.seq), head.hash)
        for entry in missing:
            end = self._next(end, entry)
            rows.append((end.seq, *entry, end.hash))
        if rows:
            await cursor.executemany(_INSERT, rows)
        return end

    def _next(self, last: Head, entry: Entry) -> Head:
        """Return the head of a chain that has this record behind `last`."""
        text = last.hash + _canonical([last.seq + 1, *entry[:-1], entry.at.astimezone(UTC).isoformat()])
        return Head(last.seq + 1, hmac.new(self._key, text.encode(), "sha256").hexdigest())

    async def _kept(self) -> _Kept:
        """Return the heads that are known, here and by its keeper."""
        found, error = None, ""
        try:
            found = None if self._head is None else await self._head.read()
        except Exception as raised:  # border: of whatever the keeper says
            error = type(raised).__name__
        heads = tuple(head for head in (found, self._last) if head is not None)
        return _Kept(heads, is_lost=not heads and self._head is not None, error=error)

    async def _keep(self, head: Head) -> None:
        try:
            if self._head is not None:
                await self._head.write(head)
        except Exception as error:  # border: the records are written; the next batch tells it
            _log.warning("the audit log's head could not be kept: %s", type(error).__name__)

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.flush()
            except Exception as error:  # border: a database may say anything; they wait, up to a bound
                _log.warning("the audit log is not written at the moment: %s", type(error).__name__)


class _Kept(NamedTuple):
    heads: tuple[Head, ...]
    """Each must be in the chain; the later one is where it ends."""
    is_lost: bool
    """Whether its keeper has none or cannot be read, and this process wrote none either."""
    error: str = ""
    """Why its keeper could not be read."""


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


async def verify_log() -> Verified | Broken:
    """Verify the log that the environment names: DATABASE_URL, COURSE_SERVICE_SIGNING_KEY, REDIS_URL.

    Raises:
        AuditError: one of the first two is missing, or Redis does not answer.
        StoreUnavailable: the database does not answer.
    """
    url, key = (os.environ.get(name, "") for name in ("DATABASE_URL", "COURSE_SERVICE_SIGNING_KEY"))
    if not url or not key:
        missing = "COURSE_SERVICE_SIGNING_KEY" if url else "DATABASE_URL"
        raise AuditError(f"{missing} is not set; set it to what the service has")
    redis_url = os.environ.get("REDIS_URL")
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(url, size=1, deadline_s=60.0))
        head = RedisHead(redis_url) if redis_url else None
        if head:
            stack.push_async_callback(head.close)
        return await Audit(database, key.encode(), head).verify()
