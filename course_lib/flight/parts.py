"""The parts that a system is assembled from, as protocols: whatever has these methods is one.

Main path: Parts(cache=lambda servers: Levels(servers.redis_url)) -> the flight makes each part where its
servers run, and enters it with `async with` where it can be entered; one that is not given is ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from course_lib.errors import CourseError

T = TypeVar("T")


class Busy(CourseError):  # noqa: N818  (it says what happened)
    """A runner takes no more work now: so much is under way and waits."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers of a system are, and a folder of its own."""

    redis_url: str
    database_url: str
    folder: Path


class Documents(Protocol):
    """The help centre in PostgreSQL (project 1)."""

    async def search(self, text: str, limit: int = 3) -> Sequence[str]:
        """Return the texts of the articles that answer `text` best, the best one first."""

    async def health(self) -> Mapping[str, Any]:
        """Return at least `ok`: whether the database answers now."""


class Cache(Protocol):
    """Answers that are kept, in three levels (project 2). Without Redis it goes on with the levels it has."""

    async def get(self, key: str) -> str | None:
        """Return what is kept under a key, or None."""

    async def set(self, key: str, value: str) -> None:
        """Keep a value under a key."""


class Runner(Protocol):
    """Runs calls, so many at once (project 3)."""

    async def run(self, call: Callable[[], Awaitable[T]], within_s: float) -> T:
        """Return what a call returns.

        Raises:
            Busy: so many are under way and so many wait that this one is refused at once.
            TimeoutError: it did not end within `within_s` seconds, waiting included; it is cancelled then.
        """


class Tracer(Protocol):
    """Spans of what was done (project 4)."""

    spans: Sequence[Mapping[str, Any]]
    """Those that have ended, each with at least name, trace, id, parent, begun_s, took_s, error."""

    def span(self, name: str) -> AbstractContextManager[Any]:
        """Trace a block; a span begun within another one is its child, also over tasks."""


class Monitor(Protocol):
    """Metrics of the requests (project 6)."""

    def count(self, outcome: str, took_s: float) -> None:
        """Count one request that has ended: "answered", "cached", "degraded", "refused" or "failed"."""

    def text(self) -> str:
        """Return all metrics as Prometheus reads them; desk_requests_total has the label outcome."""
