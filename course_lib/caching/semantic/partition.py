"""The answers of one partition and their vectors, in one growing matrix.

Main path: near(vector) -> one product of matrix and vector -> entries above the threshold, best first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from course_lib.caching.semantic.blas import one_blas_thread

_FIRST_ROWS = 16
_ROUNDING = 1e-6  # a vector times itself may come out a little under 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer, and the question that it was given to."""

    question: str
    answer: Any
    stored_s: float
    expires_s: float | None


class Partition:
    """Entries by question, the least recently used first; not thread-safe, its cache holds the lock."""

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._rows: NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self._entries: list[Entry | None] = []
        self._slots: OrderedDict[str, int] = OrderedDict()
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._slots)

    def put(self, entry: Entry, vector: NDArray[np.float32]) -> int:
        """Keep an entry under its question and return how many others had to go."""
        evicted = 0
        slot = self._slots.get(entry.question)
        if slot is None:
            if len(self._slots) >= self._max_entries:
                self._drop(next(iter(self._slots)))
                evicted = 1
            slot = self._free.pop() if self._free else self._new_slot(len(vector))
        self._rows[slot] = vector
        self._entries[slot] = entry
        self._slots[entry.question] = slot
        self.touch(entry.question)
        return evicted

    def holds(self, entry: Entry) -> bool:
        """Say whether this very entry is still here: not dropped, not replaced."""
        slot = self._slots.get(entry.question)
        return slot is not None and self._entries[slot] is entry

    def touch(self, question: str) -> None:
        """Mark an entry as just used, if it is still here."""
        if question in self._slots:
            self._slots.move_to_end(question)

    def near(
        self, vector: NDArray[np.float32], threshold: float, most: int, now_s: float
    ) -> tuple[list[tuple[Entry, float]], int]:
        """Return up to `most` (entry, similarity), best first, and how many were dropped as too old."""
        with one_blas_thread():
            similarities = self._rows[: len(self._entries)] @ vector
        close = np.flatnonzero(similarities >= threshold - _ROUNDING)
        found: list[tuple[Entry, float]] = []
        expired = 0
        for slot in close[np.argsort(-similarities[close], kind="stable")]:
            entry = self._entries[slot]
            if len(found) == most:
                break
            if entry is None:
                continue
            if entry.expires_s is not None and now_s >= entry.expires_s:
                self._drop(entry.question)
                expired += 1
            else:
                found.append((entry, float(similarities[slot])))
        return found, expired

    def _new_slot(self, width: int) -> int:
        slot = len(self._entries)
        self._entries.append(None)
        if slot == len(self._rows):
            taller = np.zeros((max(_FIRST_ROWS, 2 * slot), width), np.float32)
            taller[:slot] = self._rows.reshape(slot, width)
            self._rows = taller
        return slot

    def _drop(self, question: str) -> None:
        slot = self._slots.pop(question)
        self._rows[slot] = 0.0  # similar to nothing
        self._entries[slot] = None
        self._free.append(slot)
