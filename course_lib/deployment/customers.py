"""What is held about one customer, wherever that is: exported as JSON, or erased.

Main path: await customers.erase(tenant, customer, actor=...) -> caches, so that no answer under way is kept,
then the database's rows, each Place, and the pseudonym itself -> Erasure, which says what went from where.
The audit log has it under the pseudonym.

An erasure that is cut off, or finds a place away, is not lost: the pseudonym stays marked, and asking again,
or `resume()`, goes on.

The queue holds ids of jobs alone, and the jobs' rows are emptied, so erasing the rows erases the queue. A
trace viewer, to which spans are sent, has no word for erasing: it has the pseudonym and no content, as long
as the Tracer's `content` is off, and what a forgotten pseudonym did is about nobody.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

from course_lib.deployment.audit import Audit
from course_lib.deployment.database import checked_name
from course_lib.deployment.store import Store
from course_lib.files import lock_folder, locked
from course_lib.resilience import Bulkhead

T = TypeVar("T")
Record = dict[str, Any]
Group = Callable[[Iterable[Record]], Callable[[Record], object]]

MOST_WAITING = 3
"""So many exports and erasures may wait for the one that is being done; the next are refused."""
_TRACE = re.compile(rb'"trace_id": *"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Person:
    """Whom it is about."""

    tenant: str
    customer: str
    subjects: tuple[str, ...]
    """Pseudonyms, under which logs, traces and recordings have this customer."""


class Place(Protocol):
    """Somewhere that may hold something about a customer, beside the database."""

    name: str

    async def export(self, person: Person) -> list[Any]:
        """Return what is there, as JSON values."""

    async def erase(self, person: Person) -> int:
        """Erase what is there and return how many things that were; doing it again is no error."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure did."""

    subject: str
    """The pseudonym under which the audit log has it; empty if nothing was known of the customer."""
    erased: dict[str, int]
    """Place by place, how many things went; the database's are rows."""
    failed: dict[str, str]
    """Places that could not be reached, with the error's class: ask again."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left."""
        return not self.failed


class Customers:
    """Exports and erases customers over the database and all other places.

    One at a time: each reads whole files. Each call raises StoreUnavailable while the database is away, or
    the audit log cannot be written, and BulkheadFull while MOST_WAITING wait already.
    """

    def __init__(self, store: Store, audit: Audit, places: Sequence[Place] = ()) -> None:
        self._store, self._audit, self._places = store, audit, places
        self._turn = Bulkhead("exports and erasures", limit=1, waiting=MOST_WAITING)

    async def export(self, tenant: str, customer: str, *, actor: str) -> Record:
        """Return all that is held about a customer, place by place."""
        checked_name("customer", customer)
        async with self._turn:
            subjects = await self._store.subjects(tenant, customer)
            person = Person(tenant, customer, tuple(subjects))
            await self._audit.record(tenant, actor, "privacy.export", _shown(subjects))
            held: Record = {"customer": customer, "database": await self._store.held(tenant, customer)}
            return held | {place.name: await place.export(person) for place in self._places}

    async def erase(self, tenant: str, customer: str, *, actor: str, resumes: bool = False) -> Erasure:
        """Erase all that is held about a customer; what fails at one place hinders no other.

        With `resumes`, only what an erasure that was cut off has left.
        """
        checked_name("customer", customer)
        async with self._turn:
            return await self._erase(tenant, customer, actor, resumes=resumes)

    async def _erase(self, tenant: str, customer: str, actor: str, *, resumes: bool) -> Erasure:
        known = await self._store.subjects(tenant, customer)
        await self._audit.record(tenant, actor, "privacy.erase", _shown(known))
        erased, failed = dict[str, int](), dict[str, str]()

        async def erase_from(places: Iterable[Place], subjects: Sequence[str]) -> None:
            for place in places:
                try:
                    count = await place.erase(Person(tenant, customer, tuple(subjects)))
                    erased[place.name] = erased.get(place.name, 0) + count
                except Exception as error:  # border: a place is somebody else's
                    failed[place.name] = type(error).__name__

        await erase_from((place for place in self._places if isinstance(place, Cache)), known)
        subjects, erased["database"] = await self._store.begin_erasure(tenant, customer, resumes=resumes)
        await erase_from(self._places, subjects)
        if not failed:
            await self._store.finish_erasure(tenant, subjects)
        outcome = "privacy.erase_incomplete" if failed else "privacy.erased"
        await self._audit.record(tenant, actor, outcome, _shown(subjects), **erased)
        return Erasure(subjects[0] if subjects else "", erased, failed)

    async def resume(self) -> list[Erasure]:
        """Go on with every erasure that was cut off or found a place away; call it at the start, and daily.

        What such a customer has asked since then is not erased.
        """
        unfinished = await self._store.unfinished_erasures()
        return [await self.erase(*who, actor="service", resumes=True) for who in unfinished]


class Cache:
    """Answers in memory and Redis, which a function erases: `Answering.forget`."""

    name = "cache"

    def __init__(self, forget: Callable[[str, str], Awaitable[int]]) -> None:
        self._forget = forget

    async def export(self, _: Person) -> list[Any]:
        """Return nothing: what is cached is in the database too, or will be."""
        return []

    async def erase(self, person: Person) -> int:
        """Drop the customer's answers."""
        names = (person.customer, *person.subjects)  # a worker knows the pseudonym alone
        return sum([await self._forget(person.tenant, name) for name in names])


class Lines:
    """Files of JSON lines: logs, spans, recordings.

    A line is about a customer if it has the pseudonym in it, or the tenant and the customer as fields; and so
    are the other lines of its group: with `group=by_request`, every span of a request. A thread of its own
    reads the files, and parses no line in which none of these words is.

    What is written meanwhile by `files.appending`, as the Tracer does, is kept. Another writer has to look
    whether its file was replaced, as `logging.handlers.WatchedFileHandler` does, and may lose a line in the
    moment when it is.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        pattern: str = "*.jsonl",
        *,
        group: Group | None = None,
        when: str = "@timestamp",
    ) -> None:
        """Name the place and its files, with those that were rotated: `service.log*`.

        `group` takes all lines of some traces, by their `trace_id`, and returns what says of a line what it
        has in common with the others of its request; None if nothing. The field `when` has the time of a
        line, in UTC as ISO 8601 writes it.
        """
        self.name, self._folder, self._pattern, self._group = name, folder, pattern, group
        self._when = when
        self._thread = ThreadPoolExecutor(1, name)  # asyncio's own threads are for answers

    async def export(self, person: Person) -> list[Any]:
        """Return the lines about a customer."""

        def found() -> list[Any]:
            is_theirs = self._chooser(person)
            return [_record(line) for line in self._lines() if is_theirs(line)]

        return await self._locked(found, [])

    async def erase(self, person: Person) -> int:
        """Replace each file that has such lines by one without: it is the old or the new one, never half."""
        return await self._locked(lambda: self._drop(self._chooser(person)), 0)

    async def drop_before(self, moment: datetime) -> int:
        """Drop the lines of before a moment, and return how many they were."""
        before = moment.astimezone(UTC).isoformat()
        is_old = lambda line: str(_record(line).get(self._when, before)) < before  # noqa: E731
        return await self._locked(lambda: self._drop(is_old), 0)

    async def _locked(self, work: Callable[[], T], nothing: T) -> T:
        """Return what a thread makes of the files, which no other process changes meanwhile."""

        def done() -> T:
            if not self._folder.is_dir():
                return nothing
            with lock_folder(self._folder):
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._thread, done)

    def _drop(self, is_one: Callable[[bytes], bool]) -> int:
        return sum(_rewrite(path, is_one) for path in self._paths() if any(map(is_one, _lines(path))))

    def _paths(self) -> list[Path]:
        found = self._folder.glob(self._pattern)
        return sorted(path for path in found if path.is_file() and not path.name.startswith("."))

    def _lines(self) -> Iterator[bytes]:
        return chain.from_iterable(map(_lines, self._paths()))

    def _chooser(self, person: Person) -> Callable[[bytes], bool]:
        """Return what tells whether a line is about the person, alone or by its group."""
        marks = tuple(subject.encode() for subject in person.subjects)  # of one length: none begins another
        fields = (person.tenant, person.customer)
        quoted = tuple(f'"{name}"'.encode() for name in fields)  # no letter of a name is written otherwise

        def names(line: bytes) -> bool:
            if any(mark in line for mark in marks):
                return True
            record = _record(line) if all(name in line for name in quoted) else {}
            return (record.get("tenant"), record.get("customer")) == fields

        if self._group is None:
            return names
        traces = {trace for line in self._lines() if names(line) for trace in _TRACE.findall(line)}
        if not traces:
            return names

        def is_near(line: bytes) -> bool:
            return not traces.isdisjoint(_TRACE.findall(line))

        group_of = self._group(_record(line) for line in self._lines() if is_near(line))
        groups = {group_of(_record(line)) for line in self._lines() if is_near(line) and names(line)} - {None}
        return lambda line: names(line) or (is_near(line) and group_of(_record(line)) in groups)


def by_request(spans: Iterable[Record]) -> Callable[[Record], object]:
    """Return what says of a span under which request it is, as `debugging.Tracer` writes spans to a file.

    Not the trace: its id, and the parent of a request, are the caller's choice, and another may choose them.
    """
    above = {(trace, span): parent for trace, span, parent in map(_place, spans)}

    def request_of(record: Record) -> object:
        trace, span, parent = _place(record)
        for _ in range(len(above) + 1):  # whoever wrote a ring into the file holds up nobody
            if parent is None:
                break
            span, parent = parent, above.get((trace, parent))
        return (trace, span) if span else None

    return request_of


def _place(span: Record) -> tuple[str, str, str | None]:
    """Return the ids of a span's trace, of itself and of its parent here; a request has none here."""
    ids, is_request = span.get("context"), span.get("kind") in ("SpanKind.SERVER", "SpanKind.CONSUMER")
    trace, own = (
        (str(ids.get(name, "")) for name in ("trace_id", "span_id")) if isinstance(ids, dict) else ("", "")
    )
    return trace, own, None if is_request else span.get("parent_id")


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _record(line: bytes) -> Record:
    """Return the fields of a line; none of one that is torn, or no JSON."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _rewrite(path: Path, is_theirs: Callable[[bytes], bool]) -> int:
    """Replace a file by one without these lines, and return how many they were.

    What is appended meanwhile is taken over, also to the old file when it is just replaced.
    """
    scratch, erased = path.with_name(f".{path.name}.erasing"), 0
    scratch.unlink(missing_ok=True)  # of an erasure that was cut off
    with path.open("rb") as old, scratch.open("ab") as new, locked(old.fileno()):
        scratch.chmod(path.stat().st_mode & 0o777)
        for is_replaced in (False, True):
            for line in old:
                theirs = is_theirs(line)
                erased += theirs
                new.write(b"" if theirs else line)
            new.flush()
            os.fsync(new.fileno())
            if not is_replaced:
                scratch.replace(path)
    return erased


def _shown(subjects: Sequence[str]) -> str:
    return subjects[0] if subjects else "unknown"
