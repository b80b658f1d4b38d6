"""What every tier of the cache can do, and how one that fails is left alone for a while.

Main path: a Tier stores bytes under a key; Rest decides whether a tier in trouble is asked again.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from typing import Protocol

Clock = Callable[[], float]
"""Returns seconds; only differences of its results count."""


class Tier(Protocol):
    """A place for answers. No method raises because the place is gone, slow or full: that is a miss."""

    name: str
    """One word for tables: memory, redis, disk."""

    @property
    def healthy(self) -> bool:
        """False while the tier is being left alone."""
        ...

    @property
    def trouble(self) -> str:
        """What is wrong, in one line; empty when nothing is."""
        ...

    def get(self, key: str) -> bytes | None:
        """Return the value, None when it is not there, has run out, or cannot be had in time."""
        ...

    def put(self, key: str, value: bytes, *, ttl_s: float | None, tags: tuple[str, ...] = ()) -> bool:
        """Store a value for `ttl_s` seconds (None: until it is crowded out); False when it was not kept."""
        ...

    def delete(self, keys: Iterable[str]) -> int:
        """Drop these keys; returns how many were there."""
        ...

    def drop_tag(self, tag: str) -> int:
        """Drop all that was put with this tag; returns how many were there."""
        ...

    def clear(self) -> None:
        """Drop everything that this tier stored."""
        ...

    def size_bytes(self) -> int:
        """Return the room taken; 0 when that cannot be had."""
        ...

    def close(self) -> None:
        """Give back connections and files; after that every get is a miss."""
        ...


class Rest:
    """Leaves something alone after a failure, longer each time, then lets one caller at a time try again."""

    def __init__(self, first_s: float, longest_s: float, *, clock: Clock = time.monotonic) -> None:
        self.trouble = ""
        """The last failure, in one line; empty once it works again."""
        self._first_s = first_s
        self._longest_s = longest_s
        self._clock = clock
        self._wait_s = first_s
        self._until = 0.0
        self._is_tried = False
        self._lock = threading.Lock()
        _rests.add(self)

    def may_try(self) -> bool:
        """Return whether to ask now; while in trouble, one caller is let through after each rest."""
        if not self.trouble:
            return True
        with self._lock:
            now = self._clock()
            if now < self._until:
                return False
            self._until = now + self._wait_s  # the others go on resting while this one tries
            self._is_tried = True
            return True

    def failed(self, trouble: str) -> None:
        """Begin a rest, or a longer one; calls that began before it and fail now do not lengthen it."""
        with self._lock:
            if self._is_tried:
                self._wait_s = min(2 * self._wait_s, self._longest_s)
            if self._is_tried or not self.trouble:
                self._until = self._clock() + self._wait_s
            self._is_tried = False
            self.trouble = trouble

    def worked(self) -> None:
        """End the trouble."""
        if self.trouble:
            with self._lock:
                self.trouble = ""
                self._wait_s = self._first_s
                self._is_tried = False


_rests: weakref.WeakSet[Rest] = weakref.WeakSet()


def _after_fork() -> None:
    for rest in tuple(_rests):
        rest._lock = threading.Lock()  # noqa: SLF001  (this module's own class; another thread may have held it)


os.register_at_fork(after_in_child=_after_fork)


def as_bytes(name: str) -> bytes:
    """Return a name in UTF-8; half a character, which JSON can smuggle in, is no reason to fail."""
    return name.encode("utf-8", "surrogatepass")
