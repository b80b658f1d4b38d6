"""The processes of the service: a replica, uvicorn around the application; and a worker.

Main path: run(config, listener) until SIGTERM or Ctrl-C: readiness says no, the gateway sends no more, then
no new connection is taken, and what is under way is answered, for `drain_s` at most.
Source: uvicorn 0.54 (Server.handle_exit, timeout_graceful_shutdown), with its protocol of services/web.py.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

import uvicorn
from opentelemetry.trace import SpanKind

from course_lib.deployment.answering import Answering
from course_lib.deployment.app import create_app
from course_lib.deployment.callers import Caller
from course_lib.deployment.config import ConfigError, DeploymentConfig
from course_lib.deployment.gateway import NOTICE_S, longest_end_s
from course_lib.deployment.lean import settle
from course_lib.deployment.problems import problem_of
from course_lib.deployment.programs import SERVED
from course_lib.deployment.queue import JobQueue
from course_lib.deployment.quotas import Quotas
from course_lib.deployment.records import Records
from course_lib.deployment.remembered import remember
from course_lib.deployment.service import Service, reached
from course_lib.deployment.store import Store
from course_lib.services.child import STOP, end_with_owner
from course_lib.services.web import BoundedProtocol

_MOST_CONNECTIONS, _BACKLOG = 2_000, 1_024
_KEEP_ALIVE_S, _BETWEEN_S = 75, 0.05


class ReplicaServer(uvicorn.Server):
    """A server that says first that it is about to end."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the application, then answer."""
        await super().startup(sockets)
        settle()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain at the first signal, and end at the second."""
        if self._service.is_draining:
            super().handle_exit(sig, frame)
            return
        self._service.is_draining = True
        loop = asyncio.get_running_loop()  # a signal's handler runs in between the loop's steps
        loop.call_soon_threadsafe(loop.call_later, NOTICE_S, super().handle_exit, sig, frame)


def run(config: DeploymentConfig, listener: socket.socket) -> None:
    """Serve on `listener` until a signal ends it.

    Raises:
        RegistryError: a registered version of a program was changed.
    """
    remember(config.model)
    service = Service(config)
    ReplicaServer(
        uvicorn.Config(
            create_app(config, service),
            loop="uvloop" if os.name != "nt" else "asyncio",
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=_BACKLOG,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(config.drain_s),
        ),
        service,
    ).run(sockets=[listener])


def run_alone(config: DeploymentConfig) -> None:
    """Serve at the address of the settings until a signal ends it, as a container does.

    Raises:
        ConfigError: nobody may listen there.
    """
    try:
        listener = socket.create_server((config.host, config.port), backlog=_BACKLOG)
    except OSError as error:
        where = f"{config.host}, port {config.port}"
        said = error.strerror or error
        raise ConfigError([f"host and port ({where}) cannot be listened on: {said}; set others"]) from None
    with listener:
        run(config, listener)


async def work(config: DeploymentConfig) -> None:
    """Answer the jobs of the queue until a signal ends it.

    Raises:
        ConfigError: the settings name no database, or no queue.
    """
    from course_lib.deployment.worker import ModelAway, NotServed, Worker, run_until_told  # no replica's

    url, queue_url = _urls(config)

    async def answer(
        tenant: str, customer: str | None, program: str, version: str, given: Mapping[str, Any], /
    ) -> Mapping[str, Any]:
        if not answering.learn(program, version):
            raise NotServed
        text, payer = given[SERVED[program].input], Caller(tenant, "worker", frozenset({"ask"}))
        about: dict[str, Any] = {"user.id": customer} if customer else {}
        try:
            await quotas.check_tokens(payer)  # what is left over when the budget is spent is told so
            with records.tracer.span("job input", kind=SpanKind.CONSUMER, **about):
                said = await answering.answer(
                    program, text, tenant=tenant, customer=customer, version=version
                )
        except Exception as error:  # border: what a later attempt cannot cure is this input's result
            if (code := problem_of(error).code) in ("invalid", "quota"):
                return {"error": code}
            if answering.is_away(error):
                raise ModelAway from error
            raise
        finally:
            records.check(customer)
        await quotas.charge_tokens(payer, said.tokens)
        return said.outputs

    for word in (signal.SIGTERM, signal.SIGINT):  # until the worker takes them over
        asyncio.get_running_loop().add_signal_handler(word, sys.exit, 0)
    remember(config.model)
    records, quotas = Records(config), Quotas(config)
    async with (
        Answering(config, records.tracer) as answering,
        await reached(lambda: Store.open(url, deadline_s=30.0)) as store,
        records.running(lambda: store),
    ):
        await quotas.open()
        try:
            await run_until_told(Worker(queue_url, store, answer, drain_s=config.drain_s))
        finally:
            await quotas.close()


async def revive(config: DeploymentConfig) -> int:
    """Send the jobs that were given up again, and return how many they are.

    Raises:
        ConfigError: the settings name no database, or no queue.
        StoreError, QueueUnavailable: they do not answer.
    """
    url, queue_url = _urls(config)
    async with await Store.open(url) as store, JobQueue(queue_url) as queue:
        revived = await store.revive_jobs()
        for job_id in revived:  # where the queue is lost meanwhile, a worker sends the rest in ten minutes
            await queue.send(job_id)
    return len(revived)


def _urls(config: DeploymentConfig) -> tuple[str, str]:
    if config.database_url is None or config.queue_url is None:
        raise ConfigError(["a worker needs database_url (DATABASE_URL) and queue_url (AMQP_URL); set both"])
    return config.database_url.get_secret_value(), config.queue_url.get_secret_value()


def run_child(fd: int, *, owner: int) -> None:
    """Serve on the listening socket `fd`, with the settings of the environment, until `owner` is gone."""
    config = DeploymentConfig()
    _end_with(owner, config)
    run(config, socket.socket(fileno=fd))


def run_worker_child(*, owner: int) -> None:
    """Work, with the settings of the environment, until `owner` is gone."""
    config = DeploymentConfig()
    _end_with(owner, config)
    asyncio.run(work(config))


def _end_with(owner: int, config: DeploymentConfig) -> None:
    """End this process as a signal would, when its owner says so or is gone."""

    def end(word: bytes) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        if word != STOP:  # all of it ends: nobody is left to be told
            time.sleep(_BETWEEN_S)
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(longest_end_s(config) if word else 5.0)  # nobody waits for an owner that was killed
        os._exit(1)

    end_with_owner(owner, end)
