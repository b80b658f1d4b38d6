"""What a batch has paid for, in one SQLite file: written before an item is handed out, read by the next run.

Main path: Journal.open(path, belongs_to) -> find(key, digest) -> Stored | None; write(items).
A row is one transaction, so a kill leaves it whole or not at all. The file is locked for one run at a time.
Results are safe from a killed process; a power cut may lose the last seconds (synchronous=NORMAL).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from course_lib.caching.batch.errors import DuplicateKeyError, JournalError, OtherBatchError, UnkeepableError
from course_lib.caching.batch.fingerprint import differences
from course_lib.caching.batch.items import Failure, Item, Usage
from course_lib.caching.batch.plain import Codec

FORMAT = "course-batch-1"
_CACHE_KIB = 2048
_PATIENCE_S = 0.3
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE items (
    key TEXT PRIMARY KEY, place INTEGER NOT NULL, run INTEGER NOT NULL, input BLOB NOT NULL,
    ok INTEGER NOT NULL, value TEXT NOT NULL, cost TEXT NOT NULL, mac BLOB NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """One row: an item's end, without its inputs."""

    result: Any
    error: Failure | None
    usage: Usage
    duration_ms: float


class Journal:
    """An open journal; used by one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, path: Path, codec: Codec) -> None:
        self._connection, self._path, self._codec = connection, path, codec
        self._run = 1
        self.damaged = 0
        """Rows that no longer were what was written; their items are run, and paid for, again."""
        self._last_place = -1
        self._goes_by_place = False

    @classmethod
    def open(cls, path: Path, belongs_to: Mapping[str, str], codec: Codec) -> Journal:
        """Open the journal at `path`, or begin one.

        Raises:
            OtherBatchError: it was begun by another program.
            JournalError: it is damaged, in use, or cannot be written.
        """
        connection: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False
            )
            journal = cls(connection, path, codec)
            with journal._guarded("opened"):
                journal._prepare(belongs_to)
        except OSError as error:
            raise JournalError(
                f"the journal {path} cannot be made: {error.strerror}; name another place"
            ) from error
        except sqlite3.Error as error:
            raise JournalError(f"the journal {path} cannot be opened: {error}; name another place") from error
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        return journal

    def find(self, key: str, digest: bytes, place: int) -> Stored | None:
        """Return what an earlier run wrote for this item; None if there is nothing, or it is damaged.

        Raises:
            OtherBatchError: the key stands for another input.
            DuplicateKeyError: this run has met the key before.
        """
        if self._goes_by_place and place > self._last_place:
            return None  # no earlier run came so far; asking SQLite yields to other threads, which costs more
        with self._guarded("read"):
            row = self._connection.execute(
                "SELECT place, run, input, ok, value, cost, mac FROM items WHERE key = ?", (key,)
            ).fetchone()
            if row is None:
                return None
            was_place, run, was_input, ok, value, cost, mac = row
            if mac != _mac(key, was_input, ok, value, cost):
                self.damaged += 1
                self._connection.execute("DELETE FROM items WHERE key = ?", (key,))
                return None
            if run == self._run and was_place != place:
                raise duplicate(key, was_place, place)
            if was_input != digest:
                raise OtherBatchError(
                    f"item {place} (key {key!r}) is not what it was when {self._path} was begun. "
                    "Give the same input, or begin with a journal of another name"
                )
            if was_place != place:  # an input with keys that grew in front: remember who has claimed the row
                self._connection.execute(
                    "UPDATE items SET place = ?, run = ? WHERE key = ?", (place, self._run, key)
                )
        try:
            return self._stored(ok, value, cost)
        except (TypeError, ValueError) as error:
            raise JournalError(
                f"item {place} (key {key!r}) in {self._path} is not what the program's types take today: "
                f"{error}. Begin with a journal of another name"
            ) from error

    def forget(self, key: str) -> None:
        """Drop a row, so that its item is run again."""
        with self._guarded("written"):
            self._connection.execute("DELETE FROM items WHERE key = ?", (key,))

    def write(self, items: Sequence[tuple[Item, bytes]]) -> list[JournalError | None]:
        """Keep how items ended, each with the digest of its input, in one transaction.

        Returns:
            For each item None if it is kept now, or why it is not: its result is not something JSON can hold
            (UnkeepableError), or the disk is full or read-only.
        """
        rows, problems = [], list[JournalError | None]()
        for item, digest in items:
            try:
                rows.append(self._row(item, digest))
                problems.append(None)
            except UnkeepableError as error:
                problems.append(error)
        if not rows:
            return problems
        try:
            with self._guarded("written"), self._transaction():
                self._connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        except JournalError as error:
            return [problem or error for problem in problems]
        return problems

    def _row(self, item: Item, digest: bytes) -> tuple[Any, ...]:
        if item.error is None:
            value = self._codec.dump(item.result)
        else:
            value = json.dumps([item.error.kind, item.error.message])
        cost = json.dumps([*astuple(item.usage), round(item.duration_ms, 3)])
        mac = _mac(item.key, digest, int(item.ok), value, cost)
        return item.key, item.index, self._run, digest, int(item.ok), value, cost, mac

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled it back already
                self._connection.execute("ROLLBACK")
            raise

    def count(self) -> int:
        """Return how many items are kept."""
        with self._guarded("read"):
            return int(self._connection.execute("SELECT count(*) FROM items").fetchone()[0])

    def close(self) -> None:
        """Give the file free. What was written stays written even if this fails."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _prepare(self, belongs_to: Mapping[str, str]) -> None:
        sql = self._connection.execute
        sql("PRAGMA locking_mode = EXCLUSIVE")  # one run at a time; also needs no shared memory file
        sql("PRAGMA journal_mode = WAL")
        sql("PRAGMA synchronous = NORMAL")
        sql(f"PRAGMA cache_size = -{_CACHE_KIB}")
        sql("BEGIN IMMEDIATE")
        if not sql("SELECT name FROM sqlite_master").fetchone():
            for statement in _TABLES.split(";"):
                sql(statement)
            self._note("format", FORMAT)
            self._note("belongs_to", json.dumps(dict(belongs_to)))
        self._check(belongs_to)
        self._note("run", str(self._run))
        self._note("begun_at_s", str(int(time.time())))
        sql("COMMIT")
        self._last_place = sql("SELECT coalesce(max(place), -1) FROM items").fetchone()[0]
        self._goes_by_place = belongs_to.get("keys") == "place"

    def _check(self, belongs_to: Mapping[str, str]) -> None:
        problem = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise sqlite3.DatabaseError(f"malformed: {problem}")
        notes = dict(self._connection.execute("SELECT name, value FROM meta"))
        if notes.get("format") != FORMAT:
            raise JournalError(f"{self._path} is no journal of a batch; name another place")
        if changed := differences(json.loads(notes["belongs_to"]), belongs_to):
            raise OtherBatchError(
                f"{self._path} belongs to another batch: {changed}. Go on with the program that began it, "
                "begin with a journal of another name, or tie journals to version=... instead"
            )
        self._run = int(notes.get("run", 0)) + 1

    def _note(self, name: str, value: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def _stored(self, ok: int, value: str, cost: str) -> Stored:
        *usage, duration_ms = json.loads(cost)
        if ok:
            return Stored(self._codec.load(value), None, Usage(*usage), duration_ms)
        return Stored(None, Failure(*json.loads(value)), Usage(*usage), duration_ms)

    @contextlib.contextmanager
    def _guarded(self, done: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise JournalError(f"the journal {self._path} could not be {done}: {_advice(error)}") from error


def duplicate(key: str, first: int, second: int) -> DuplicateKeyError:
    """Return the error for a key that two items share."""
    return DuplicateKeyError(
        f"items {first} and {second} have the same key {key!r}; keys must differ. "
        "Leave key= out to go by the items' order"
    )


def _mac(key: str, digest: bytes, ok: int, value: str, cost: str) -> bytes:
    """Return a checksum of a row: a disk may change what SQLite does not look at."""
    text = json.dumps([key, digest.hex(), ok, value, cost])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _advice(error: Exception) -> str:
    words = str(error)
    if "locked" in words:
        return "another run is using it. Wait for that one to end, or name another journal"
    if "full" in words or "readonly" in words or "disk I/O" in words or "unable to open" in words:
        return f"{words}. What it holds is kept: make room or make it writable, and run the batch again"
    if "malformed" in words or "not a database" in words:
        return f"it is damaged ({words}). Restore it from a copy, or move it away and pay for the items again"
    return f"{words}. What it holds is kept; run the batch again"
