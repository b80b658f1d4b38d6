"""What a batch has paid for, in one SQLite file: written before an item is handed out, read by the next run.

Main path: Journal(path, belongs_to, codec) -> find(key, digest, ...) -> Item | None; write(item, digest).
A row is one transaction, so a kill leaves it whole or not at all. The file is locked for one run at a time.
Results are safe from a killed process; a power cut may lose the last seconds (synchronous=NORMAL).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

from course_lib.caching.batch.codec import Codec
from course_lib.caching.batch.errors import InputError, JournalError, OtherBatchError
from course_lib.caching.batch.fingerprint import differences
from course_lib.caching.batch.items import Failure, Item
from course_lib.measure import Usage

_FORMAT = 0xBA7C4002  # SQLite's application_id, in the file's first page
_TABLES = f"""
PRAGMA application_id = {_FORMAT - 2**32};
CREATE TABLE batch (belongs_to TEXT NOT NULL);
CREATE TABLE items (
    key TEXT PRIMARY KEY, place INTEGER NOT NULL, run TEXT NOT NULL, input BLOB NOT NULL,
    ok INTEGER NOT NULL, value TEXT NOT NULL, usage TEXT NOT NULL, duration_ms REAL NOT NULL
)
"""
_ADVICE = {
    "locked": "another run is using it. Wait for that one to end, or name another journal",
    "malformed": "it is damaged. Restore it from a copy, or move it away and pay for the items again",
    "not a database": "it is no journal, or damaged. Name another place, or restore it from a copy",
}
"""What to do, by a word of SQLite's message."""


class Journal:
    """An open journal; threads may share it.

    Raises:
        OtherBatchError: it was begun by another program, model or adapter.
        JournalError: it is damaged, in use, or cannot be written.
    """

    def __init__(self, path: Path, belongs_to: dict[str, str], codec: Codec) -> None:
        self._path, self._codec, self._run = path, codec, uuid.uuid4().hex
        self._lock = threading.Lock()
        self._goes_by_place = belongs_to["keys"] == "place"
        with self._guarded("opened"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=0.3, isolation_level=None, check_same_thread=False)
        try:
            with self._guarded("opened"):
                self._check(belongs_to)
                last = self._db.execute("SELECT coalesce(max(place), -1) FROM items")
                self._last_place: int = last.fetchone()[0]
        except BaseException:
            self.close()
            raise

    def find(self, key: str, digest: bytes, place: int, inputs: Any) -> Item | None:
        """Return the item as an earlier run wrote it, or None.

        Raises:
            OtherBatchError: the key stands for another input.
            InputError: this run has met the key before.
        """
        if self._goes_by_place and place > self._last_place:
            return None  # asking SQLite yields to other threads, which costs more than the rest of an item
        with self._guarded("read"):
            row = self._db.execute("SELECT * FROM items WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        _, was_place, run, was_digest, ok, value, usage, duration_ms = row
        if run == self._run:
            raise InputError(f"items {was_place} and {place} have the same key {key!r}; keys must differ")
        if was_digest != digest:
            raise OtherBatchError(
                f"item {place} (key {key!r}) is not what it was when {self._path} was begun. "
                "Give the same input, or begin with a journal of another name"
            )
        try:
            result, error = (self._codec.decode(value), None) if ok else (None, Failure(*json.loads(value)))
        except (TypeError, ValueError) as problem:
            raise JournalError(
                f"item {place} (key {key!r}) in {self._path} is not what the program's types take today: "
                f"{problem}. Begin with a journal of another name"
            ) from problem
        return Item(place, key, inputs, result, error, Usage(*json.loads(usage)), duration_ms, resumed=True)

    def write(self, item: Item, digest: bytes) -> None:
        """Keep how an item ended, with the digest of its input; a row of its key is replaced.

        Raises:
            UnkeepableError: its result is not something that JSON can hold.
            JournalError: the disk is full, or the file cannot be written.
        """
        error = item.error
        value = self._codec.encode(item.result) if error is None else json.dumps([error.kind, error.message])
        usage = json.dumps(astuple(item.usage))
        row = (item.key, item.index, self._run, digest, item.ok, value, usage, item.duration_ms)
        with self._guarded("written"):
            self._db.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        """Give the file free. What was written stays written even if this fails."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def _check(self, belongs_to: dict[str, str]) -> None:
        """Make the tables of a new journal, or compare what an old one belongs to."""
        sql = self._db.execute
        sql("PRAGMA locking_mode = EXCLUSIVE")  # one run at a time
        is_new = not sql("SELECT * FROM sqlite_master").fetchone()
        if not is_new and sql("PRAGMA application_id").fetchone()[0] % 2**32 != _FORMAT:
            raise sqlite3.DatabaseError("not a database of a batch")
        if sql("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("malformed")
        for setting in ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -2048"):
            sql(f"PRAGMA {setting}")
        if is_new:
            sql("BEGIN IMMEDIATE")  # all of it or nothing, as a kill may come between
            for statement in _TABLES.split(";"):
                sql(statement)
            sql("INSERT INTO batch VALUES (?)", (json.dumps(belongs_to),))
            sql("COMMIT")
        began = json.loads(sql("SELECT belongs_to FROM batch").fetchone()[0])
        if changed := differences(began, belongs_to):
            raise OtherBatchError(
                f"{self._path} belongs to another batch: {changed}. Go on with the program that began it, "
                "begin with a journal of another name, or tie journals to version=... instead"
            )

    @contextlib.contextmanager
    def _guarded(self, done: str) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except (sqlite3.Error, OSError, UnicodeEncodeError) as error:  # the last: a key that is no Unicode
            rest = f"{error}. What it holds is kept: make room or make it writable, and run the batch again"
            advice = next((advice for word, advice in _ADVICE.items() if word in str(error)), rest)
            raise JournalError(f"the journal {self._path} could not be {done}: {advice}") from error
