"""The first tier: what this process holds, bounded by bytes, the least recently used leaving first.

Main path: put(key, value, ttl_s=...) -> room is made, expired entries first -> get(key) returns that very
object.
Source: cachetools.TLRUCache (cachetools 7), an LRU cache whose entries each have their own time to live.

It keeps any object, not only bytes, so that a hit need not decode; whoever puts in a record hands out copies.
"""

from __future__ import annotations

import gc
import math
import sys
import threading
import time
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from cachetools import TLRUCache

from course_lib.caching.tiers import Clock

ENTRY_BYTES = 600
"""What keeping one entry takes beside its key and value: places in five tables and a heap, where each table
may just have doubled and the heap may hold as many items of the past as of the present (measured: see
test_memory.py, which fills a tier in several ways and asks tracemalloc)."""


class _Entry(NamedTuple):
    value: Any
    size_bytes: int
    ttl_s: float
    tags: tuple[str, ...]


class MemoryTier:
    """Answers in this process. Threads may share it."""

    name = "memory"
    last_error = ""

    def __init__(self, max_bytes: int = 64 * 1024 * 1024, *, clock: Clock = time.monotonic) -> None:
        self.max_bytes, self._clock = max_bytes, clock
        self._lock = threading.Lock()
        self.clear()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Any:
        """Return the object put under this key, None when it is not there or has expired."""
        with self._lock:
            try:  # not get(), which looks three times
                return self._entries[key].value
            except KeyError:
                return None

    def put(
        self,
        key: str,
        value: Any,
        *,
        ttl_s: float | None = None,
        tags: tuple[str, ...] = (),
        size_bytes: int | None = None,
    ) -> bool:
        """Keep `value`; False when it alone is larger than the tier, or its time is over already.

        Without `ttl_s` it stays until it is crowded out; `size_bytes` is for those who know better than
        deep_size_bytes() what the value takes.
        """
        size = deep_size_bytes(value) if size_bytes is None else size_bytes
        size += sys.getsizeof(key) + sys.getsizeof(tags) + sum(map(sys.getsizeof, tags)) + ENTRY_BYTES
        entry = _Entry(value, size, math.inf if ttl_s is None else ttl_s, tags)
        with self._lock:
            if size > self.max_bytes:
                self._entries.pop(key, None)  # what was there before must not outlive what was to replace it
                return False
            self._entries[key] = entry
        return ttl_s is None or ttl_s > 0

    def delete(self, keys: Iterable[str]) -> int:
        """Drop these keys; returns how many were there."""
        with self._lock:
            return sum(self._entries.pop(key, None) is not None for key in list(keys))

    def drop_tag(self, tag: str) -> int:
        """Drop all that was put with this tag (looks through all entries); returns how many were there."""
        with self._lock:
            tagged = [key for key in self._entries if tag in self._entries[key].tags]
        return self.delete(tagged)

    def clear(self) -> None:
        """Drop everything; the tier can be used again."""
        with self._lock:
            self._entries: TLRUCache[str, _Entry] = TLRUCache(
                self.max_bytes,
                ttu=lambda _, entry, now: now + entry.ttl_s,
                timer=self._clock,
                getsizeof=lambda entry: entry.size_bytes,
            )

    close = clear

    def size_bytes(self) -> int:
        """Return the bytes of all entries that still count, with what keeping them takes."""
        with self._lock:
            self._entries.expire()
            return int(self._entries.currsize)


def deep_size_bytes(value: Any) -> int:
    """Return what a value takes in memory with all that it refers to, each part counted once.

    >>> deep_size_bytes(b"x" * 1000) - deep_size_bytes(b"")
    1000
    """
    total, seen, left = 0, set(), [value]
    while left:
        part = left.pop()
        if id(part) in seen or isinstance(part, (type, ModuleType, FunctionType)):
            continue
        seen.add(id(part))
        total += sys.getsizeof(part)
        left += gc.get_referents(part)
        left += [vars(part)] if hasattr(part, "__dict__") else []
    return total
