"""The service's PostgreSQL: jobs and their results, answers, feedback, idempotency keys, pseudonyms.

Main path: await Store.open(url) -> await store.save_answer(tenant, ...). Each method is one transaction, takes the
tenant first, and may be repeated: what it writes has an id that was made before, so a row is there once.
Source: psycopg_pool 3.3 (AsyncConnectionPool); migrations/*.sql has the tables, and row level security as a
second wall behind each `WHERE tenant`.

While PostgreSQL is gone, a call raises StoreUnavailable within `deadline_s`; the next one after it is back
works, with no restart of this process.
"""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import args_row, tuple_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool, PoolClosed

from course_lib.adapters.data.connections import first_line, is_dropped
from course_lib.errors import CourseError
from course_lib.redaction.secrets import hide_secrets
from course_lib.resilience.retries import retry

T = TypeVar("T")
Connection = AsyncConnection[Any]

EVERY_TENANT = "*"
MIGRATIONS = Path(__file__).parent / "migrations"

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_ATTEMPT_S = 1.0
_MIGRATION_LOCK = 5_001
_MIGRATIONS_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    name text PRIMARY KEY, sha256 text NOT NULL, applied timestamptz NOT NULL DEFAULT now()
)
"""

logging.getLogger("psycopg.pool").addHandler(
    logging.NullHandler()
)  # the caller gets an error that says the same


class StoreError(CourseError):
    """The store refused something, or was asked wrongly."""


class StoreUnavailable(StoreError):  # noqa: N818  (it says what happened)
    """PostgreSQL did not answer in time; what was under way is kept whole or not at all."""


class MigrationChanged(StoreError):  # noqa: N818  (it says what happened)
    """A migration that was applied to this database is not the one that this program has."""


@dataclass(frozen=True, slots=True)
class Job:
    """A batch of inputs; its results are read with `Store.results`."""

    id: str
    tenant: str
    program: str
    version: str
    inputs: list[dict[str, Any]]
    subject: str | None
    """The customer's pseudonym."""
    status: str
    """queued, running, failed (to be tried again), done, dead (not to be tried again), erased."""
    attempts: int
    """How often a worker has begun it."""
    error: str
    """Of the last failed attempt, without what a customer wrote."""
    created: datetime
    updated: datetime


@dataclass(frozen=True, slots=True)
class JobResult:
    """The answer to one of a job's inputs."""

    index: int
    """Of the input, from 0."""
    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer as it was given, with its feedback where there is some."""

    id: str
    subject: str | None
    program: str
    version: str
    question: str
    answer: dict[str, Any]
    created: datetime
    score: int | None
    """1 to 5."""
    comment: str | None


@dataclass(frozen=True, slots=True)
class Fresh:
    """The idempotency key is new: do the work, then `complete` it (or `forget_key`, if it failed)."""


@dataclass(frozen=True, slots=True)
class Running:
    """The first request with this key is not finished."""


@dataclass(frozen=True, slots=True)
class Done:
    """The first request with this key was answered with this."""

    status: int
    body: Any


@dataclass(frozen=True, slots=True)
class Conflict:
    """The key was used for another body."""


Begun = Fresh | Running | Done | Conflict


def new_id(kind: str) -> str:
    """Return a random id that nobody can guess, such as `job_...`."""
    return f"{kind}_{secrets.token_hex(12)}"


class Store:
    """The database of the service, for the event loop in which it was opened."""

    def __init__(self, url: str, *, size: int, deadline_s: float) -> None:
        self.deadline_s = deadline_s

    @classmethod
    async def open(cls, url: str, *, size: int = 8, deadline_s: float = 2.0) -> Store:
        """Connect, and apply the migrations that this database lacks; replicas may do so at once.

        Args:
            url: PostgreSQL's address.
            size: the most connections at a time.
            deadline_s: how long a call may wait for the database.

        Raises:
            StoreUnavailable: the database does not answer.
            MigrationChanged: an applied migration was changed.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Close all connections, for good."""

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the database answers."""

    async def migrate(self) -> list[str]:
        """Apply the migrations that are missing, in order, and return their names."""
        raise NotImplementedError

    # Subjects: pseudonyms of customers

    async def subject(self, tenant: str, customer: str) -> str:
        """Return the customer's pseudonym, made at random on first use; after an erasure it is another."""
        raise NotImplementedError

    # Answers

    async def save_answer(
        self,
        tenant: str,
        *,
        program: str,
        version: str,
        question: str,
        answer: Mapping[str, Any],
        subject: str | None = None,
        answer_id: str | None = None,
    ) -> str | None:
        """Keep an answer and return its id; None, and nothing kept, if its subject was erased meanwhile."""
        raise NotImplementedError

    async def answer(self, tenant: str, answer_id: str) -> StoredAnswer | None:
        raise NotImplementedError

    async def history(
        self, tenant: str, *, customer: str | None = None, limit: int = 50
    ) -> list[StoredAnswer]:
        """Return the tenant's answers, or those to one customer, newest first."""
        raise NotImplementedError

    async def feedback(self, tenant: str, answer_id: str, score: int, comment: str = "") -> bool:
        """Keep what somebody thought of an answer (the last word counts); False if the tenant has no such answer."""
        raise NotImplementedError

    # Jobs

    async def create_job(
        self,
        tenant: str,
        program: str,
        version: str,
        inputs: Sequence[Mapping[str, Any]],
        *,
        customer: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Keep a job to be done; the same idempotency key returns the job that it made before."""
        raise NotImplementedError

    async def job(self, tenant: str, job_id: str) -> Job | None:
        raise NotImplementedError

    async def claim_job(self, job_id: str) -> Job | None:
        """Mark a job as running, count the attempt and return it; None if there is nothing (more) to do.

        A job that was running is returned too: its worker may have been killed. The one method without a
        tenant, for a queue carries ids only; all that follows takes the tenant of the job.
        """
        raise NotImplementedError

    async def save_result(self, tenant: str, job_id: str, index: int, result: Mapping[str, Any]) -> bool:
        """Keep the result of one input; False, and nothing changed, if there is one or the job was erased."""
        raise NotImplementedError

    async def results(self, tenant: str, job_id: str) -> list[JobResult]:
        """Return a job's results so far, in the order of its inputs."""
        raise NotImplementedError

    async def finish_job(self, tenant: str, job_id: str) -> bool:
        """Mark a job as done; False if it was at its end already (done, dead or erased)."""
        raise NotImplementedError

    async def fail_job(self, tenant: str, job_id: str, error: str) -> bool:
        """Mark a job as failed, to be claimed again; False if it was at its end already."""
        raise NotImplementedError

    async def dead_job(self, tenant: str, job_id: str, error: str) -> bool:
        """Mark a job as failed for good; False if it was at its end already."""
        raise NotImplementedError

    # Idempotency keys

    async def begin(
        self, tenant: str, key: str, body_sha256: str, *, subject: str | None = None, stale_s: float = 60.0
    ) -> Begun:
        """Take an idempotency key, or say what became of the request that has it.

        A request that has run for `stale_s` is taken for lost with its replica: its key is fresh again.
        """
        raise NotImplementedError

    async def complete(self, tenant: str, key: str, status: int, body: Any) -> None:
        """Keep what the request with this key was answered with."""

    async def forget_key(self, tenant: str, key: str) -> None:
        """Give the key back, since its request failed and may be sent again."""

    # Deleting

    async def drop_older_than(self, days: float) -> dict[str, int]:
        """Delete what is older than `days`, of every tenant; return how many rows of each table went.

        The audit log stays: nothing personal is in it.
        """
        raise NotImplementedError
