"""What the service keeps: jobs and their results, answers, feedback, idempotency keys, pseudonyms.

Main path: await Store.open(url) -> await store.save_answer(tenant, ...). Each method is a transaction, takes
the tenant first, and may be repeated: the id of a row is made before, so the row is there once.

A customer's own id is in the table `subjects` alone; all other rows have its pseudonym.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, LiteralString, TypeVar

import psycopg
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb
from pydantic_core import to_jsonable_python

from course_lib.adapters.data.predictions import storable
from course_lib.deployment.database import EVERY_TENANT, Cursor, Database, StoreError, checked_name

T = TypeVar("T")


class TooManyJobs(StoreError):  # noqa: N818  (it says what happened)
    """As many jobs of a tenant as may wait do so."""

    retry_after_s = 10.0


_COLUMNS: LiteralString = "id, tenant, program, version, inputs, subject, status, attempts, error"
_JOB: LiteralString = f"SELECT {_COLUMNS} FROM jobs WHERE tenant = %(tenant)s"  # noqa: S608  (no value)
_NEW_JOB: LiteralString = """
INSERT INTO jobs (tenant, id, subject, program, version, inputs, idempotency_key)
SELECT %(tenant)s, %(id)s, %(subject)s::text, %(program)s, %(version)s, %(inputs)s, %(key)s::text
WHERE %(most)s::integer IS NULL
    OR (SELECT count(*) FROM jobs WHERE tenant = %(tenant)s AND NOT has_ended) < %(most)s::integer
ON CONFLICT DO NOTHING
"""
_HISTORY: LiteralString = """
SELECT a.id, a.subject, a.program, a.version, a.question, a.answer, a.created, f.score, f.comment
FROM answers a LEFT JOIN feedback f ON f.tenant = a.tenant AND f.answer_id = a.id
WHERE a.tenant = %(tenant)s AND (%(customer)s::text IS NULL OR a.subject IN (
    SELECT subject FROM subjects WHERE tenant = %(tenant)s AND customer = %(customer)s AND erasing IS NULL
)) ORDER BY a.created DESC, a.id LIMIT %(limit)s
"""
_TAKE_KEY: LiteralString = """
INSERT INTO idempotency_keys AS taken (tenant, key, body_sha256, owner, subject)
VALUES (%(tenant)s, %(key)s, %(sha)s, %(owner)s, %(subject)s)
ON CONFLICT (tenant, key) DO UPDATE SET owner = excluded.owner, created = now()
WHERE taken.status IS NULL AND taken.body_sha256 = excluded.body_sha256
    AND taken.created < now() - make_interval(secs => %(stale_s)s)
"""
_KEY: LiteralString = """
SELECT body_sha256, owner, status, body FROM idempotency_keys WHERE tenant = %(tenant)s AND key = %(key)s
"""
_END_JOB: LiteralString = """
UPDATE jobs SET status = %(status)s, error = %(error)s, updated = now()
WHERE tenant = %(tenant)s AND id = %(id)s AND NOT has_ended RETURNING id
"""
_ERASE: LiteralString = """
UPDATE subjects SET erasing = coalesce(erasing, now()) WHERE tenant = %(tenant)s AND customer = %(customer)s
    AND (erasing IS NOT NULL OR NOT %(resumes)s) RETURNING subject
"""
_FEEDBACK: LiteralString = """'feedback',
    (SELECT to_jsonb(f) FROM feedback f WHERE f.tenant = page.tenant AND f.answer_id = page.id)"""
_RESULTS: LiteralString = """'results', (SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.index), '[]')
    FROM job_results r WHERE r.tenant = page.tenant AND r.job_id = page.id)"""
_HELD: dict[str, tuple[LiteralString, LiteralString, int]] = {
    "answers": ("id", _FEEDBACK, 500),
    "jobs": ("id", _RESULTS, 20),
    "idempotency_keys": ("key", "", 500),
}
"""What is about a customer, by table: its key, what belongs to a row, and how many rows are read at once."""
_PAGE: LiteralString = """
WITH page AS (
    SELECT * FROM {0} WHERE tenant = %(tenant)s AND subject = ANY(%(subjects)s)
    AND (created, {1}) > (%(created)s::timestamptz, %(key)s) ORDER BY created, {1} LIMIT %(limit)s
)
SELECT created::text, {1}, to_jsonb(page) || jsonb_build_object({2}) FROM page ORDER BY created, {1}
"""
_DROP: LiteralString = "DELETE FROM {} WHERE created < now() - make_interval(secs => 86400 * %s)"
_UNUSED: LiteralString = """ AND erasing IS NULL AND (tenant, subject) NOT IN (
    SELECT tenant, subject FROM answers WHERE subject IS NOT NULL
    UNION SELECT tenant, subject FROM jobs WHERE subject IS NOT NULL
    UNION SELECT tenant, subject FROM idempotency_keys WHERE subject IS NOT NULL
)
"""


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
class Begun:
    """What became of an idempotency key."""

    state: Literal["fresh", "running", "done", "conflict"]
    """fresh: do the work, then `complete` the key (or `forget_key`, if it failed); running: its first request
    is not finished; done: that was answered with what follows; conflict: it had another body."""
    status: int = 0
    body: Any = None


def new_id(kind: str) -> str:
    """Return a random id that nobody can guess, such as `job_...`."""
    return f"{kind}_{secrets.token_hex(12)}"


class ErasedMeanwhile(StoreError):  # noqa: N818  (it says what happened)
    """The customer of a request was erased while it came in."""


class Store(Database):
    """The rows of the service."""

    # Subjects: the pseudonyms of customers

    async def subject(self, tenant: str, customer: str) -> str:
        """Return the customer's pseudonym, made at random on first use; after an erasure it is another."""
        return await self.run(tenant, lambda cursor: _subject(cursor, tenant, customer))

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
        values: dict[str, Any] = {"id": answer_id or new_id("answer"), "subject": subject, "program": program}
        values |= {"version": version, "question": storable(question), "answer": _json(answer)}
        insert: LiteralString = """
            INSERT INTO answers (tenant, id, subject, program, version, question, answer)
            SELECT %(tenant)s, %(id)s, %(subject)s::text, %(program)s, %(version)s, %(question)s, %(answer)s
            WHERE %(subject)s::text IS NULL OR EXISTS (
                SELECT FROM subjects WHERE tenant = %(tenant)s AND subject = %(subject)s AND erasing IS NULL
            )
            ON CONFLICT (tenant, id) DO UPDATE SET id = excluded.id RETURNING id
        """
        try:
            rows = await self.rows(tenant, insert, values)
        except psycopg.errors.ForeignKeyViolation:  # erased between the two
            return None
        return rows[0][0] if rows else None

    async def history(
        self, tenant: str, *, customer: str | None = None, limit: int = 50
    ) -> list[StoredAnswer]:
        """Return the tenant's answers, or those to one customer, newest first."""
        rows = await self.rows(tenant, _HISTORY, {"customer": customer, "limit": limit})
        return [StoredAnswer(*row) for row in rows]

    async def feedback(self, tenant: str, answer_id: str, score: int, comment: str = "") -> bool:
        """Keep a score of 1 to 5 and a redacted comment; the last word counts. False: no such answer."""
        upsert: LiteralString = """
            INSERT INTO feedback (tenant, answer_id, score, comment)
            SELECT tenant, id, %(score)s, %(comment)s FROM answers WHERE tenant = %(tenant)s AND id = %(id)s
            FOR KEY SHARE
            ON CONFLICT (tenant, answer_id) DO UPDATE
                SET score = excluded.score, comment = excluded.comment, created = now()
            RETURNING answer_id
        """
        values = {"id": storable(answer_id), "score": score, "comment": storable(comment)}
        return bool(await self.rows(tenant, upsert, values))

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
        most_waiting: int | None = None,
    ) -> Job:
        """Keep a job to be done; the same idempotency key returns the job that it made before.

        Raises:
            TooManyJobs: so many jobs of this tenant wait, or are being done, already.
        """
        values: dict[str, Any] = {"tenant": tenant, "id": new_id("job"), "program": program}
        values |= {"version": version, "inputs": _json(list(inputs)), "key": idempotency_key}
        values["most"] = most_waiting

        async def work(cursor: Cursor) -> Job:
            subject = await _subject(cursor, tenant, customer) if customer is not None else None
            if most_waiting is not None:  # two requests at once would each see room for one
                await cursor.execute(
                    "SELECT pg_advisory_xact_lock(hashtext('jobs of ' || %(tenant)s))", values
                )
            await cursor.execute(_NEW_JOB, {**values, "subject": subject})
            await cursor.execute(f"{_JOB} AND (id = %(id)s OR idempotency_key = %(key)s)", values)
            row = await cursor.fetchone()
            if row is None:
                raise TooManyJobs(f"{most_waiting} jobs of {tenant!r} are not done; send this one later")
            return Job(*row)

        return await self._unless_erased(tenant, work)

    async def job(self, tenant: str, job_id: str) -> Job | None:
        """Return one job of this tenant; None if there is none."""
        rows = await self.rows(tenant, f"{_JOB} AND id = %(id)s", {"id": storable(job_id)})
        return Job(*rows[0]) if rows else None

    async def claim_job(self, job_id: str) -> Job | None:
        """Mark a job as running, count the attempt and return it; None if there is nothing (more) to do.

        A job that was running is returned too: its worker may have been killed. The one method without a
        tenant, for a queue carries ids only; all that follows takes the tenant of the job.
        """
        claim: LiteralString = f"""
            UPDATE jobs SET status = 'running', attempts = attempts + 1, updated = now()
            WHERE id = %(id)s AND NOT has_ended RETURNING {_COLUMNS}
        """  # noqa: S608  (no value is in it)
        rows = await self.rows(EVERY_TENANT, claim, {"id": storable(job_id)})
        return Job(*rows[0]) if rows else None

    async def lost_jobs(self, quiet_s: float) -> list[str]:
        """Return up to 100 jobs of which nothing was heard for so long; of each once within that time.

        Their messages may be gone with a queue that lost its data, so each is to be sent again.
        """
        take: LiteralString = """
            UPDATE jobs SET updated = now() WHERE id IN (
                SELECT id FROM jobs AS job WHERE NOT has_ended
                    AND updated < now() - make_interval(secs => %(quiet_s)s) AND NOT EXISTS (
                        SELECT FROM job_results WHERE tenant = job.tenant AND job_id = job.id
                            AND created > now() - make_interval(secs => %(quiet_s)s)
                    ) ORDER BY updated LIMIT 100 FOR UPDATE SKIP LOCKED
            ) RETURNING id
        """
        return [row[0] for row in await self.rows(EVERY_TENANT, take, {"quiet_s": quiet_s})]

    async def save_result(self, tenant: str, job_id: str, index: int, result: Mapping[str, Any]) -> bool:
        """Keep the result of one input; False, and nothing changed, if there is one or the job has ended."""
        insert: LiteralString = """
            INSERT INTO job_results (tenant, job_id, index, result)
            SELECT tenant, id, %(index)s, %(result)s FROM jobs
            WHERE tenant = %(tenant)s AND id = %(id)s AND NOT has_ended
                AND %(index)s < jsonb_array_length(inputs)
            FOR SHARE
            ON CONFLICT DO NOTHING RETURNING index
        """  # FOR SHARE: an erasure of this job comes wholly before or wholly after
        return bool(await self.rows(tenant, insert, {"id": job_id, "index": index, "result": _json(result)}))

    async def results(self, tenant: str, job_id: str) -> list[JobResult]:
        """Return a job's results so far, in the order of its inputs."""
        query: LiteralString = """
            SELECT index, result FROM job_results WHERE tenant = %(tenant)s AND job_id = %(id)s ORDER BY index
        """
        return [JobResult(*row) for row in await self.rows(tenant, query, {"id": storable(job_id)})]

    async def end_job(
        self, tenant: str, job_id: str, status: Literal["done", "failed", "dead"], error: str = ""
    ) -> bool:
        """Mark a job, a failed one to be claimed again; False if it is done, dead or erased already."""
        values = {"status": status, "id": job_id, "error": storable(error)}
        return bool(await self.rows(tenant, _END_JOB, values))

    async def release_job(self, tenant: str, job_id: str) -> None:
        """Mark a job that was claimed as queued again, and forget that attempt."""
        update: LiteralString = """
            UPDATE jobs SET status = 'queued', attempts = attempts - 1, updated = now()
            WHERE tenant = %(tenant)s AND id = %(id)s AND status = 'running'
        """
        await self.rows(tenant, update, {"id": job_id})

    async def withdraw_job(self, tenant: str, job_id: str) -> bool:
        """Forget a job that no worker has claimed; False if there is none such."""
        delete: LiteralString = """
            DELETE FROM jobs WHERE tenant = %(tenant)s AND id = %(id)s AND status = 'queued' AND attempts = 0
            RETURNING id
        """
        return bool(await self.rows(tenant, delete, {"id": job_id}))

    async def revive_jobs(self) -> list[str]:
        """Mark all dead jobs as queued, their attempts forgotten, and return them. Then send each again."""
        update: LiteralString = """
            UPDATE jobs SET status = 'queued', attempts = 0, updated = now()
            WHERE status = 'dead' RETURNING id
        """
        return [row[0] for row in await self.rows(EVERY_TENANT, update, {})]

    # Idempotency keys

    async def begin(
        self, tenant: str, key: str, body_sha256: str, *, subject: str | None = None, stale_s: float = 60.0
    ) -> Begun:
        """Take an idempotency key, or say what became of the request that has it.

        A request that has run for `stale_s` is taken for lost with its replica: its key is fresh again.
        """
        values = {"tenant": tenant, "key": key, "sha": body_sha256, "subject": subject, "stale_s": stale_s}
        values["owner"] = owner = secrets.token_hex(8)

        async def work(cursor: Cursor) -> Begun:
            await cursor.execute(_TAKE_KEY, values)
            await cursor.execute(_KEY, values)
            sha, taken_by, status, body = await cursor.fetchone() or (body_sha256, "", None, None)
            if sha != body_sha256:
                return Begun("conflict")
            if status is not None:
                return Begun("done", status, body)
            return Begun("fresh" if taken_by == owner else "running")

        return await self._unless_erased(tenant, work)

    async def complete(self, tenant: str, key: str, status: int, body: Any) -> None:
        """Keep what the request with this key was answered with; the first answer stays."""
        update: LiteralString = """
            UPDATE idempotency_keys SET status = %(status)s, body = %(body)s
            WHERE tenant = %(tenant)s AND key = %(key)s AND status IS NULL
        """
        await self.rows(tenant, update, {"key": key, "status": status, "body": _json(body)})

    async def forget_key(self, tenant: str, key: str) -> None:
        """Give the key back, since its request failed and may be sent again."""
        delete: LiteralString = """
            DELETE FROM idempotency_keys WHERE tenant = %(tenant)s AND key = %(key)s AND status IS NULL
        """
        await self.rows(tenant, delete, {"key": key})

    async def _unless_erased(self, tenant: str, work: Callable[[Cursor], Awaitable[T]]) -> T:
        try:
            return await self.run(tenant, work)
        except psycopg.errors.ForeignKeyViolation:
            raise ErasedMeanwhile("this customer was erased as the request came in; send it again") from None

    # Deleting

    async def begin_erasure(
        self, tenant: str, customer: str, *, resumes: bool = False
    ) -> tuple[list[str], int]:
        """Delete all rows about a customer; with `resumes`, those that an erasure which was cut off has left.

        Returns:
            The pseudonyms to erase in other places, with those of an erasure that was cut off; and how many
            rows there were. A later request has another pseudonym.
        """
        values = {"tenant": tenant, "customer": customer, "resumes": resumes}

        async def work(cursor: Cursor) -> tuple[list[str], int]:
            await cursor.execute(_ERASE, values)
            subjects = [subject for (subject,) in await cursor.fetchall()]
            await cursor.execute("SELECT delete_rows_of(%s, %s)", [tenant, subjects])
            return subjects, (await cursor.fetchone() or (0,))[0]

        return await self.run(tenant, work)

    async def finish_erasure(self, tenant: str, subjects: Sequence[str]) -> None:
        """Forget these pseudonyms, when no other place holds anything under them."""
        delete: LiteralString = """
            DELETE FROM subjects WHERE tenant = %s AND subject = ANY(%s) AND erasing IS NOT NULL
        """

        async def work(cursor: Cursor) -> None:
            for each in ("SELECT delete_rows_of(%s, %s)", delete):  # first what was written meanwhile
                await cursor.execute(each, [tenant, list(subjects)])

        await self.run(tenant, work)

    async def held(self, tenant: str, customer: str) -> dict[str, Any]:
        """Return all rows about a customer as JSON, table by table; each page has the usual deadline."""
        subjects = await self.subjects(tenant, customer)
        return {table: await self._held_in(table, tenant, subjects) for table in _HELD}

    async def _held_in(self, table: str, tenant: str, subjects: list[str]) -> list[dict[str, Any]]:
        key, more, limit = _HELD[table]
        query = SQL(_PAGE).format(Identifier(table), Identifier(key), SQL(more))
        values: dict[str, Any] = {"subjects": subjects, "limit": limit, "created": "-infinity", "key": ""}
        found: list[dict[str, Any]] = []
        while rows := await self.rows(tenant, query, values):
            found += [row for *_, row in rows]
            values["created"], values["key"], _ = rows[-1]
        return found

    async def subjects(self, tenant: str, customer: str) -> list[str]:
        """Return a customer's pseudonyms; more than one only while an erasure of them is not finished."""
        query: LiteralString = "SELECT subject FROM subjects WHERE tenant = %(tenant)s AND customer = %(who)s"
        return [
            subject for (subject,) in await self.rows(tenant, f"{query} ORDER BY created", {"who": customer})
        ]

    async def drop_unused(self, tenant: str, subject: str) -> None:
        """Forget a pseudonym that nothing is kept under."""
        delete: LiteralString = "DELETE FROM subjects WHERE tenant = %(tenant)s AND subject = %(subject)s"
        with suppress(psycopg.errors.ForeignKeyViolation):
            await self.rows(tenant, f"{delete} AND erasing IS NULL", {"subject": subject})

    async def unfinished_erasures(self) -> list[tuple[str, str]]:
        """Return tenant and customer of each erasure that was begun and cut off."""
        query: LiteralString = "SELECT DISTINCT tenant, customer FROM subjects WHERE erasing IS NOT NULL"
        return [(row[0], row[1]) for row in await self.rows(EVERY_TENANT, query, {})]

    async def living(self, subjects: Iterable[str]) -> set[str]:
        """Return those of these pseudonyms, of any tenant, that are not erased and not being erased."""
        query: LiteralString = """
            SELECT subject FROM subjects WHERE subject = ANY(%(subjects)s) AND erasing IS NULL
        """
        return {row[0] for row in await self.rows(EVERY_TENANT, query, {"subjects": [*subjects]})}

    async def drop_older_than(self, days: float) -> dict[str, int]:
        """Delete what is older than `days`, of every tenant; return how many rows of each table went.

        The audit log stays: nothing personal is in it.
        """
        if not days > 0:
            raise StoreError(f"days must be above 0, not {days!r}: nothing was deleted")

        async def work(cursor: Cursor) -> dict[str, int]:
            gone = {}
            for table in ("answers", "jobs", "idempotency_keys", "subjects"):  # what is about a subject first
                query = SQL(_DROP + (_UNUSED if table == "subjects" else "")).format(Identifier(table))
                gone[table] = (await cursor.execute(query, [days])).rowcount
            return gone

        return await self.run(EVERY_TENANT, work)


async def _subject(cursor: Cursor, tenant: str, customer: str) -> str:
    checked_name("customer", customer)
    values = {"tenant": tenant, "customer": customer, "subject": new_id("subject")}
    query: LiteralString = """
        SELECT subject FROM subjects WHERE tenant = %(tenant)s AND customer = %(customer)s AND erasing IS NULL
    """
    while not (row := await (await cursor.execute(query, values)).fetchone()):  # or it was erased just now
        await cursor.execute(
            "INSERT INTO subjects (tenant, subject, customer) VALUES (%(tenant)s, %(subject)s, %(customer)s) "
            "ON CONFLICT DO NOTHING",
            values,
        )
    return str(row[0])


def _json(value: Any) -> Jsonb:
    return Jsonb(storable(to_jsonable_python(value, inf_nan_mode="constants")))
