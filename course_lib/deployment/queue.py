"""The queue of jobs: the same on RabbitMQ (amqp://) and NATS JetStream (nats://).

Main path: async with JobQueue(url) as queue: await queue.send(job_id); a Worker takes it from there.
Source: taskiq 0.13 with taskiq-aio-pika 0.6 and taskiq-nats 0.7, which have no dead letters that one can
list, and on NATS no delays: here those are queues with a time to live, and NATS's scheduled messages (2.12).

A message holds a job's id and how often it failed, and nothing else: what a customer wrote is in the database
alone. It is acknowledged late, so a job is delivered at least once, and more often after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self

import nats.errors
from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError
from taskiq import AckableMessage, BrokerMessage, Context, TaskiqDepends
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue
from taskiq_nats import PullBasedJetStreamBroker

from course_lib.errors import CourseError
from course_lib.services import shown

Work = Callable[[str, int], Awaitable[None]]
"""Does the job of this id, which has failed so often; its message is acknowledged when it returns."""

logging.getLogger("taskiq").addHandler(logging.NullHandler())  # what matters raises, or is noted

_PATIENCE_S = 5.0
_REST_S = 0.2
_LATER, _DEAD = "later_s", "dead"  # labels of a message, for the brokers below


class QueueUnavailable(CourseError):  # noqa: N818  (it says what happened)
    """The queue server did not take or give a message in time; it may have taken one all the same."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that was given up."""

    job_id: str
    failures: int
    error: str
    """The class of the last error, without what a customer wrote."""


class JobQueue:
    """A connection to the queue of jobs, for the event loop in which it was opened."""

    def __init__(
        self,
        url: str,
        *,
        work: Work | None = None,
        prefetch: int = 8,
        name: str = "course",
        ack_s: float = 10.0,
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
        is_amqp = scheme.startswith("amqp")
        self.kind = "rabbitmq" if is_amqp else "nats"
        self.broker: _RabbitMQ | _Nats = (
            _RabbitMQ(url, name, prefetch) if is_amqp else _Nats(url, name, ack_s)
        )
        self.broker.is_worker_process = work is not None
        self._task = self.broker.register_task(_task(work), task_name="run_job", ack_type="manual")

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect, and make the queues that are missing; afterwards lost connections come back by themselves.

        Raises:
            QueueUnavailable: the server does not answer.
        """
        async with self._patience("be reached"):
            await self.broker.startup()

    async def close(self) -> None:
        """Close the connections; messages that were taken and not acknowledged go back to the queue."""
        with contextlib.suppress(Exception):  # border: of a server that is gone nothing can be closed
            await asyncio.wait_for(self.broker.shutdown(), _PATIENCE_S)

    async def ping(self) -> None:
        """Raise QueueUnavailable unless the server answers."""
        async with self._patience("be reached"):
            await self.broker.ping()

    async def send(self, job_id: str, *, failures: int = 0, wait_s: float = 0.0, error: str = "") -> None:
        """Have a worker do a job, at once or after a wait; returns when the server has it on disk.

        Args:
            job_id: of the store.
            failures: how often it has failed.
            wait_s: from now until a worker may begin it.
            error: when given, the job becomes a dead letter instead.

        Raises:
            QueueUnavailable: the server did not confirm it; it may have it all the same.
        """
        labels: dict[str, Any] = {_DEAD: error} if error else {_LATER: wait_s} if wait_s else {}
        async with self._patience(f"take job {job_id}"):
            await self._task.kicker().with_labels(**labels).kiq(job_id, failures)

    async def dead_letters(self) -> list[DeadLetter]:
        """Return the jobs that were given up, oldest first.

        Raises:
            QueueUnavailable: the server does not answer.
        """
        async with self._patience("show its dead letters"):
            return [self._letter(data) async for data, _ in self.broker.dead()]

    async def send_again(self, job_id: str) -> bool:
        """Send a dead letter's job once more, as if it had never failed; False if there is no such letter.

        The store must know that the job is to be done again (`Store.revive_job`), before.

        Raises:
            QueueUnavailable: the server does not answer.
        """
        async with self._patience("send a dead letter again"):
            found = False
            async for data, remove in self.broker.dead():
                if self._letter(data).job_id == job_id:
                    if not found:
                        await self.send(job_id)
                    found = True
                    await remove()
            return found

    def _letter(self, data: bytes) -> DeadLetter:
        message = self.broker.formatter.loads(message=data)
        return DeadLetter(message.args[0], message.args[1], str(message.labels.get(_DEAD, "")))

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
    async def run_job(job_id: str, failures: int, context: Context = TaskiqDepends()) -> None:  # noqa: B008
        if work is not None:
            await work(job_id, failures)
            with contextlib.suppress(
                Exception
            ):  # border: not acknowledged, it is delivered again and nothing done
                await context.ack()  # late: a worker that dies before it leaves the message in the queue

    run_job.__annotations__ = {"job_id": str, "failures": int, "context": Context, "return": None}
    return run_job


class _RabbitMQ(AioPikaBroker):
    """Quorum queues, which confirm what is on disk: `name.jobs`, `name.dead`, `name.later.1000` and so on."""

    def __init__(self, url: str, name: str, prefetch: int) -> None:
        self._jobs, self._dead, self._name = f"{name}.jobs", f"{name}.dead", name
        super().__init__(
            url,
            qos=prefetch,
            exchange=Exchange(name=name),
            task_queues=[Queue(name=self._jobs)],
            dead_letter_queue=Queue(name=self._dead),
            reconnect_interval=_REST_S,
        )

    async def ping(self) -> None:
        assert self.write_channel is not None, "open the queue first"
        await self.write_channel.declare_queue(self._jobs, passive=True)

    async def kick(self, message: BrokerMessage) -> None:
        assert self.write_channel is not None, "open the queue first"
        route = self._dead if _DEAD in message.labels else self._jobs
        if wait_s := float(message.labels.get(_LATER, 0)):
            # A queue for each wait: in one for all, a long wait would hold up the short ones behind it.
            wait_ms = round(wait_s * 1000)
            route = f"{self._name}.later.{wait_ms}"
            arguments: dict[str, Any] = {
                "x-queue-type": "quorum",
                "x-message-ttl": wait_ms,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": self._jobs,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            }
            await self.write_channel.declare_queue(route, durable=True, arguments=arguments)
        body = Message(message.message, delivery_mode=2)
        await self.write_channel.default_exchange.publish(body, routing_key=route)

    async def dead(self) -> AsyncIterator[tuple[bytes, Callable[[], Awaitable[Any]]]]:
        """Yield each dead letter and what removes it; what is not removed goes back."""
        assert self.write_conn is not None, "open the queue first"
        async with self.write_conn.channel() as channel:
            queue = await channel.declare_queue(self._dead, passive=True)
            seen: list[AbstractIncomingMessage] = []
            while (one := await queue.get(fail=False)) is not None:
                seen.append(one)
            for each in seen:
                yield each.body, each.ack
            for each in reversed(seen):  # a letter goes back to the front
                if not each.processed:
                    await each.reject(requeue=True)


class _Nats(PullBasedJetStreamBroker):
    """A stream for what is to be done, now or later, and one for dead letters."""

    def __init__(self, url: str, name: str, ack_s: float) -> None:
        self._jobs, self._later, self._dead = f"{name}.jobs", f"{name}.later", f"{name}.dead"
        self._stream, self._dead_stream, self._ack_s = f"{name}_jobs", f"{name}_dead", ack_s
        self._held: dict[str, Msg] = {}  # by the address of their acknowledgement
        self._beat: asyncio.Task[None] | None = None
        super().__init__(
            url,
            subject=self._jobs,
            stream_name=self._stream,
            durable=f"{name}_workers",
            stream_config=StreamConfig(
                subjects=[self._jobs, f"{self._later}.*"],
                retention=RetentionPolicy.WORK_QUEUE,
                allow_msg_schedules=True,
            ),
            consumer_config=ConsumerConfig(
                durable_name=f"{name}_workers", filter_subject=self._jobs, ack_wait=ack_s, max_ack_pending=-1
            ),
            max_reconnect_attempts=-1,
            reconnect_time_wait=_REST_S,
            connect_timeout=2,
            error_cb=_say_nothing,
        )

    async def startup(self) -> None:
        await super().startup()
        await self.js.add_stream(StreamConfig(name=self._dead_stream, subjects=[self._dead]))

    async def shutdown(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        for message in self._held.values():
            with contextlib.suppress(nats.errors.Error):
                await message.nak()
        with contextlib.suppress(nats.errors.Error):
            await self.client.flush(1)
        await super().shutdown()

    async def ping(self) -> None:
        self._check()
        await self.js.stream_info(self._stream)

    async def kick(self, message: BrokerMessage) -> None:
        self._check()
        subject, headers = self._dead if _DEAD in message.labels else self._jobs, {}
        if wait_s := float(message.labels.get(_LATER, 0)):
            subject = f"{self._later}.{message.task_id}"
            at = (datetime.now(UTC) + timedelta(seconds=wait_s)).isoformat(timespec="milliseconds")
            headers = {"Nats-Schedule": f"@at {at}", "Nats-Schedule-Target": self._jobs}
        await self.js.publish(subject, message.message, headers=headers or None)

    def _check(self) -> None:
        if not self.client.is_connected:  # the client would keep the message, and send it some day
            raise nats.errors.ConnectionClosedError

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield messages, and tell the server of each that is held that it is being worked on."""
        self._beat = asyncio.create_task(self._keep_beating())
        while True:
            try:
                for message in await self.consumer.fetch(1, timeout=1.0):
                    self._held[message.reply] = message
                    yield AckableMessage(data=message.data, ack=partial(self._ack, message))
            except nats.errors.TimeoutError:
                continue
            except nats.errors.Error:
                await asyncio.sleep(_REST_S)  # the server is away, or has just come back

    async def _ack(self, message: Msg) -> None:
        self._held.pop(message.reply, None)
        await message.ack()

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(self._ack_s / 4)
            for message in list(self._held.values()):
                with contextlib.suppress(nats.errors.Error):
                    await message.in_progress()

    async def dead(self) -> AsyncIterator[tuple[bytes, Callable[[], Awaitable[Any]]]]:
        """Yield each dead letter and what removes it."""
        self._check()
        state = (await self.js.stream_info(self._dead_stream)).state
        for seq in range(max(state.first_seq, 1), state.last_seq + 1):
            with contextlib.suppress(NotFoundError):
                message = await self.js.get_msg(self._dead_stream, seq)
                yield message.data or b"", partial(self.js.delete_msg, self._dead_stream, seq)


async def _say_nothing(_: Exception) -> None:
    """Take an error of the connection, which each call that needs it raises too."""
