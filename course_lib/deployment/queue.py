"""The queue of jobs: the same on RabbitMQ (amqp://) and NATS JetStream (nats://).

Main path: async with JobQueue(url) as queue: await queue.send(job_id); a Worker takes it from there.
Source: taskiq 0.13. rabbitmq.py and jetstream.py are its brokers, of which a process imports the one that it
uses: client libraries take megabytes.

A message holds a job's id and how often it failed, and nothing else: what a customer wrote is in the database
alone. It is acknowledged late, so a job is delivered at least once, and more often after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Self

from course_lib.errors import CourseError
from course_lib.services import shown

if TYPE_CHECKING:
    from taskiq import Context

Work = Callable[[str, int], Awaitable[None]]
"""Does the job of this id, which has failed so often; its message is acknowledged when it returns."""

logging.getLogger("taskiq").addHandler(logging.NullHandler())  # what matters raises, or is noted

_PATIENCE_S = 5.0
_LABELS = {"later_s", "ack_type"}
_JOB_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class QueueUnavailable(CourseError):  # noqa: N818  (it says what happened)
    """The queue server did not take or give a message in time; it may have taken one all the same."""


class JobQueue:
    """A connection to the queue of jobs, for the event loop in which it was opened.

    Each call raises QueueUnavailable when the server does not answer in time.
    """

    def __init__(
        self,
        url: str,
        *,
        work: Work | None = None,
        prefetch: int = 8,
        name: str = "course",
        ack_s: float = 5.0,
    ) -> None:
        """Describe the queue; `open` connects.

        Args:
            url: amqp://user:password@host:port/ or nats://user:password@host:port.
            work: what a worker does with a job; without it this connection only sends.
            prefetch: how many messages RabbitMQ hands over before one is acknowledged.
            name: of the queue, so that several can share a server.
            ack_s: after how long NATS takes a worker for dead that has not said that it goes on. RabbitMQ
                sees at once that a connection is gone.

        Raises:
            QueueUnavailable: no such queue can be reached by this address.
        """
        self._url = url
        scheme = url.partition("://")[0]
        if scheme not in ("amqp", "amqps", "nats", "tls"):
            raise QueueUnavailable(
                f"no queue at {shown(url)}: the address is to begin with amqp:// or nats://"
            )
        self.kind = "rabbitmq" if scheme.startswith("amqp") else "nats"
        self.broker: Any
        if self.kind == "rabbitmq":
            from course_lib.deployment.rabbitmq import RabbitMQ

            self.broker = RabbitMQ(url, name, prefetch)
        else:
            from course_lib.deployment.jetstream import JetStream

            self.broker = JetStream(url, name, ack_s)
        self.broker.is_worker_process = work is not None
        self._task = self.broker.register_task(_task(work), task_name="run_job", ack_type="manual")

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect, and make the queues that are missing; a connection that is lost comes back by itself."""
        try:
            async with self._patience("be reached"):
                await self.broker.startup()
        except QueueUnavailable:
            await self.close()
            raise

    async def close(self) -> None:
        """Close the connections; messages that were taken and not acknowledged go back to the queue."""
        with contextlib.suppress(Exception):  # border: of a server that is gone nothing can be closed
            await asyncio.wait_for(self.broker.shutdown(), _PATIENCE_S)

    async def ping(self) -> None:
        """Raise QueueUnavailable unless the server answers."""
        async with self._patience("be reached"):
            await self.broker.ping()

    async def send(self, job_id: str, *, failures: int = 0, wait_s: float = 0.0) -> None:
        """Have a worker do a job, at once or after a wait; returns when the server has it on disk.

        Args:
            job_id: of the store.
            failures: how often it has failed.
            wait_s: from now until a worker may begin it.
        """
        labels = {"later_s": wait_s} if wait_s else {}
        async with self._patience(f"take job {job_id}"):
            await self._task.kicker().with_labels(**labels).kiq(job_id, failures)

    def is_job(self, data: bytes) -> bool:
        """Return whether a message is one that `send` makes; a server takes others, too."""
        try:
            message = self.broker.formatter.loads(message=data)
            message.parse_labels()
            job_id, failures = message.args
        except Exception:  # border: a message may hold anything
            return False
        is_ours = message.task_name == "run_job" and not message.kwargs and message.labels.keys() <= _LABELS
        if not is_ours or message.labels.get("ack_type") != "manual" or type(failures) is not int:
            return False
        return isinstance(job_id, str) and _JOB_ID.fullmatch(job_id) is not None

    @contextlib.asynccontextmanager
    async def _patience(self, what: str) -> AsyncIterator[None]:
        """Bound a conversation with the server in time; its errors become one."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                yield
        except QueueUnavailable:
            raise
        except Exception as error:  # border: two client libraries, each with errors of its own
            while (cause := error.__cause__ or error.__context__) is not None and not str(error):
                error = cause  # type: ignore[assignment]
            raise QueueUnavailable(
                f"the queue at {shown(self._url)} could not {what}: {type(error).__name__}; "
                "it is tried again on the next call, so start the server, or send the job again"
            ) from None


def _task(work: Work | None) -> Callable[..., Any]:
    from taskiq import Context, TaskiqDepends

    async def run_job(job_id: str, failures: int, context: Context = TaskiqDepends()) -> None:  # noqa: B008
        if work is not None:
            await work(job_id, failures)
            with contextlib.suppress(
                Exception
            ):  # border: not acknowledged, it is delivered again and nothing done
                await context.ack()  # late: a worker that dies before it leaves the message in the queue

    run_job.__annotations__ = {"job_id": str, "failures": int, "context": Context, "return": None}
    return run_job
