"""What a call tells the cache, and the cache the call, through the context that both run in.

Main path: front.py pins an answer for the next get() and captures what put() gets; watcher.py learns the key.

The context variables hold objects that are changed in place: in `acall` DSPy runs get() and put() in worker
threads, each with a copy of the caller's context, where setting a variable would not be seen outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from course_lib.caching.invalidation import Mark


class Pin:
    """An answer that one get() hands out without looking; without an answer, a miss that was looked up."""

    __slots__ = ("counted_as", "is_waiting", "key", "mark", "record")

    def __init__(self, key: str, record: Any, counted_as: str | None, mark: Mark) -> None:
        self.key = key
        self.record = record
        self.counted_as = counted_as
        self.mark = mark
        self.is_waiting = True


class Note:
    """Which entry the model's call in this context is about, and what its question had seen."""

    __slots__ = ("is_open", "key", "mark")

    def __init__(self) -> None:
        self.key: str | None = None
        self.mark: Mark | None = None
        self.is_open = True


_pin: ContextVar[Pin | None] = ContextVar("course_cache_pin", default=None)
_captures: ContextVar[list[Any] | None] = ContextVar("course_cache_captures", default=None)
call: ContextVar[Note | None] = ContextVar("course_cache_call", default=None)
"""The note of the model's call that is under way, or was the last, in this context."""


@contextmanager
def pinned(pin: Pin) -> Iterator[None]:
    """Have the next get() in this block return the pin's answer."""
    token = _pin.set(pin)
    try:
        yield
    finally:
        _pin.reset(token)


def take_pin() -> Pin | None:
    """Return the pinned answer of this context, once."""
    pin = _pin.get()
    if pin is None or not pin.is_waiting:
        return None
    pin.is_waiting = False
    return pin


@contextmanager
def captured() -> Iterator[list[Any]]:
    """Yield a list that receives every value put in this block, kept or not."""
    values: list[Any] = []
    token = _captures.set(values)
    try:
        yield values
    finally:
        _captures.reset(token)


def capture(value: Any) -> None:
    """Show a value that is being put to whoever captures."""
    values = _captures.get()
    if values is not None:
        values.append(value)


def note(key: str, mark: Mark) -> bool:
    """Tell the model's call in this context which entry it is about; False when nobody listens."""
    held = call.get()
    if held is None or not held.is_open:
        return False
    held.key, held.mark = key, mark
    return True


def mark_of(key: str) -> Mark | None:
    """Return what the question under this key had seen, as far as this context knows."""
    pin, held = _pin.get(), call.get()
    if pin is not None and pin.key == key:
        return pin.mark
    return held.mark if held is not None and held.key == key else None
