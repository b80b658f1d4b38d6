# mypy: allow-subclassing-any
"""The queue of jobs on RabbitMQ.

Main path: JobQueue -> RabbitMQ.kick(message), whose label `later_s` has it wait.
Source: taskiq-aio-pika 0.6.
"""

from __future__ import annotations

from typing import Any

from aio_pika import Message
from aio_pika.abc import AbstractChannel
from taskiq import BrokerMessage
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue

_REST_S = 0.2


class RabbitMQ(AioPikaBroker):
    """Quorum queues, which confirm what is on disk: `name.jobs`, `name.later.1000` and so on."""

    def __init__(self, url: str, name: str, prefetch: int) -> None:
        self._jobs, self._name = f"{name}.jobs", name
        self._ping_channel: AbstractChannel | None = None
        super().__init__(
            url,
            qos=prefetch,
            exchange=Exchange(name=name),
            task_queues=[Queue(name=self._jobs)],
            dead_letter_queue=Queue(name=f"{name}.dead"),  # what RabbitMQ itself gives up
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
        route = self._jobs
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
