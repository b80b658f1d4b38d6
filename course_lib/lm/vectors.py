"""Vectors in a file: a text's is computed once on a machine, and not again in every process.

Main path: VectorFile(path, model).get(texts) -> {text: vector} of those that are there; put(vectors).
It is a cache: a file that is damaged is begun anew, and one that cannot be read or written is done without.
Each operation opens and closes the file: threads, processes and forks may share it. No text is in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

MOST = 20_000
"""Vectors in a file, some 40 MB; the oldest leave it."""
_BUSY_S = 0.2
_AT_ONCE = 500  # keys in one question to SQLite
_SETTINGS = "PRAGMA synchronous = OFF"  # what a crash of the machine damages is begun anew
_SCHEMA = "CREATE TABLE IF NOT EXISTS vector (key BLOB PRIMARY KEY, numbers BLOB NOT NULL)"
_CROWD_OUT = "DELETE FROM vector WHERE rowid <= (SELECT max(rowid) FROM vector) - ?"


class VectorFile:
    """A SQLite file of vectors, the same numbers that were put there."""

    def __init__(self, path: Path, model: str, *, most: int = MOST) -> None:
        """Take the file, which need not be there, and the digest of what makes vectors: weights and code."""
        self._path, self._model, self._most = path, model, most

    def get(self, texts: Sequence[str]) -> dict[str, Vector]:
        """Return the vectors of those texts that have one here."""
        keys = {self._key(text): text for text in texts}
        found: dict[str, Vector] = {}
        with contextlib.suppress(OSError), self._opened(must_be_there=True) as db:
            for start in range(0, len(texts), _AT_ONCE):
                some = list(keys)[start : start + _AT_ONCE]
                wanted = f"SELECT key, numbers FROM vector WHERE key IN ({', '.join('?' * len(some))})"  # noqa: S608
                for key, numbers in db.execute(wanted, some):
                    found[keys[key]] = np.frombuffer(numbers, "<f4")
        return found

    def put(self, vectors: Mapping[str, Vector]) -> None:
        """Keep vectors, if the file can be written now."""
        rows = [(self._key(text), vector.astype("<f4").tobytes()) for text, vector in vectors.items()]
        with contextlib.suppress(OSError):
            if not self._path.exists():
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._path.touch(mode=0o600)
            with self._opened() as db:
                db.execute(_SCHEMA)
                db.executemany("INSERT OR IGNORE INTO vector VALUES (?, ?)", rows)
                db.execute(_CROWD_OUT, (self._most,))

    def _key(self, text: str) -> bytes:
        said = f"{self._model}\n{text}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(said, digest_size=16).digest()

    @contextlib.contextmanager
    def _opened(self, *, must_be_there: bool = False) -> Iterator[sqlite3.Connection]:
        if must_be_there and not self._path.exists():
            raise FileNotFoundError(self._path)
        try:
            db = sqlite3.connect(self._path, timeout=_BUSY_S)
            with contextlib.closing(db), db:
                db.execute(_SETTINGS)
                yield db
        except sqlite3.OperationalError as error:  # busy, full, or not to be opened
            raise OSError(str(error)) from error
        except sqlite3.DatabaseError as error:
            self._path.unlink(missing_ok=True)
            raise OSError(str(error)) from error
