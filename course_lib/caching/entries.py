"""An answer with what must travel beside it: for whom, since when and how long it counts, what it cost.

Main path: Entry.of(record, ...) -> memory keeps the entry; encoded(entry, key) -> bytes for Redis or disk;
decoded(bytes, key) -> the entry, or None; entry.answer() -> an object of the caller's own.
"""

from __future__ import annotations

import copy
import sys
from typing import Any, NamedTuple

import orjson

from course_lib.caching import wire
from course_lib.caching.answers import cost_of, is_plain, is_readable
from course_lib.caching.invalidation import Stamp
from course_lib.caching.memory import deep_size_bytes

_ENTRY_BYTES = 320
"""What an Entry takes beside its body: its own fields, their numbers and tuples."""


class Entry(NamedTuple):
    """One answer that the cache keeps."""

    body: Any
    """JSON as bytes, decoded for each caller: that takes a seventh of the time of a deep copy. Or an
    object."""
    is_json: bool
    tags: tuple[str, ...]
    """Names under which it is dropped."""
    stamp: Stamp
    """Which invalidations were known when its question was asked."""
    kept_s: float
    """When it was kept, in seconds since 1970."""
    ttl_s: float | None
    """How long it counts from then on; None: as long as there is room."""
    tokens: int
    """What it took when it was asked for."""
    cost_usd: float

    @classmethod
    def of(
        cls, value: Any, *, tags: tuple[str, ...], stamp: Stamp, kept_s: float, ttl_s: float | None
    ) -> Entry:
        """Return the entry of an answer, independent of the object given."""
        is_json = is_plain(value)
        body = orjson.dumps(value) if is_json else copy.deepcopy(value)
        return cls(body, is_json, tags, stamp, kept_s, ttl_s, *cost_of(value))

    def answer(self) -> Any:
        """Return the answer as an object of the caller's own, marked as a hit as DSPy marks it."""
        return orjson.loads(self.body) if self.is_json else copied(self.body)

    def left_s(self, now_s: float) -> float | None:
        """Return how long it still counts (None: without end); 0 if it does not, or was kept in the future.

        A clock that was set back would prolong its life: what seems to come from the future is over.
        """
        if self.ttl_s is None:
            return None
        age_s = now_s - self.kept_s
        return max(0.0, self.ttl_s - age_s) if age_s > -CLOCKS_DIFFER_S else 0.0

    @property
    def size_bytes(self) -> int:
        """What memory needs for it."""
        if self.is_json:
            return _ENTRY_BYTES + sys.getsizeof(self.body)
        return _ENTRY_BYTES + int(getattr(self.body, "nbytes", 0)) + deep_size_bytes(self.body)


CLOCKS_DIFFER_S = 60.0
"""By so much may the clocks of two machines differ."""


def copied(value: Any) -> Any:
    """Return a copy for one caller, marked as a hit as DSPy marks it."""
    value = copy.deepcopy(value)
    if hasattr(value, "usage"):
        value.usage = {}
        object.__setattr__(value, "cache_hit", True)
    return value


def encoded(entry: Entry, key: str, **options: Any) -> bytes:
    """Return the bytes that stand for an entry of JSON under this key and no other.

    Raises:
        NotPlain: it is too large.
    """
    head = [entry.tags, entry.stamp[0], entry.kept_s, entry.ttl_s, entry.tokens, entry.cost_usd]
    return wire.pack(
        orjson.dumps(head) + b"\n" + entry.body, key=key, **options
    )  # JSON has no bare line breaks


def decoded(blob: bytes, key: str, *, signing_key: bytes | None = None) -> tuple[Entry | None, Any]:
    """Return the entry and its answer; None for bytes that are damaged, not ours, or unreadable for DSPy."""
    try:
        head, _, body = wire.unpack(blob, key=key, signing_key=signing_key).partition(b"\n")
        tags, known, kept_s, ttl_s, tokens, cost_usd = orjson.loads(head)
        record = orjson.loads(body)
        stamp, ttl_s = (int(known), 0), None if ttl_s is None else float(ttl_s)
        entry = Entry(
            body, True, tuple(map(str, tags)), stamp, float(kept_s), ttl_s, int(tokens), float(cost_usd)
        )
    except (wire.NotOurs, TypeError, ValueError):
        return None, None
    return (entry, record) if is_readable(record) else (None, None)
