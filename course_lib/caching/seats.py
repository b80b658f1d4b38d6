"""The parts of a flight: who sits in it, what they are told, and what a table of flights has counted.

Main path: flight.py moves them; a seat has its place in one flight, and a flight its place in one table.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from course_lib.caching.bells import Bell


class Order(Enum):
    """What a waiting caller is told, when it is not an answer."""

    LEAD = "lead"
    ALONE = "call for yourself, unshared"


@dataclass(frozen=True, slots=True)
class Answer:
    """The leader's value."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """The error that the leader's call raised."""

    error: Exception


Word = Answer | Failure | Order


@dataclass(eq=False, slots=True)
class Seat:
    """One caller's place in a flight."""

    bell: Bell | None
    """None for a caller that may not wait."""
    deadline_s: float
    """When it stops waiting, on the table's clock."""
    flight: Flight | None = None
    word: Word | None = None
    """What it was told; None while it waits."""
    has_overtaken: bool = False
    """It leads in the place of a leader who does not come on."""


@dataclass(eq=False, slots=True)
class Flight:
    """A call under way for one key."""

    key: Hashable
    leader: Seat
    led_since_s: float
    waiting: dict[Seat, None] = field(default_factory=dict)
    """Callers in the order of their coming."""


@dataclass(slots=True)
class Counts:
    """What a table has seen."""

    led: int = 0
    """Calls made by a leader."""
    followed: int = 0
    """Callers who were given the leader's answer."""
    failed: int = 0
    """Callers who were given the leader's error."""
    handed_on: int = 0
    """Leaders who were cancelled or interrupted while others waited."""
    overtaken: int = 0
    """Leaders who took longer than `takeover_s`."""
    alone: int = 0
    """Callers who called for themselves: they waited too long, or were not allowed to wait."""
