"""The parts that a system is assembled from, as protocols: whatever has these methods is one.

Main path: Parts(cache=lambda servers: Levels(servers.redis_url)) -> the flight makes each part where its
servers run, and enters it with `async with` where it can be entered; one that is not given is ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from course_lib.errors import CourseError

if TYPE_CHECKING:
    import dspy

T = TypeVar("T")


class Busy(CourseError):  # noqa: N818  (it says what happened)
    """A runner takes no more work now: so much is under way and waits."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the servers of a system are, and a folder of its own."""

    redis_url: str
    """Of what may be lost: answers that are kept."""
    database_url: str
    """Its table `articles` (id, title, body, keywords, words) is the help centre; `words` is a tsvector. A
    text that a model can cite begins with the id in brackets: `[id] title`, and the body below it."""
    folder: Path
    queue_url: str = ""
    """Of a second Redis, which loses nothing: the stream of jobs."""


Outcome = Literal["answered", "cached", "degraded", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Request:
    """A customer's question."""

    id: str
    tenant: str
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What the customer gets."""

    outcome: Outcome
    text: str = ""
    citations: tuple[str, ...] = ()
    """Ids of articles."""
    cost_usd: float = 0.0
    """Of the model's calls for it that ended."""


@dataclass(frozen=True, slots=True)
class Job:
    """A ticket that is to be sorted, some time soon, once."""

    id: str
    tenant: str
    text: str


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

    @property
    def spans(self) -> Sequence[Mapping[str, Any]]:
        """Those that have ended, each with at least name, trace, id, parent, begun_s, took_s, error."""

    def span(self, name: str) -> AbstractContextManager[Any]:
        """Trace a block; a span begun within another one is its child, also over tasks."""


class Monitor(Protocol):
    """Metrics of the requests (project 6)."""

    def count(self, outcome: str, took_s: float) -> None:
        """Count one request that has ended: "answered", "cached", "degraded", "refused" or "failed"."""

    def text(self) -> str:
        """Return all metrics as Prometheus reads them; desk_requests_total has the label outcome."""


class Worker(Protocol):
    """Does the jobs, in a process of its own, which may be killed at any moment (project 7)."""

    async def run(self) -> None:
        """Take jobs from the stream `tickets` (concurrency.EventStream) at Servers.queue_url, without end.

        A job that is done has one row, with its id and a category, in the table `outbox` (id, category) of
        the SQLite file `outbox.db` in Servers.folder.
        """


class Canary(Protocol):
    """Tries a new version of the program, and takes it back (project 7)."""

    def deploy(self, version: str) -> None:
        """Begin with a new version."""

    def version(self, request_id: str) -> str:
        """Return the version that answers a request."""

    def saw(self, version: str, *, is_good: bool) -> None:
        """Take notice of an answer: whether it cites an article."""


class System(Protocol):
    """What all parts are assembled to (project 7)."""

    async def answer(self, request: Request) -> Reply:
        """Answer a question, or say why not; never raises because something is broken."""

    async def submit(self, job: Job) -> None:
        """Take a job; when this returns, it will be done."""


@dataclass(frozen=True, slots=True)
class Made:
    """The parts of one flight."""

    documents: Documents
    cache: Cache
    runner: Runner
    tracer: Tracer
    monitor: Monitor
    canary: Canary
    models: tuple[dspy.LM, ...]
    """The main one, and one to fall back to."""


@dataclass(frozen=True, slots=True)
class Parts:
    """How each part is made; None takes ours. That of the worker goes to another process (cloudpickle)."""

    documents: Callable[[Servers], Documents] | None = None
    cache: Callable[[Servers], Cache] | None = None
    runner: Callable[[Servers], Runner] | None = None
    tracer: Callable[[Servers], Tracer] | None = None
    monitor: Callable[[Servers], Monitor] | None = None
    worker: Callable[[Servers], Worker] | None = None
    canary: Callable[[Servers], Canary] | None = None
    system: Callable[[Servers, Made], System] | None = None
