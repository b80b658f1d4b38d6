"""The progress file: one row per event in a SQLite file of the learner's folder, never changed after.

Main path: Store.append(event) -> a row of progress.sqlite3, after those that could not be saved before.
What cannot be saved now (disk full, read-only folder) stays in memory and is saved with the next event.
Source: sqlite3 with its rollback journal, so that several kernels may write at once.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar, get_args

from course_lib.errors import CourseError

Kind = Literal["started", "finished", "interrupted", "hint", "solution"]

T = TypeVar("T")

BUSY_WAIT_S = 10.0
PRAGMAS: tuple[str, ...] = ("PRAGMA synchronous=FULL",)
FILE_NAME = "progress.sqlite3"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE, at TEXT NOT NULL, exercise TEXT NOT NULL, kind TEXT NOT NULL,
    run TEXT NOT NULL, outcome TEXT NOT NULL, checked TEXT NOT NULL,
    source TEXT, pid INTEGER NOT NULL
)
"""


class ProgressError(CourseError):
    """Progress could not be saved or read; the check itself is not affected."""


class _DamagedError(ProgressError):
    """What the file holds cannot be read."""


@dataclass(frozen=True, slots=True)
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
    source: str | None = None
    """The learner's code, as it was when checked."""
    pid: int = 0

    def __post_init__(self) -> None:
        """Refuse what only a damaged file can hold, in all that a `Standing` is worked out from."""
        datetime.fromisoformat(self.at)
        texts = (self.id, self.exercise, self.run, self.outcome, self.checked, self.source or "")
        is_sound = all(isinstance(text, str) for text in texts) and self.kind in get_args(Kind)
        if not is_sound or self.pid not in range(2**31):
            raise ValueError(f"an event of kind {self.kind!r} cannot be read")


_COLUMNS = ", ".join(field.name for field in fields(Event))
_SELECT = f"SELECT {_COLUMNS} FROM events ORDER BY number"  # noqa: S608 our own column names
_INSERT = f"INSERT OR IGNORE INTO events ({_COLUMNS}) VALUES ({', '.join('?' for _ in fields(Event))})"  # noqa: S608

_ELSEWHERE = "allow writing there, or set COURSE_WORK to a folder of yours"
_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written: see that it is not full or disconnected",
    sqlite3.SQLITE_READONLY: f"the folder is read-only: {_ELSEWHERE}",
    sqlite3.SQLITE_CANTOPEN: f"the file cannot be opened: {_ELSEWHERE}",
    sqlite3.SQLITE_PERM: f"access is refused: {_ELSEWHERE}",
    sqlite3.SQLITE_BUSY: f"another kernel has held the file for {BUSY_WAIT_S:.0f} s: restart that kernel",
}
"""What can be wrong around the file, by SQLite's primary result code; any other error means damage."""


class Store:
    """The progress file of one learner's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self.unsaved: list[Event] = []
        """Events that exist only in memory."""
        self.notices: list[str] = []
        """What the learner should be told about the file; whoever tells it takes it out."""
        self._lock = threading.Lock()

    def append(self, event: Event) -> None:
        """Save an event, after those that could not be saved before.

        Raises:
            ProgressError: it could not be saved now; it is kept and saved with the next one.
        """
        with self._lock:
            self.unsaved.append(event)
            self._do(self._save)

    def events(self) -> list[Event]:
        """Return all events, oldest first, unsaved ones too.

        Raises:
            ProgressError: the file cannot be read.
        """
        with self._lock:
            if not self.path.exists():
                return [*self.unsaved]
            return self._do(lambda each: [Event(*row) for row in each.execute(_SELECT)]) + self.unsaved

    def _save(self, connection: sqlite3.Connection) -> None:
        with connection:
            connection.executemany(_INSERT, [astuple(event) for event in self.unsaved])
        self.unsaved.clear()

    def _do(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run one operation on a connection of its own; where the file is damaged, on a new file."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(_DamagedError):
                return self._connected(operation)
            return self._on_a_new_file(operation)
        except OSError as error:
            raise ProgressError(self._explain(f"{error.strerror or error}: {_ELSEWHERE}")) from error

    def _connected(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_WAIT_S)) as connection:
                for statement in (*PRAGMAS, _SCHEMA):
                    connection.execute(statement)
                return operation(connection)
        except (sqlite3.Error, ValueError, TypeError) as error:
            reason = _REMEDIES.get(int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF)
            kind = ProgressError if reason else _DamagedError
            raise kind(self._explain(reason or f"SQLite says: {error}")) from error

    def _on_a_new_file(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Set the damaged file aside; the lock keeps a second kernel from doing that to the new file."""
        with (self.path.parent / ".progress.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(_DamagedError):
                return self._connected(operation)  # another kernel has begun a new file meanwhile
            aside = self.path.with_name(f"{FILE_NAME}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z")
            self.path.rename(aside)
            with suppress(FileNotFoundError):  # a journal must not be taken for the new file's
                self.path.with_name(f"{FILE_NAME}-journal").rename(f"{aside}-journal")
            self.unsaved[:0] = _readable(aside)
            self.notices.append(
                f"the progress file was damaged; it is kept as {aside}, and a new one was begun with what "
                "can be read of it. Your notebooks are not affected: run a check again where one is missing."
            )
            self._connected(self._save)
            return self._connected(operation)

    def _explain(self, reason: str) -> str:
        kept = f" It is kept in this kernel and saved with your next check ({len(self.unsaved)} waiting)."
        return f"progress in {self.path} could not be saved or read; {reason}.{kept if self.unsaved else ''}"


def _readable(damaged: Path) -> list[Event]:
    """Return the events of a damaged file that can still be read, up to where it cannot."""
    found: list[Event] = []
    with closing(sqlite3.connect(damaged)) as connection, suppress(sqlite3.Error, ValueError, TypeError):
        found.extend(Event(*row) for row in connection.execute(_SELECT))
    return found
