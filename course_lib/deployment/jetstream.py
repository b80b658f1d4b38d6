"""The queue of jobs on NATS JetStream.

Main path: JobQueue -> JetStream.kick(message), whose label `later_s` has it wait.
Source: taskiq-nats 0.7, which has no delays: here those are NATS's scheduled messages (2.12).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from functools import partial

import nats.errors
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError
from taskiq import AckableMessage, BrokerMessage
from taskiq_nats import PullBasedJetStreamBroker

_REST_S = 0.2


class JetStream(PullBasedJetStreamBroker):
    """A stream for what is to be done, now or later."""

    def __init__(self, url: str, name: str, ack_s: float) -> None:
        self._jobs, self._later = f"{name}.jobs", f"{name}.later"
        self._stream, self._ack_s = f"{name}_jobs", ack_s
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

    async def shutdown(self) -> None:
        """Give back what is held, and disconnect."""
        if self._beat is not None:
            self._beat.cancel()
        for message in self._held.values():
            with contextlib.suppress(nats.errors.Error):
                await message.nak()
        with contextlib.suppress(nats.errors.Error):
            await self.client.flush(1)
        await super().shutdown()

    async def ping(self) -> None:
        """Raise unless the server answers."""
        self._check()
        try:
            await self.js.stream_info(self._stream)
        except NotFoundError:  # a server may come back without its data
            await self._add_or_reuse_stream()
            await self._startup_consumer()

    async def kick(self, message: BrokerMessage) -> None:
        """Send a message; returns when the server has it on disk."""
        self._check()
        subject, headers = self._jobs, {}
        if wait_s := float(message.labels.get("later_s", 0)):
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
                with contextlib.suppress(Exception):  # border: it is still away
                    await self.ping()

    async def _ack(self, message: Msg) -> None:
        self._held.pop(message.reply, None)
        await message.ack()

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(self._ack_s / 4)
            for message in list(self._held.values()):
                with contextlib.suppress(nats.errors.Error):
                    await message.in_progress()


async def _say_nothing(_: Exception) -> None:
    """Take an error of the connection, which each call that needs it raises too."""
