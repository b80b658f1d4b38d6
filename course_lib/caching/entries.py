"""An answer with what must travel beside it: until when it counts, for whom, and what its question had seen.

Main path: Sealer.seal(entry, key) -> bytes for Redis or disk; Sealer.open(bytes, key) -> the entry, or None.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass
from typing import Any

import orjson

from course_lib.caching import wire
from course_lib.caching.invalidation import Place
from course_lib.caching.memory import deep_size_bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer, as it lies outside memory."""

    record: Any
    """Plain JSON."""
    tags: tuple[str, ...]
    """Names under which it is dropped."""
    place: Place
    """In the log of invalidations, when the question was asked."""
    until_s: float | None
    """Seconds since 1970; None: as long as there is room."""


@dataclass(frozen=True, slots=True)
class Sealer:
    """How entries become bytes and back."""

    signing_key: bytes | None = None
    """With it, only who knows it can make an entry that is taken for ours."""
    compress_over_bytes: int = wire.COMPRESS_OVER_BYTES
    """Longer ones are compressed."""

    def seal(self, entry: Entry, key: str) -> bytes:
        """Return the bytes that stand for the entry under this key and no other."""
        plain = {
            "until": entry.until_s,
            "place": list(entry.place),
            "tags": list(entry.tags),
            "record": entry.record,
        }
        return wire.encode(
            plain, key=key, signing_key=self.signing_key, compress_over_bytes=self.compress_over_bytes
        )

    def open(self, blob: bytes, key: str) -> Entry | None:
        """Return the entry, or None for bytes that are damaged or not ours."""
        try:
            plain = wire.decode(blob, key=key, signing_key=self.signing_key)
            milliseconds, number = plain["place"]
            until_s = plain["until"]
            return Entry(
                plain["record"],
                tuple(map(str, plain["tags"])),
                (int(milliseconds), int(number)),
                None if until_s is None else float(until_s),
            )
        except (wire.NotOurs, LookupError, TypeError, ValueError):
            return None


_FRESH = (dict, list, str)


def held_in_memory(value: Any, *, is_plain: bool) -> tuple[Any, int]:
    """Return what memory keeps of an answer, and how many bytes that takes.

    JSON is kept as bytes, which are decoded for each caller: that takes a seventh of the time of a deep copy.
    """
    if is_plain:
        body = orjson.dumps(value)
        return body, sys.getsizeof(body)
    return copy.deepcopy(value), int(getattr(value, "nbytes", 0)) + deep_size_bytes(value)


def handed_out(value: Any, *, is_shared: bool = False) -> Any:
    """Return an object of the caller's own, marked as a hit as DSPy marks it.

    What JSON knows has been decoded for this caller, unless it `is_shared` with others. The rest lies in
    memory as it is, and is copied.
    """
    if value is None or (type(value) in _FRESH and not is_shared):
        return value
    value = copy.deepcopy(value)
    if hasattr(value, "usage"):
        value.usage = {}
        object.__setattr__(value, "cache_hit", True)
    return value
