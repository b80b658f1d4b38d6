"""What a process of the service writes to files: a line for each request, and spans; of whom, by pseudonym.

Main path: Guard -> put(), which appends a tuple -> twice a second write() -> requests.jsonl, in fields of
the Elastic Common Schema; the Tracer writes spans.jsonl. All processes of a folder append to these two
files; one that is full is renamed, over the one before.

No question, answer or customer's id is in them, and no path but its route's; what a request's id says is its
caller's choice. The service records no calls of models, so there are no recordings.

A pseudonym that was forgotten while its request was under way, here or in another process, is found after
it was written, and its lines are erased then: it is in a file for a second at most after the request's end.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from cachetools import LRUCache

from course_lib.debugging import Tracer
from course_lib.debugging.spans import Span
from course_lib.deployment.config import DeploymentConfig
from course_lib.deployment.customers import Lines, Person, by_request
from course_lib.deployment.database import StoreError, ended
from course_lib.deployment.store import Store
from course_lib.files import append_lines, appending, lock_folder

MOST_BYTES = 32 * 1024 * 1024
"""Of a file, of which there are two of each kind at most; a write may go beyond."""
_EVERY_S, _LOOK_UP_S, _CLOSE_S = 0.5, 1.0, 1.0
_MOST_WAITING, _KNOWN, _KEPT_SPANS = 50_000, 2_048, 32
_PROCESS, _numbers = secrets.token_hex(8), itertools.count()
_log = logging.getLogger("course_lib.deployment")


class Ended(NamedTuple):
    """A request that was answered."""

    at_s: float
    """When it ended, since 1970."""
    took_s: float
    request_id: str
    method: str
    route: str
    status: int
    tenant: str
    subject: str | None
    trace_id: int | None
    """Also of a trace whose spans are not kept: others may have kept theirs. Memory's answers have none."""


class Records:
    """The log and the spans of one process; nothing of either is written when the settings name no folder."""

    def __init__(self, config: DeploymentConfig) -> None:
        self.folder = folder = config.records_folder
        self.tracer = Tracer(
            file=folder / "spans.jsonl" if folder else None,
            collector=config.otlp_endpoint,
            content=config.trace_content,
            kept=_KEPT_SPANS,
            service="desk",
            share=config.trace_share,
            obeys=False,
        )
        self.places: list[Lines] = []
        """Where export and erasure find a customer."""
        if folder:
            self.places = [
                Lines("logs", folder, "requests.jsonl*", when="@timestamp"),
                Lines("traces", folder, "spans.jsonl*", group=by_request, when="end_time"),
            ]
        self._waiting: deque[Ended] = deque(maxlen=_MOST_WAITING)
        self._subjects: LRUCache[tuple[str, str], str] = LRUCache(_KNOWN)
        self._unchecked: set[str] = set()
        self._writing = asyncio.Lock()

    def put(self, ended: Ended) -> None:
        """Let a request's line be written soon."""
        self._waiting.append(ended)

    def check(self, subject: str | None) -> None:
        """Look soon whether somebody about whom spans were written was erased meanwhile."""
        if subject:
            self._unchecked.add(subject)

    async def subject(self, store: Store, tenant: str, customer: str) -> str | None:
        """Return a customer's pseudonym; None if it takes too long."""
        if (found := self._subjects.get((tenant, customer))) is None:
            try:
                found = await asyncio.wait_for(store.subject(tenant, customer), _LOOK_UP_S)
            except (StoreError, TimeoutError):  # a request is answered without the database too
                return None
            self._subjects[tenant, customer] = found
        return found

    def mark(self, subject: str | None) -> None:
        """Say of the span that is open, if one is, whom it is about."""
        call = self.tracer.current() if subject else None
        if call is not None and isinstance(call.data, Span):
            call.data.set_attribute("user.id", subject)

    @asynccontextmanager
    async def running(self, store: Callable[[], Store | None]) -> AsyncIterator[None]:
        """Write again and again until the block ends, with the store that there is by then."""

        async def run() -> None:
            while True:
                await asyncio.sleep(_EVERY_S)
                await self.write(store())

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            await ended(task)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.write(store()), _CLOSE_S)
            await asyncio.to_thread(self.tracer.close)

    async def write(self, store: Store | None) -> None:
        """Write what waits; then erase what is about somebody who was erased meanwhile."""
        if not self.folder:
            return
        async with self._writing:
            waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
            subjects = self._unchecked | {each.subject for each in waiting if each.subject}
            self._unchecked = set()
            try:
                await asyncio.to_thread(self._append, waiting)
                gone = subjects - await store.living(subjects) if store and subjects else set()
                for known in [key for key, subject in self._subjects.items() if subject in gone]:
                    del self._subjects[known]
                for place in self.places if gone else ():
                    await place.erase(Person("", "", tuple(gone)))
            except asyncio.CancelledError:
                self._unchecked |= subjects
                raise
            except Exception as error:  # border: a full disk, a database that is away
                self._unchecked |= subjects
                _log.warning("the log of requests is not whole: %s", type(error).__name__)

    def _append(self, waiting: list[Ended]) -> None:
        assert self.folder
        self.tracer.flush(file_alone=True)
        if waiting:
            append_lines(self.folder / "requests.jsonl", "".join(map(_line, waiting)))
        for path in (self.folder / "requests.jsonl", self.folder / "spans.jsonl"):
            if path.exists() and path.stat().st_size > MOST_BYTES:
                with lock_folder(self.folder), appending(path) as file:  # no erasure is between the two
                    if os.fstat(file.fileno()).st_size > MOST_BYTES:  # no other process was first
                        path.replace(path.with_name(f"{path.name}.1"))


def _line(ended: Ended) -> str:
    fields: dict[str, Any] = {
        "@timestamp": datetime.fromtimestamp(ended.at_s, UTC).isoformat(timespec="milliseconds"),
        "ecs.version": "8.17.0",
        "event.dataset": "desk.requests",
        "event.duration": round(ended.took_s * 1e9),  # nanoseconds
        "event.id": f"{_PROCESS}-{next(_numbers):x}",
        "http.request.id": ended.request_id,
        "http.request.method": ended.method,
        "http.response.status_code": ended.status,
        "log.level": "error" if ended.status >= 500 else "info",
        "message": f"{ended.method} {ended.route} {ended.status}",
        "organization.id": ended.tenant,
        "process.pid": os.getpid(),
        "service.name": "desk",
        "url.path": ended.route,
    }
    fields |= {"trace.id": f"{ended.trace_id:032x}"} if ended.trace_id else {}
    fields |= {"user.id": ended.subject} if ended.subject else {}
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE).decode()
