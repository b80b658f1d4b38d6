"""The worker: takes jobs from the queue, answers each input once, and loses none when it is killed.

Main path: await Worker(queue_url, store, answer).run(stop) until `stop` is set; `course worker` is a process
that does it until SIGTERM.
Source: taskiq 0.13's Receiver, with the acknowledgement left to the task (receiver/receiver.py).

Delivered at least once, done once: a result that is saved is not asked for again, and saved at most once; an
answer that was given and not saved comes from the cache under the model's calls.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from taskiq import AckableMessage
from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver
from taskiq.utils import maybe_awaitable

from course_lib.deployment.database import StoreUnavailable
from course_lib.deployment.queue import JobQueue, QueueUnavailable
from course_lib.deployment.store import Job, Store
from course_lib.errors import CourseError
from course_lib.notes import note

_REST_S = 0.2
_log = logging.getLogger("course_lib.deployment")


Answer = Callable[[str, str | None, str, str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Answers an input, by tenant, customer's pseudonym, program, version and input; one that can never be
answered has a result too, which says so. NotServed gives the job back, ModelAway keeps it until the model
answers again."""


class Worker:
    """Does the jobs of one queue, several at a time."""

    def __init__(
        self,
        queue_url: str,
        store: Store,
        answer: Answer,
        *,
        jobs_at_once: int = 4,
        inputs_at_once: int = 4,
        waits_s: Sequence[float] = (1.0, 5.0, 25.0),
        most_attempts: int = 20,
        drain_s: float = 10.0,
        lost_after_s: float = 600.0,
        **options: Any,
    ) -> None:
        """Describe the worker.

        Args:
            queue_url: amqp:// or nats://.
            store: where the jobs and their results are.
            answer: what answers an input.
            jobs_at_once: how many jobs are under way.
            inputs_at_once: how many inputs of a job are.
            waits_s: before each further attempt at a job that failed; after the last it is dead.
            most_attempts: how often a job may be begun at all, counted by the store: one that kills its
                worker fails nowhere, and would be delivered for ever.
            drain_s: how long a worker that stops may go on with what it has; then it gives it back.
            lost_after_s: a job of which nothing was heard for so long is sent again, since a queue may lose
                its data; one that is sent twice is still done once.
            options: of JobQueue.
        """
        self.queue = JobQueue(queue_url, work=self._work, prefetch=2 * jobs_at_once, **options)
        self._store, self._answer = store, answer
        self._jobs_at_once, self._inputs_at_once = jobs_at_once, inputs_at_once
        self._waits_s, self._most_attempts, self._drain_s = waits_s, most_attempts, drain_s
        self._lost_after_s = lost_after_s
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], object] = lambda: None) -> None:
        """Do jobs until `stop` is set; then finish what is under way within `drain_s`, or give it back.

        A queue that is not there yet is waited for.
        """
        while not stop.is_set():
            try:
                async with self.queue:
                    ready()
                    await self._listen(stop)
            except QueueUnavailable as error:
                _log.warning("a part is not there yet: %s", error)
                await asyncio.sleep(_REST_S)

    async def _listen(self, stop: asyncio.Event) -> None:
        sweep = asyncio.create_task(self._send_lost())
        while not stop.is_set():
            try:
                await self._receiver().listen(stop)
            except Exception as error:  # border: whatever ended it, the queue is listened to again
                note("worker.listens_again", error=type(error).__name__)
                await asyncio.sleep(_REST_S)
        for task in (sweep, *self._running):
            task.cancel()
        await asyncio.gather(sweep, *self._running, return_exceptions=True)

    async def _send_lost(self) -> None:
        """Send again, now and then, what the queue may have lost."""
        while True:
            try:
                for job_id in await self._store.lost_jobs(self._lost_after_s):
                    note("job.sent_again")
                    await self.queue.send(job_id)
            except Exception as error:  # border: database or queue are away; the next time, then
                note("jobs.not_swept", error=type(error).__name__)
            await asyncio.sleep(self._lost_after_s / 10)

    def _receiver(self) -> Receiver:
        return _Receiver(
            self.queue,
            run_startup=False,
            max_async_tasks=self._jobs_at_once,
            ack_type=AcknowledgeType.MANUAL,
            wait_tasks_timeout=self._drain_s,
        )

    async def _work(self, job_id: str, failures: int) -> None:
        """Do one delivered job; when this returns, its message is acknowledged.

        A worker that stops cancels it, and the message goes back.
        """
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            await self._do(job_id, failures)
        finally:
            self._running.discard(task)

    async def _do(self, job_id: str, failures: int) -> None:
        while True:
            try:
                job = await self._store.claim_job(job_id)
                if job is not None:  # else it is done, dead or erased
                    await self._attempt(job, failures)
                return
            except Exception as error:  # border: of database, queue and model, no fault of the job's
                note("job.waits", error=type(error).__name__)  # it is kept, and counts nothing
                await asyncio.sleep(min(self._waits_s, default=1.0))

    async def _attempt(self, job: Job, failures: int) -> None:
        try:
            if job.attempts > self._most_attempts:
                raise TooManyAttempts
            await self._answer_all(job)
        except (StoreUnavailable, QueueUnavailable):
            raise
        except NotServed:  # another worker may have that version, and this one soon
            note("job.given_back", version=job.version)
            await self._store.release_job(job.tenant, job.id)
            await self.queue.send(job.id, failures=failures, wait_s=max(self._waits_s, default=1.0))
        except ModelAway:
            await self._store.release_job(job.tenant, job.id)
            raise
        except Exception as error:  # border: a program may raise anything
            await self._fail(job, failures, type(error).__name__)
        else:
            await self._store.end_job(job.tenant, job.id, "done")

    async def _answer_all(self, job: Job) -> None:
        """Answer the inputs that have no result yet, each for itself; then raise the first error, if any."""
        saved = {each.index for each in await self._store.results(job.tenant, job.id)}
        slots, away = asyncio.Semaphore(self._inputs_at_once), list[ModelAway]()

        async def one(index: int, given: Mapping[str, Any]) -> None:
            async with slots:
                if away:
                    return  # the others wait with it
                try:
                    result = await self._answer(job.tenant, job.subject, job.program, job.version, given)
                except ModelAway as error:
                    away.append(error)
                    return
            await self._store.save_result(job.tenant, job.id, index, result)

        missing = [one(index, given) for index, given in enumerate(job.inputs) if index not in saved]
        ended = await asyncio.gather(*missing, return_exceptions=True)
        for error in (*away, *ended):
            if error is not None:
                raise error

    async def _fail(self, job: Job, failures: int, error: str) -> None:
        """Send the job again after a wait, or give it up; only then is its message acknowledged."""
        is_last = failures >= len(self._waits_s) or error == TooManyAttempts.__name__
        note("job.dead" if is_last else "job.failed", error=error, failures=failures + 1)
        if is_last:
            await self._store.end_job(job.tenant, job.id, "dead", error)
        else:
            await self._store.end_job(job.tenant, job.id, "failed", error)
            await self.queue.send(job.id, failures=failures + 1, wait_s=self._waits_s[failures])


class _Receiver(Receiver):
    """taskiq's, which drops what is no job: never acknowledged, it would take a job's place for ever."""

    def __init__(self, queue: JobQueue, **options: Any) -> None:
        super().__init__(queue.broker, **options)
        self._queue = queue

    async def callback(self, message: bytes | AckableMessage, raise_err: bool = False) -> None:
        """Do the job of one message."""
        assert isinstance(message, AckableMessage)
        if self._queue.is_job(message.data):
            await super().callback(message, raise_err)
        else:
            note("queue.dropped", bytes=len(message.data))
            await maybe_awaitable(message.ack())


class NotServed(CourseError):  # noqa: N818  (it says what happened)
    """This worker does not have the version that a job was created for; the job waits, and nothing counts."""


class ModelAway(CourseError):  # noqa: N818  (it says what happened)
    """The model does not answer at all; the job waits until it does, and nothing counts."""


class TooManyAttempts(Exception):  # noqa: N818  (its name is what a dead job says)
    """A job was begun too often, most likely because each of its workers died."""


async def run_until_told(worker: Worker, *, ready: Callable[[], object] = lambda: None) -> None:
    """Run a worker as a process does: until SIGTERM or Ctrl-C, then gracefully."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for word in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(word, stop.set)
    await worker.run(stop, ready=ready)
