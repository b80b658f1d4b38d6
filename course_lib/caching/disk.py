"""The last tier: answers in one SQLite file, still there tomorrow; bounded, and without pickles.

Main path: put(key, value, ttl_s=...) -> a row; at `max_bytes` SQLite says that it is full, and room is made.
Source: SQLite's write-ahead log: several processes of one machine can share the file. Not on a network disk.

What may go wrong, and what comes of it. A damaged file: set aside beside itself, and a new one begun. A full
disk: puts are refused, reads go on. A file that cannot be opened or written, or is another program's: left
alone, with a try now and then. `last_error` says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from course_lib.caching.tiers import UTF_8, Clock, Guard

T = TypeVar("T")
_OURS = 0x41444333
"""In the file's head (SQLite's application_id), so that no other program's database is taken for a cache."""
_PAGE_BYTES = 4096
_FEWEST_PAGES = 64
_BUSY_S = 0.25
_ROOM_SHARES = (0.0, 0.1, 0.5)
"""Which share of the entries leaves when the file is full: the oldest, after those that have expired."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_NO_WRITES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY)
_SCHEMA = (
    "CREATE TABLE entry (key BLOB PRIMARY KEY, tags TEXT, kept_at REAL, expires_at REAL, value BLOB)",
    "CREATE INDEX entry_kept ON entry (kept_at)",
    "CREATE INDEX entry_tags ON entry (tags)",
    f"PRAGMA application_id = {_OURS}",
)
_READ = "SELECT value FROM entry WHERE key = ? AND (expires_at IS NULL OR expires_at > ?)"
_DROP_OLDEST = "DELETE FROM entry WHERE rowid IN (SELECT rowid FROM entry ORDER BY kept_at LIMIT ?)"


class DiskTier:
    """Answers in a file. Threads and processes may share it."""

    name = "disk"

    def __init__(
        self, path: Path | str, max_bytes: int, *, clock: Clock = time.time, first_wait_s: float = 1.0
    ) -> None:
        """Open the file, or make it and its folder, readable by its owner alone.

        Args:
            path: the file.
            max_bytes: the file never grows beyond this (its log, beside it, may take some MB for a while).
            clock: seconds that go on while no process runs.
            first_wait_s: how long the file is left alone after a failure; doubles up to eight times that.
        """
        self.path, self.max_bytes = Path(path).absolute(), max_bytes
        self._clock, self._most_pages = clock, max(_FEWEST_PAGES, max_bytes // _PAGE_BYTES)
        self._guard = Guard(str(self.path), first_wait_s=first_wait_s, diagnose=self._diagnose)
        self._notice = ""
        self._is_closed = False
        self._db: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._attempt(lambda _: None, None)

    @property
    def last_error(self) -> str:
        """What is wrong, or was set aside, in one line; empty when nothing is."""
        return self._guard.last_error or self._notice

    def get(self, key: str) -> bytes | None:
        """Return the value; None when it is not there, has expired, or the file cannot be read."""
        asked = (key.encode(*UTF_8), self._clock())
        row = self._attempt(lambda db: db.execute(_READ, asked).fetchone(), None)
        return row[0] if row and isinstance(row[0], bytes) else None

    def put(self, key: str, value: bytes, *, ttl_s: float | None, tags: tuple[str, ...] = ()) -> bool:
        """Store a value for `ttl_s` seconds; None leaves it there until it is crowded out."""
        name, now = key.encode(*UTF_8), self._clock()
        if len(value) > self.max_bytes // 2 or (ttl_s is not None and ttl_s <= 0):
            self.delete([key])  # what was there before must not outlive what was to replace it
            return False
        row = (name, json.dumps(tags), now, None if ttl_s is None else now + ttl_s, value)
        return self._attempt(lambda db: self._insert(db, row), False, writes=True)

    def delete(self, keys: Iterable[str]) -> int:
        """Drop these keys; returns how many were there."""
        wanted = [(key.encode(*UTF_8),) for key in keys]
        return self._attempt(lambda db: db.executemany("DELETE FROM entry WHERE key = ?", wanted).rowcount, 0)

    def drop_tag(self, tag: str) -> int:
        """Drop all that was put with this tag (looks through all tags); returns how many were there."""
        statement, quoted = "DELETE FROM entry WHERE instr(tags, ?)", json.dumps(tag)
        return self._attempt(lambda db: db.execute(statement, (quoted,)).rowcount, 0)

    def clear(self) -> None:
        """Drop everything, and give the room back to the disk."""
        for statement in ("DELETE FROM entry", "VACUUM"):
            self._attempt(lambda db: db.execute(statement), None, writes=True)  # noqa: B023

    def size_bytes(self) -> int:
        """Return what the entries take in the file; 0 when it cannot be read."""
        pages = self._attempt(lambda db: _pragma(db, "page_count") - _pragma(db, "freelist_count"), 0)
        return pages * _PAGE_BYTES

    def close(self) -> None:
        """Give the file back; every get is a miss from then on."""
        self._is_closed = True
        with self._lock:
            self._disconnect()

    def _insert(self, db: sqlite3.Connection, row: tuple[object, ...]) -> bool:
        """Write a row; when the file is full, after dropping what has expired or is oldest."""
        for share in _ROOM_SHARES:
            try:
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    if share:
                        db.execute("DELETE FROM entry WHERE expires_at <= ?", (self._clock(),))
                        (count,) = db.execute("SELECT count(*) FROM entry").fetchone()
                        db.execute(_DROP_OLDEST, (1 + int(share * count),))
                    db.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?)", row)
                return True
            except sqlite3.OperationalError as error:
                is_our_limit = _pragma(db, "page_count") >= self._most_pages - _FEWEST_PAGES  # or the disk's
                if _code(error) != sqlite3.SQLITE_FULL or not is_our_limit:
                    raise
        return False

    def _attempt(self, work: Callable[[sqlite3.Connection], T], otherwise: T, *, writes: bool = False) -> T:
        def with_file() -> T:
            if self._db is None:
                self._db = self._connect()
            return work(self._db)

        with self._lock:
            return otherwise if self._is_closed else self._guard.attempt(with_file, otherwise, writes=writes)

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its log the same rights
        db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            if _pragma(db, "schema_version") == 0:
                with db:
                    db.execute("BEGIN IMMEDIATE")  # another process may be beginning it too
                    for statement in () if _pragma(db, "schema_version") else _SCHEMA:
                        db.execute(statement)
            if _pragma(db, "application_id") != _OURS:
                raise OSError(f"{self.path} is another program's database; name another file")
            log_pages = min(1000, self._most_pages // 2)
            db.executescript(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"  # only a power cut may cost the file
                f"PRAGMA max_page_count = {self._most_pages}; PRAGMA wal_autocheckpoint = {log_pages};"
                f"PRAGMA journal_size_limit = {log_pages * _PAGE_BYTES}"
            )
        except BaseException:
            db.close()
            raise
        return db

    def _diagnose(self, error: Exception, _: bool) -> tuple[str, bool]:
        code, words = _code(error), " ".join(str(error).split())
        if code in _NO_WRITES:
            return f"{self.path} takes no writes: {words}", True
        self._disconnect()
        if code in _DAMAGED:
            return self._set_aside(), False
        return words if str(self.path) in words else f"{self.path}: {words}", False

    def _set_aside(self) -> str:
        """Rename a damaged file, so that a new one is begun; returns what is wrong with that."""
        aside = self.path.with_name(f"{self.path.name}.damaged")
        try:
            self.path.replace(aside)
            for ending in ("-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        except OSError as error:
            return f"{self.path} is damaged and cannot be set aside: {error.strerror}"
        self._notice = f"{self.path} was damaged; it is now {aside.name}, and a new one was begun"
        return ""

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _code(error: Exception) -> int:
    """Return SQLite's primary code of an error; 0 when it is not SQLite's."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
