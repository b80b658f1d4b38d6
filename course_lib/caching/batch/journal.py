"""What a batch has paid for, in one SQLite file: written before an item is handed out, read by the next run.

Main path: Journal(path, program) -> find(job) -> Item | None; write(item, digest).
A row is one transaction, so a kill leaves it whole or not at all; a power cut may lose the last seconds
(synchronous=NORMAL). The file is locked for one run at a time. Results are JSON, and read by the types that
the program's signatures name (codec.py).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

from course_lib.caching.batch.codec import Codec, fingerprint
from course_lib.caching.batch.inputs import Job
from course_lib.caching.batch.items import Failure, Item, JournalError, OtherBatchError
from course_lib.measure import Usage

_ADVICE = {
    "locked": "another run is using it. Wait for that one to end, or name another journal",
    "malformed": "it is damaged. Restore it from a copy, or move it away and pay for the items again",
    "not a database": "it is no journal, or damaged. Name another place, or restore it from a copy",
    "no such table": "it is no journal. Name another place",
}
"""What to do, by a word of SQLite's message."""


class Journal:
    """An open journal; threads may share it.

    Raises:
        OtherBatchError: it was begun by another program, model or adapter.
        JournalError: it is damaged, in use, or cannot be written; or a type is named that it cannot hold.
    """

    def __init__(self, path: Path, program: Any) -> None:
        self._path, self._codec = path, Codec(program)
        self._lock = threading.Lock()
        with contextlib.ExitStack() as at_an_error, self._guarded("opened"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=0.3, isolation_level=None, check_same_thread=False)
            at_an_error.callback(self.close)
            self._open(fingerprint(program))
            at_an_error.pop_all()

    def find(self, job: Job) -> Item | None:
        """Return the item as an earlier run wrote it, or None; another input is refused."""
        with self._guarded("read"), self._lock:
            row = self._db.execute("SELECT * FROM items WHERE place = ?", (job.index,)).fetchone()
        if row is None:
            return None
        _, was_digest, ok, value, usage, duration_ms = row
        if was_digest != job.digest:
            raise OtherBatchError(
                f"item {job.index} is not what it was when {self._path} was begun. "
                "Give the same input, or begin with a journal of another name"
            )
        try:
            result, error = (self._codec.decode(value), None) if ok else (None, Failure(*json.loads(value)))
        except (LookupError, TypeError, ValueError) as problem:
            raise JournalError(
                f"item {job.index} in {self._path} is not what the program's types take "
                f"today: {problem}. Begin with a journal of another name"
            ) from problem
        used = Usage(*json.loads(usage))
        return Item(job.index, job.inputs, result, error, used, duration_ms, resumed=True)

    def write(self, item: Item, digest: str) -> Item:
        """Keep how an item ended, with the digest of its input; the row of an earlier run is replaced.

        Returns the item; where its result has no form in a journal, with a JournalError beside it, unwritten.
        """
        error = item.error
        try:
            value = json.dumps([error.kind, error.message]) if error else self._codec.encode(item.result)
        except Exception as problem:  # border: the program's own types
            said = f"{Failure.of(problem).message} (the item's result is here, and is asked again on resume)"
            return replace(item, error=Failure("JournalError", said, problem))
        row = item.index, digest, item.ok, value, json.dumps(astuple(item.usage)), item.duration_ms
        with self._guarded("written"), self._lock:
            self._db.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?)", row)
        return item

    def close(self) -> None:
        """Give the file free. What was written stays written even if this fails."""
        with contextlib.suppress(sqlite3.Error), self._lock:
            self._db.close()

    def _open(self, belongs_to: dict[str, str]) -> None:
        """Make the tables of a new journal, or compare what an old one belongs to."""
        sql = self._db.execute
        sql("PRAGMA locking_mode = EXCLUSIVE")  # one run at a time
        is_new = not sql("SELECT * FROM sqlite_master").fetchone()
        began = belongs_to if is_new else json.loads(sql("SELECT belongs_to FROM batch").fetchone()[0])
        if sql("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("malformed")
        sql("PRAGMA journal_mode = WAL")
        sql("PRAGMA synchronous = NORMAL")
        if is_new:
            sql("BEGIN IMMEDIATE")  # all of it or nothing, as a kill may come between
            sql("CREATE TABLE batch (belongs_to)")
            sql("CREATE TABLE items (place INTEGER PRIMARY KEY, input, ok, value, usage, duration_ms)")
            sql("INSERT INTO batch VALUES (?)", (json.dumps(belongs_to),))
            sql("COMMIT")
        changed = [name for name in began | belongs_to if began.get(name) != belongs_to.get(name)]
        if changed:
            words = [f"{name} ({began.get(name)!r} then, {belongs_to.get(name)!r} now)" for name in changed]
            raise OtherBatchError(
                f"{self._path} belongs to another batch, of other {', '.join(words)}. Go on with the program "
                "that began it, or begin with a journal of another name"
            )

    @contextlib.contextmanager
    def _guarded(self, done: str) -> Iterator[None]:
        # It takes no lock: Ctrl-C can leave this generator in a traceback, unfinished, and the lock held.
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            rest = f"{error}. What it holds is kept: make room or make it writable, and run the batch again"
            advice = next((advice for word, advice in _ADVICE.items() if word in str(error)), rest)
            raise JournalError(f"the journal {self._path} could not be {done}: {advice}") from error
