"""The file under the learner's progress: one row per event in a local SQLite file, never changed after.

Main path: Store.append(event) -> a row of progress.sqlite3, after those that could not be saved before.
What cannot be saved now (disk full, read-only folder) stays in memory and is saved with the next event.
Source: sqlite3 with its rollback journal, so that several kernels may write at once.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar

from course_lib.errors import CourseError

Kind = Literal["started", "finished", "interrupted", "hint", "solution", "reset"]

T = TypeVar("T")

SCHEMA_VERSION = 1
BUSY_WAIT_S = 10.0
PRAGMAS: tuple[str, ...] = ("synchronous=FULL",)
FILE_NAME = "progress.sqlite3"

_SCHEMA = """
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, at TEXT NOT NULL, exercise TEXT NOT NULL, kind TEXT NOT NULL,
    run TEXT NOT NULL, outcome TEXT NOT NULL, checked TEXT NOT NULL, message TEXT NOT NULL,
    seconds REAL, source TEXT, pid INTEGER NOT NULL, limit_s REAL NOT NULL
)
"""


class ProgressError(CourseError):
    """Progress could not be saved or read; the check itself is not affected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. Fields in the order of the table's columns."""

    id: str
    """Unique, so that saving twice after a doubtful failure stores once."""
    at: str
    """UTC, ISO 8601."""
    exercise: str
    kind: Kind
    run: str = ""
    """Joins the start of a check and its end."""
    outcome: str = ""
    """passed, failed, crashed, not attempted; for a hint its number; for a solution "asked" or "shown"."""
    checked: str = ""
    """Title of the check that failed or crashed: our words only, so it may leave the machine."""
    message: str = ""
    seconds: float | None = None
    source: str | None = None
    """The learner's code, as it was when checked."""
    pid: int = 0
    limit_s: float = 0.0
    """A started check that has not ended after this time was interrupted."""


_COLUMNS = ", ".join(field.name for field in fields(Event))
_MARKS = ", ".join("?" for _ in fields(Event))

_ELSEWHERE = "allow writing there, or set COURSE_WORK to a folder of yours"
_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written: see that it is not full or disconnected",
    sqlite3.SQLITE_READONLY: f"the folder is read-only: {_ELSEWHERE}",
    sqlite3.SQLITE_CANTOPEN: f"the file cannot be opened: {_ELSEWHERE}",
    sqlite3.SQLITE_PERM: f"access is refused: {_ELSEWHERE}",
    sqlite3.SQLITE_BUSY: f"another kernel has held the file for {BUSY_WAIT_S:.0f} s: restart that kernel",
}
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


def _code(error: BaseException) -> int:
    """Return SQLite's primary result code, 0 for an error that did not come from SQLite itself."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


class Store:
    """The progress file of one learner's folder, and what could not be written to it yet."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._unsaved: list[Event] = []
        self._notices: list[str] = []
        self._lock = threading.Lock()

    def append(self, event: Event) -> None:
        """Save an event, after those that could not be saved before.

        Raises:
            ProgressError: it could not be saved now; it is kept and saved with the next one.
        """
        with self._lock:
            self._unsaved.append(event)
            self._do(self._insert_unsaved)
            self._unsaved.clear()

    def events(self) -> list[Event]:
        """Return all events, oldest first, unsaved ones too.

        Raises:
            ProgressError: the file cannot be read.
        """
        with self._lock:
            stored = self._do(_select) if self.path.exists() else []
            return stored + self._unsaved

    def unsaved(self) -> list[Event]:
        """Return the events that exist only in memory."""
        return list(self._unsaved)

    def take_notices(self) -> list[str]:
        """Return what the learner should be told about the file, once."""
        notices, self._notices = self._notices, []
        return notices

    def _insert_unsaved(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            f"INSERT OR IGNORE INTO events ({_COLUMNS}) VALUES ({_MARKS})",  # noqa: S608 our own column names
            [astuple(event) for event in self._unsaved],
        )
        connection.execute("COMMIT")

    def _do(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run one operation on a connection of its own; where the file is damaged, on a new file."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return self._on_connection(operation)
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGED:
                    raise
                self._move_aside_if_damaged()
                return self._on_connection(operation)
        except sqlite3.Error as error:
            raise ProgressError(
                self._explain(_REMEDIES.get(_code(error), f"SQLite says: {error}"))
            ) from error
        except OSError as error:
            raise ProgressError(self._explain(f"{error.strerror or error}: {_ELSEWHERE}")) from error

    def _on_connection(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        with closing(sqlite3.connect(self.path, timeout=BUSY_WAIT_S, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            self._prepare(connection)
            return operation(connection)

    def _explain(self, reason: str) -> str:
        kept = f" It is kept in this kernel and saved with your next check ({len(self._unsaved)} waiting)."
        return f"progress in {self.path} could not be saved or read; {reason}.{kept if self._unsaved else ''}"

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Create the table in a new file; refuse a file of a newer course."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:  # no other kernel was faster
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        elif version > SCHEMA_VERSION:
            reason = f"it was written by a newer course (version {version}): update the course"
            raise ProgressError(self._explain(reason))

    def _move_aside_if_damaged(self) -> None:
        """Rename a damaged file, and say so; the lock keeps a second kernel from renaming the new one."""
        with (self.path.parent / ".progress.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_damaged(self.path):
                return
            aside = self.path.with_name(f"{FILE_NAME}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z")
            self.path.rename(aside)
            self._notices.append(
                f"the progress file was damaged; it is kept as {aside}, and a new one was begun. "
                "Your notebooks are not affected: run your checks again to fill it."
            )


def _select(connection: sqlite3.Connection) -> list[Event]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM events ORDER BY number")  # noqa: S608 our own column names
    return [Event(**dict(row)) for row in rows]


def _is_damaged(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_WAIT_S)) as connection:
            return bool(connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok")
    except sqlite3.DatabaseError as error:
        return _code(error) in _DAMAGED
