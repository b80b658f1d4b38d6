"""What all requests of a process share: the parts that the settings name, opened, watched and kept in order.

Main path: async with Service(config).opened(): each part is reached as soon as it is there, and pinged from
then on; Guard and the routes find them here, and what they need of a request in `of_request(scope)`.

A part that is lost is missed by those who need it alone: answers go on without Redis, database and queue.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from starlette.types import Scope

from course_lib.debugging import MetricsCollector
from course_lib.deployment.answering import Answered, Answering, Asked
from course_lib.deployment.audit import Audit, AuditError, RedisHead
from course_lib.deployment.callers import Caller, Callers
from course_lib.deployment.config import DeploymentConfig
from course_lib.deployment.customers import Cache, Customers
from course_lib.deployment.database import StoreError, ended
from course_lib.deployment.gauges import Gauges
from course_lib.deployment.problems import Problem
from course_lib.deployment.queue import JobQueue, QueueUnavailable
from course_lib.deployment.quotas import Quotas
from course_lib.deployment.records import Records
from course_lib.deployment.store import Store
from course_lib.errors import CourseError
from course_lib.notes import note

T = TypeVar("T")

_AGAIN_S, _PING_S, _START_S = 0.5, 1.0, 10.0
_DAY_S, _LATER_S, _LONG_S = 86_400.0, 60.0, 600.0
_log = logging.getLogger("course_lib.deployment")


@dataclass(slots=True)
class Seen:
    """What the guard knows of a request, for the route."""

    request_id: str
    caller: Caller
    version: str
    """Of the program that the caller wants."""
    digest: bytes = b""
    """Of tenant, path, version and body: the same for the same request."""
    idempotency_key: str | None = None
    subject: str | None = None
    """The pseudonym of the customer that it names."""
    trace_id: int | None = None
    failed: int = 0
    """The status of the error that a stream has ended with, whose head said 200."""


def of_request(scope: Scope) -> Seen:
    """Return what the guard knows of this request."""
    seen: Seen = scope["course"]
    return seen


class Service:
    """What all requests share: the parts that the settings name, opened while the application runs."""

    def __init__(self, config: DeploymentConfig) -> None:
        self.config = config
        self.callers, self.quotas = Callers(config), Quotas(config)
        self.metrics = MetricsCollector()
        self.records = Records(config)
        self.tracer = self.records.tracer
        self.answering = Answering(config, self.tracer, self.metrics, keep=self.keep)
        self.store: Store | None = None
        self.queue: JobQueue | None = None
        self.audit: Audit | None = None
        self.customers: Customers | None = None
        self.routes: dict[str, Any] = {}
        self.asked: dict[str, type[Any]] = {}
        """What comes in for a program, by path."""
        self.gauges = Gauges(self)
        self.is_draining, self.is_starting = False, True
        """Whether it is about to end; whether a part was not reached yet, for ten seconds at most."""
        urls = {"redis": config.redis_url, "database": config.database_url, "queue": config.queue_url}
        self._pinged = {name: "not asked yet" for name, url in urls.items() if url}
        self._pings: dict[str, Callable[[], Awaitable[None]]] = {"redis": self._ping_redis}
        """By part, what raises if it does not answer; of those that were reached."""
        self._later: set[asyncio.Task[None]] = set()
        self._counted: Counter[tuple[str, str, str, str]] = Counter()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the parts; one that is not there yet is waited for in the background."""
        async with AsyncExitStack() as stack:
            await self.quotas.open()
            stack.push_async_callback(self.quotas.close)
            store = await self._begin_audit(stack)
            works = [self._connect_queue(stack), self._note_counts(), self._watch(), self._keep_house()]
            works += [self._connect(store)] if store else []
            await stack.enter_async_context(self.answering)
            tasks = [asyncio.create_task(work) for work in works]
            try:
                async with self.records.running(lambda: self.store):
                    yield
            finally:
                await ended(*tasks)
                if self._later:
                    await asyncio.wait(self._later, timeout=2 * _PING_S)
                await self._note_counted()
                await self.answering.close()  # while the database is still open

    async def _begin_audit(self, stack: AsyncExitStack) -> Store | None:
        """Take records from the first request on: they wait for the database, which may be away."""
        url, redis_url, key = self.config.database_url, self.config.redis_url, self.config.signing_key
        if not url:
            return None
        store = await stack.enter_async_context(Store(url.get_secret_value()))
        head = RedisHead(redis_url.get_secret_value()) if redis_url else None
        if head:
            stack.push_async_callback(head.close)
        secret = key.get_secret_value().encode() if key else secrets.token_bytes(32)
        self.audit = await stack.enter_async_context(Audit(store, secret, head))
        return store

    async def _connect(self, store: Store) -> None:
        """Wait for the database, and open what stands on it; fill one that was put in its place, empty."""
        await reached(store.migrate)
        audit = self.needed(self.audit, "database")
        self.customers = Customers(store, audit, [Cache(self.answering.forget), *self.records.places])
        self.store, self._pings["database"] = store, store.ping
        while True:
            await asyncio.sleep(_AGAIN_S)
            if store.is_empty:
                await reached(store.migrate)

    async def _keep_house(self) -> None:
        """Go on with erasures and drop what is old: at the start and daily, in one process at a time."""
        while url := self.config.database_url:
            wait_s = _AGAIN_S
            try:
                if self.customers is not None:
                    async with Store(url.get_secret_value(), size=2, deadline_s=_LONG_S) as store:
                        wait_s = await self._kept_house(store, self.customers)
            except Exception as error:  # border: whatever it was, it is tried again
                wait_s = _LATER_S
                note("housekeeping.failed", error=type(error).__name__)
                _log.warning("housekeeping is tried again: %s", type(error).__name__)
            await asyncio.sleep(wait_s)

    async def _kept_house(self, store: Store, customers: Customers) -> float:
        """Do it, unless another process does, and return when to do it again, in seconds."""
        async with store.alone("housekeeping") as is_alone:
            if not is_alone:
                return _LATER_S
            erasures = await customers.resume()
            if days := self.config.retention_days:
                await store.drop_older_than(days)
                for place in self.records.places:
                    await place.drop_before(datetime.now(UTC) - timedelta(days))
        return _DAY_S if all(each.is_complete for each in erasures) else _LATER_S

    async def _connect_queue(self, stack: AsyncExitStack) -> None:
        if not (url := self.config.queue_url):
            return
        queue_url = url.get_secret_value()
        self.queue = await reached(lambda: stack.enter_async_context(JobQueue(queue_url)))
        self._pings["queue"] = self.queue.ping

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that a request which was cut off can no longer wait for."""
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    def needed(self, part: T | None, name: str) -> T:
        """Return a part.

        Raises:
            Problem: there is none, or it was not reached yet.
        """
        if part is None:
            raise Problem("dependency", f"The {name} is not there yet.")
        return part

    def needed_store(self) -> Store:
        """Return the store, or raise as needed() does."""
        return self.needed(self.store, "database")

    async def keep(self, asked: Asked, said: Answered) -> None:
        """Write an answer into the history, unless its customer was erased since it was asked.

        An erasure drops what is cached first, and then the pseudonyms that there are. So what was not dropped
        after its pseudonym was read is saved under one that the erasure finds.
        """
        if not self.config.database_url:
            return
        store = self.needed_store()
        subject = await store.subject(asked.tenant, asked.customer) if asked.customer else None
        if subject and await self.answering.is_forgotten(asked):
            await store.drop_unused(asked.tenant, subject)
            return
        await store.save_answer(
            asked.tenant,
            program=asked.program,
            version=said.version,
            question=asked.text,
            answer=said.outputs,
            subject=subject,
            answer_id=said.id,
        )

    async def name(self, seen: Seen, customer: str | None) -> None:
        """Let the span and the log's line of a request have its customer's pseudonym, unless that waits."""
        if customer and self.records.folder and self.store and self._pinged["database"] == "ok":
            seen.subject = await self.records.subject(self.store, seen.caller.tenant, customer)
            self.records.mark(seen.subject)

    # -- the audit log -----------------------------------------------------------------------------------

    async def record(self, seen: Seen, action: str, target: str, **detail: Any) -> None:
        """Note in the audit log what was done by whom.

        Raises:
            Problem: too much waits to be written: nothing is done that nobody could prove.
        """
        if self.audit is not None:
            try:
                await self.audit.record(seen.caller.tenant, seen.caller.name, action, target, **detail)
            except AuditError as error:
                raise Problem("dependency", "The audit log cannot be written.") from error

    def count(self, caller: Caller, action: str, target: str) -> None:
        """Note what may be done very often: those of a key and a second are one record, with their number.

        Raises:
            Problem: as record().
        """
        if self.audit is not None and self.audit.is_full:
            raise Problem("dependency", "The audit log cannot be written.")
        self._counted[caller.tenant, caller.name, action, target] += 1

    async def _note_counts(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            await self._note_counted()

    async def _note_counted(self) -> None:
        counted, self._counted = self._counted, Counter()
        for names, count in counted.items():
            if self.audit is not None:
                with suppress(AuditError):  # the database is away for long; requests are refused by now
                    await self.audit.record(*names, count=count)

    # -- how the parts are -------------------------------------------------------------------------------

    def parts(self) -> dict[str, str]:
        """Return how each part is: "ok", or what is wrong with it, at most a second ago."""
        state = self.answering.breaker.state
        found = {"model": "ok" if state == "closed" else f"its breaker is {state}", **self._pinged}
        if self.audit is not None and (self.audit.error or self.audit.is_full):
            found["audit"] = "cannot be written"
        return found

    async def _watch(self) -> None:
        """Ask each part again and again; who asks for readiness waits for none of them."""
        begun_s = time.monotonic()
        while True:
            for name in self._pinged:
                ping = self._pings.get(name)
                self._pinged[name] = "ok" if ping and await _answers(ping) else "does not answer"
            is_late = time.monotonic() - begun_s > _START_S
            self.is_starting &= not is_late and any(text != "ok" for text in self._pinged.values())
            await asyncio.sleep(_AGAIN_S / 5 if self.is_starting else _AGAIN_S)

    async def _ping_redis(self) -> None:
        if error := await self.quotas.check():
            raise CourseError(error)


async def _answers(ping: Callable[[], Awaitable[None]]) -> bool:
    try:
        await asyncio.wait_for(ping(), _PING_S)
    except (CourseError, TimeoutError):
        return False
    return True


async def reached(opened: Callable[[], Awaitable[T]]) -> T:
    """Return a part, as soon as it is there."""
    while True:
        try:
            return await opened()
        except (StoreError, QueueUnavailable) as error:
            _log.warning("a part is not there yet: %s", error)  # no address or password is in it
        except Exception as error:  # border: whatever a client raises, nobody else would hear of it
            _log.warning("a part is not there yet: %s", type(error).__name__)
        await asyncio.sleep(_AGAIN_S)
