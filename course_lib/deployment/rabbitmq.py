# mypy: allow-subclassing-any
"""The queue of jobs on RabbitMQ.

Main path: JobQueue -> RabbitMQ.kick(message); labels of a message: `later_s` waits, `dead` is a dead letter.
Source: taskiq-aio-pika 0.6, which has no dead letters that one can list.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from taskiq import BrokerMessage
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue

_REST_S = 0.2


class RabbitMQ(AioPikaBroker):
    """Quorum queues, which confirm what is on disk: `name.jobs`, `name.dead`, `name.later.1000` and so on."""

    def __init__(self, url: str, name: str, prefetch: int) -> None:
        self._jobs, self._dead, self._name = f"{name}.jobs", f"{name}.dead", name
        self._ping_channel: AbstractChannel | None = None
        super().__init__(
            url,
            qos=prefetch,
            exchange=Exchange(name=name),
            task_queues=[Queue(name=self._jobs)],
            dead_letter_queue=Queue(name=self._dead),
            reconnect_interval=_REST_S,
        )

    async def ping(self) -> None:
        """Raise unless the server answers."""
        assert self.write_conn is not None, "open the queue first"
        if self._ping_channel is None:  # of its own: a ping that is given up closes its channel
            self._ping_channel = await self.write_conn.channel()
        channel = await self._ping_channel.get_underlay_channel()  # the other answers from its own memory
        await channel.queue_declare(self._jobs, passive=True)

    async def kick(self, message: BrokerMessage) -> None:
        """Send a message; returns when the server has it on disk."""
        assert self.write_channel is not None, "open the queue first"
        route = self._dead if "dead" in message.labels else self._jobs
        if wait_s := float(message.labels.get("later_s", 0)):
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
