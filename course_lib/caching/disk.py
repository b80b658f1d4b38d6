"""The last tier: answers in one SQLite file, still there tomorrow; bounded, and without pickles.

Main path: put(key, value, ttl_s=...) -> a row; the rows longest unused leave before `max_bytes` are reached.
Source: SQLite's write-ahead log: several processes of one machine can share the file. Not on a network disk.

What may go wrong, and what comes of it. A damaged file: set aside beside itself, and a new one begun. A full
disk: puts are refused, reads go on. What is to be dropped and cannot be: nothing is read until it is. A file
that cannot be opened or written, or is another program's: off, with a try now and then. `trouble` says so.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from course_lib.caching.tiers import Clock, Rest, as_bytes

T = TypeVar("T")

MAX_BYTES = 512 * 1024 * 1024
_OURS = 0x41444331
"""In the file's head (SQLite's application_id), so that no other program's database is taken for a cache."""
_PAGE_BYTES = 4096
_FEWEST_PAGES = 64
_ROW_BYTES = 160  # of bookkeeping: places in two indexes, and what pages leave empty
_BUSY_S = 0.25
_REST_S = 1.0
_LONGEST_REST_S = 30.0
_USES_KEPT = 64
_MOST_OWED = 100
_USE_GRAIN_S = 10.0
_SPARE_SHARE = 0.05
"""Room made beyond what is needed, so that not every put has to make some."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SCHEMA = (
    "CREATE TABLE entry (key BLOB UNIQUE, value BLOB, size INTEGER, expires_at REAL, used_at REAL)",
    "CREATE INDEX entry_used ON entry (used_at)",
    "CREATE INDEX entry_expires ON entry (expires_at) WHERE expires_at IS NOT NULL",
    "CREATE TABLE tag (tag BLOB, key BLOB, PRIMARY KEY (tag, key)) WITHOUT ROWID",
    "CREATE INDEX tag_key ON tag (key)",
    "CREATE TABLE total (size INTEGER)",
    "INSERT INTO total VALUES (0)",
    "CREATE TRIGGER entry_in AFTER INSERT ON entry BEGIN UPDATE total SET size = size + new.size; END",
    "CREATE TRIGGER entry_out AFTER DELETE ON entry BEGIN UPDATE total SET size = size - old.size; "
    "DELETE FROM tag WHERE key = old.key; END",
    f"PRAGMA application_id = {_OURS}",
)


_Row = tuple[bytes, bytes, int, float | None, float]


class _NotACacheError(Exception):
    """The file is another program's database."""


class DiskTier:
    """Answers in a file. Threads and processes may share it, and a forked child opens it anew."""

    name = "disk"

    def __init__(self, path: Path | str, max_bytes: int = MAX_BYTES, *, clock: Clock = time.time) -> None:
        """Open the file, or make it, readable by its owner alone.

        Args:
            path: the file; its folder is made.
            max_bytes: the file never grows beyond this (its log, beside it, may take some MB for a while).
            clock: seconds that go on while no process runs.
        """
        self.path = Path(path).absolute()
        self.max_bytes = max_bytes
        self.refused = 0
        """Values that were not kept: too large, or the file was full, busy or away."""
        self._clock = clock
        self._line = Rest(_REST_S, _LONGEST_REST_S)
        self._writing = Rest(_REST_S, _LONGEST_REST_S)
        self._notice = ""
        self._used: dict[bytes, float] = {}
        self._owed: list[Callable[[sqlite3.Connection], int]] = []
        self._db: sqlite3.Connection | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        _tiers.add(self)
        self._attempt(lambda _: None, None)

    def __repr__(self) -> str:
        return f"DiskTier({str(self.path)!r}{', in trouble' if not self.healthy else ''})"

    @property
    def healthy(self) -> bool:
        """False while the file is left alone, or refuses writes."""
        return not (self._line.trouble or self._writing.trouble)

    @property
    def trouble(self) -> str:
        """What is wrong, or was set aside, in one line; empty when nothing is."""
        return self._line.trouble or self._writing.trouble or self._notice

    def get(self, key: str) -> bytes | None:
        """Return the value; None when it is not there, has run out, or the file cannot be read."""
        return self._attempt(lambda db: self._read(db, as_bytes(key)), None)

    def put(self, key: str, value: bytes, *, ttl_s: float | None, tags: tuple[str, ...] = ()) -> bool:
        """Store a value for `ttl_s` seconds; None leaves it there until it is crowded out."""
        name, marks = as_bytes(key), [as_bytes(tag) for tag in tags]
        size = len(value) + len(name) + _ROW_BYTES + 2 * sum(len(mark) + len(name) for mark in marks)
        if size > self.max_bytes // 2 or (ttl_s is not None and ttl_s <= 0):
            self.delete([key])  # what was there before must not outlive what was to replace it
            self.refused += 1
            return False
        now = self._clock()
        row = (name, value, size, None if ttl_s is None else now + ttl_s, now)
        kept = self._attempt(lambda db: self._write(db, row, marks), False, writes=True)
        self.refused += not kept
        return kept

    def delete(self, keys: Iterable[str]) -> int:
        """Drop these keys; returns how many were there."""
        wanted = [(as_bytes(key),) for key in keys]

        def drop(db: sqlite3.Connection) -> int:
            with _transaction(db):
                return db.executemany("DELETE FROM entry WHERE key = ?", wanted).rowcount

        return self._drop(drop) if wanted else 0

    def drop_tag(self, tag: str) -> int:
        """Drop all that was put with this tag; returns how many were there."""
        statement, name = "DELETE FROM entry WHERE key IN (SELECT key FROM tag WHERE tag = ?)", as_bytes(tag)
        return self._drop(lambda db: db.execute(statement, (name,)).rowcount)

    def clear(self) -> None:
        """Drop everything, and give the room back to the disk."""
        self._used.clear()
        self._drop(_drop_all)
        self._attempt(lambda db: db.execute("VACUUM"), None)

    def size_bytes(self) -> int:
        """Return what the entries take in the file; 0 when it cannot be read."""

        def pages(db: sqlite3.Connection) -> int:
            used, free = (
                db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count")
            )
            return int(used - free) * _PAGE_BYTES

        return self._attempt(pages, 0)

    def close(self) -> None:
        """Give the file back; every get is a miss from then on."""
        self._is_closed = True
        with self._lock:
            self._disconnect()

    def _drop(self, work: Callable[[sqlite3.Connection], int]) -> int:
        """Drop something; when that cannot be done now, nothing is read until it is."""
        dropped = self._attempt(work, -1)
        if dropped < 0:
            with self._lock:
                self._owed = [*self._owed, work] if len(self._owed) < _MOST_OWED else [_drop_all]
        return max(0, dropped)

    # -- with the lock held ------------------------------------------------------------------------------

    def _read(self, db: sqlite3.Connection, key: bytes) -> bytes | None:
        row = db.execute("SELECT value, expires_at, used_at FROM entry WHERE key = ?", (key,)).fetchone()
        now = self._clock()
        if row is None or (row[1] is not None and row[1] <= now):
            return None
        if now - row[2] > _USE_GRAIN_S:  # so that a hit is seldom a write
            self._used[key] = now
            if len(self._used) >= _USES_KEPT and self._writing.may_try():
                with _transaction(db):
                    self._note_uses(db)
        return row[0] if isinstance(row[0], bytes) else None

    def _write(self, db: sqlite3.Connection, row: _Row, tags: list[bytes]) -> bool:
        for share in (0.0, 0.1, 0.3):
            try:
                with _transaction(db):
                    self._make_room(db, row[2] + int(share * self.max_bytes))
                    db.execute("DELETE FROM entry WHERE key = ?", row[:1])
                    db.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?)", row)
                    db.executemany("INSERT OR IGNORE INTO tag VALUES (?, ?)", [(tag, row[0]) for tag in tags])
                return True
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_FULL or share == 0.3 or not self._is_at_its_limit(db):
                    raise
        return False

    def _make_room(self, db: sqlite3.Connection, size_bytes: int) -> None:
        (total,) = db.execute("SELECT size FROM total").fetchone()
        if total + size_bytes <= self.max_bytes:
            return
        self._note_uses(db)
        db.execute("DELETE FROM entry WHERE expires_at <= ?", (self._clock(),))
        (total,) = db.execute("SELECT size FROM total").fetchone()
        too_much = total + size_bytes - self.max_bytes
        leaving = []
        if too_much > 0:
            too_much += int(_SPARE_SHARE * self.max_bytes)
            for rowid, size in db.execute("SELECT rowid, size FROM entry ORDER BY used_at"):
                leaving.append((rowid,))
                too_much -= size
                if too_much <= 0:
                    break
        db.executemany("DELETE FROM entry WHERE rowid = ?", leaving)

    def _note_uses(self, db: sqlite3.Connection) -> None:
        uses = [(used_at, key) for key, used_at in self._used.items()]
        self._used.clear()
        db.executemany("UPDATE entry SET used_at = ? WHERE key = ?", uses)

    def _is_at_its_limit(self, db: sqlite3.Connection) -> bool:
        """Return whether it is our own limit that is reached, and not the disk's."""
        return bool(db.execute("PRAGMA page_count").fetchone()[0] >= self._most_pages() - _FEWEST_PAGES)

    def _most_pages(self) -> int:
        return max(_FEWEST_PAGES, self.max_bytes // _PAGE_BYTES)

    # -- the file ----------------------------------------------------------------------------------------

    def _attempt(self, work: Callable[[sqlite3.Connection], T], otherwise: T, *, writes: bool = False) -> T:
        with self._lock:
            if self._is_closed or not self._line.may_try() or (writes and not self._writing.may_try()):
                return otherwise
            try:
                if self._db is None:
                    self._db = self._connect()
                if self._owed and not self._pay(self._db, may_write=writes):
                    return otherwise
                result = work(self._db)
            except (sqlite3.Error, OSError, _NotACacheError, UnicodeError) as error:
                self._note(error)
                return otherwise
            self._line.worked()
            if writes:
                self._writing.worked()
            return result

    def _pay(self, db: sqlite3.Connection, *, may_write: bool) -> bool:
        """Drop what could not be dropped before."""
        if not may_write and not self._writing.may_try():
            return False
        while self._owed:
            self._owed[0](db)
            del self._owed[0]
        self._writing.worked()
        return True

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its log the same rights
        db = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            with _transaction(db):
                (mark,) = db.execute("PRAGMA application_id").fetchone()
                (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                if mark != _OURS and tables:
                    raise _NotACacheError(f"{self.path} is another program's database; name another file")
                for statement in () if tables else _SCHEMA:
                    db.execute(statement)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = OFF")  # kills lose nothing; a power cut may cost the file
            db.execute(f"PRAGMA max_page_count = {self._most_pages()}")
            log_pages = min(1000, self._most_pages() // 2)
            db.execute(f"PRAGMA wal_autocheckpoint = {log_pages}")
            db.execute(f"PRAGMA journal_size_limit = {log_pages * _PAGE_BYTES}")
        except BaseException:
            db.close()
            raise
        return db

    def _note(self, error: Exception) -> None:
        code, words = _code(error), " ".join(str(error).split())
        if code in _DAMAGED:
            self._disconnect()
            self._set_aside()
        elif code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            self._writing.failed(f"{self.path} takes no writes: {words}")
        else:
            self._disconnect()
            self._line.failed(words if str(self.path) in words else f"{self.path}: {words}")

    def _set_aside(self) -> None:
        aside = self.path.with_name(f"{self.path.name}.damaged")
        try:
            self.path.replace(aside)
            for ending in ("-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        except OSError as error:
            self._line.failed(f"{self.path} is damaged and cannot be set aside: {error.strerror}")
        else:
            self._notice = f"{self.path} was damaged; it is now {aside.name}, and a new one was begun"

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    def _start_anew_in_child(self) -> None:
        if self._db is not None:
            _parents.append(self._db)  # SQLite forbids using, or closing, in a child what its parent opened
        self._db = None
        self._lock = threading.Lock()


def _drop_all(db: sqlite3.Connection) -> int:
    return db.execute("DELETE FROM entry").rowcount


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _code(error: Exception) -> int:
    """Return SQLite's primary code of an error; 0 when it is not SQLite's."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


_tiers: weakref.WeakSet[DiskTier] = weakref.WeakSet()
_parents: list[sqlite3.Connection] = []


def _after_fork() -> None:
    for tier in tuple(_tiers):
        tier._start_anew_in_child()  # noqa: SLF001  (this module's own class)


os.register_at_fork(after_in_child=_after_fork)
