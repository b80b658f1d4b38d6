"""The first tier: what this process holds, bounded by bytes, the least recently used leaving first.

Main path: put(key, value) -> room is made -> get(key) returns that very object.

It keeps any object, not only bytes, so that a hit need not decode; whoever puts in a record hands out copies.
What has run out leaves before what still counts, so expired answers never crowd out live ones.
"""

from __future__ import annotations

import heapq
import os
import sys
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

from course_lib.caching.tiers import Clock

_TABLE_BYTES = 120
"""Per entry: its places in the table of entries (links included) and among the times."""
_TAG_BYTES = 120
"""Per tag of an entry: its place in that tag's set."""


class _Entry(NamedTuple):
    value: Any
    size_bytes: int
    expires_at: float | None
    tags: tuple[str, ...]


class MemoryTier:
    """Answers in this process. Threads may share it; a forked child starts with what was there, or empty."""

    name = "memory"

    def __init__(self, max_bytes: int = 64 * 1024 * 1024, *, clock: Clock = time.monotonic) -> None:
        self.max_bytes = max_bytes
        self.trouble = ""
        self.evicted = 0
        """Entries that left for lack of room before their time was over."""
        self.expired = 0
        """Entries that left because their time was over."""
        self._clock = clock
        self._lock = threading.Lock()
        self._empty()
        _tiers.add(self)

    def __repr__(self) -> str:
        return f"MemoryTier({len(self._entries)} entries, {self._bytes} of {self.max_bytes} bytes)"

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        """Return whether a get would hit; does not count as use."""
        entry = self._entries.get(key)
        return entry is not None and not self._is_over(entry)

    @property
    def healthy(self) -> bool:
        """Always True."""
        return True

    def get(self, key: str) -> Any:
        """Return the object put under this key, None when it is not there or has run out."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            if entry.expires_at is not None and self._clock() >= entry.expires_at:
                self._remove(key)
                self.expired += 1
                return None
            self._entries.move_to_end(key)
            return entry.value

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

        Args:
            key: what get() will be asked for.
            value: anything; bytes are measured, and so is whatever JSON can hold.
            ttl_s: how long it counts; None: until it is crowded out.
            tags: names under which drop_tag() finds it.
            size_bytes: what the value takes, for those who know better than deep_size_bytes().
        """
        size = deep_size_bytes(value) if size_bytes is None else size_bytes
        size += sys.getsizeof(key) + sys.getsizeof(tags) + _TABLE_BYTES + _TAG_BYTES * len(tags)
        with self._lock:
            try:
                self._remove(key)
                if size > self.max_bytes or (ttl_s is not None and ttl_s <= 0):
                    return False
                now = self._clock()
                self._make_room(size, now)
                expires_at = None if ttl_s is None else now + ttl_s
                self._entries[key] = _Entry(value, size, expires_at, tags)
                self._bytes += size
                for tag in tags:
                    self._tagged.setdefault(tag, set()).add(key)
                if expires_at is not None:
                    heapq.heappush(self._times, (expires_at, key))
                    if len(self._times) > 2 * len(self._entries) + 64:
                        self._forget_old_times()
            except BaseException:  # an interrupt in the middle: count anew
                self._recount()
                raise
        return True

    def delete(self, keys: Iterable[str]) -> int:
        """Drop these keys; returns how many were there."""
        wanted = list(keys)
        with self._lock:
            return sum([self._remove(key) for key in wanted])

    def drop_tag(self, tag: str) -> int:
        """Drop all that was put with this tag; returns how many were there."""
        with self._lock:
            return sum([self._remove(key) for key in tuple(self._tagged.get(tag, ()))])

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._empty()

    def size_bytes(self) -> int:
        """Return the bytes of all entries, with what keeping them costs."""
        return self._bytes

    def close(self) -> None:
        """Drop everything; the tier can be used again."""
        self.clear()

    # -- with the lock held ----------------------------------------------------------------------------

    def _empty(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._tagged: dict[str, set[str]] = {}
        self._times: list[tuple[float, str]] = []
        self._bytes = 0

    def _is_over(self, entry: _Entry) -> bool:
        return entry.expires_at is not None and self._clock() >= entry.expires_at

    def _remove(self, key: str) -> bool:
        entry = self._entries.pop(key, None)
        if entry is None:
            return False
        self._bytes -= entry.size_bytes
        for tag in entry.tags:
            keys = self._tagged.get(tag)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._tagged[tag]
        return True

    def _make_room(self, size_bytes: int, now: float) -> None:
        while self._bytes + size_bytes > self.max_bytes and self._times and self._times[0][0] <= now:
            expires_at, key = heapq.heappop(self._times)
            entry = self._entries.get(key)
            if entry is not None and entry.expires_at == expires_at:  # not put again since
                self.expired += self._remove(key)
        while self._bytes + size_bytes > self.max_bytes:
            self.evicted += self._remove(next(iter(self._entries)))

    def _forget_old_times(self) -> None:
        self._times = [
            (entry.expires_at, key) for key, entry in self._entries.items() if entry.expires_at is not None
        ]
        heapq.heapify(self._times)

    def _recount(self) -> None:
        self._bytes = sum(entry.size_bytes for entry in self._entries.values())
        self._tagged = {}
        for key, entry in self._entries.items():
            for tag in entry.tags:
                self._tagged.setdefault(tag, set()).add(key)
        self._forget_old_times()

    def _start_anew_in_child(self) -> None:
        if self._lock.locked():  # another thread was in the middle of a change when the process was forked
            self._empty()
        self._lock = threading.Lock()


def deep_size_bytes(value: Any) -> int:
    """Return what a value of JSON's kinds takes in memory, each part counted.

    >>> deep_size_bytes(b"x" * 1000) - deep_size_bytes(b"")
    1000
    """
    total = 0
    seen = set()
    rest = [value]
    while rest:
        part = rest.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        total += sys.getsizeof(part)
        if isinstance(part, dict):
            rest.extend(part)
            rest.extend(part.values())
        elif isinstance(part, (list, tuple, set, frozenset)):
            rest.extend(part)
        elif hasattr(part, "__dict__"):
            rest.append(vars(part))
    return total


_tiers: weakref.WeakSet[MemoryTier] = weakref.WeakSet()


def _after_fork() -> None:
    for tier in tuple(_tiers):
        tier._start_anew_in_child()  # noqa: SLF001  (this module's own class)


os.register_at_fork(after_in_child=_after_fork)
