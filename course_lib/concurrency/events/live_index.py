"""Help articles that are ingested while questions are answered.

Main path: Consumer(documents, index.ingest) in one task, index.search(question) in any other.
"""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass, field
from functools import partial

from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency.events.effects import Effects
from course_lib.concurrency.events.stream import Event, EventError
from course_lib.desk import Index
from course_lib.desk.help_centre import Article
from course_lib.desk.search import Hit

_ARTICLE = TypeAdapter(Article)
_EMPTY = Index([])
_TABLE = "create table if not exists live_index (tenant, id, updated, article, primary key (tenant, id))"
_KEEP = """
insert into live_index values (?, ?, ?, ?)
on conflict do update set updated = excluded.updated, article = excluded.article
where excluded.updated > live_index.updated
"""
_TENANTS, _QUERY = "select distinct tenant from live_index", "select article from live_index where tenant = ?"


@dataclass(slots=True)
class _OfTenant:
    index: Index = _EMPTY
    building: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0
    built: int = 0


class LiveIndex:
    """An index for each tenant, replaced as a whole: a search never waits, and sees no half of a change.

    The documents are kept beside the `effects`; await refresh() to find those of another process, or a former
    one.
    """

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._of: dict[str, _OfTenant] = {}

    def search(self, question: str, k: int | None = None, *, tenant: str = "") -> list[Hit]:
        """Return a tenant's `k` best documents, best first, of those that are ingested by now."""
        return (self._of[tenant].index if tenant in self._of else _EMPTY).search(question, k)

    async def ingest(self, event: Event) -> None:
        """Take an event "document" (the fields of an Article); then it is kept, and can be found.

        An older version that arrives after a newer one changes nothing. Another kind of event is refused.
        """
        if event.kind != "document":
            raise EventError(f"event {event.id!r} is no document: its kind is {event.kind!r}")
        try:
            article = _ARTICLE.validate_python(event.data)
        except ValidationError as error:
            problem = error.errors()[0]
            raise EventError(
                f"event {event.id!r} is no document: {problem['loc']}: {problem['msg']}"
            ) from None

        def write(connection: sqlite3.Connection, _: None) -> None:
            connection.execute(_TABLE)
            text = _ARTICLE.dump_json(article).decode()
            connection.execute(_KEEP, (event.tenant, article.id, article.updated.isoformat(), text))

        await self._effects.once(event, lambda: asyncio.sleep(0), write)
        await self._refresh(event.tenant)

    async def refresh(self) -> None:
        """Let all that is kept by now be found."""
        for (tenant,) in await self._effects.transact(partial(_rows, query=_TENANTS)):
            await self._refresh(tenant)

    async def _refresh(self, tenant: str) -> None:
        """Build one tenant's index anew; those that wait for one build share the next."""
        of = self._of.setdefault(tenant, _OfTenant())
        of.wanted += 1
        mine = of.wanted
        async with of.building:
            if of.built < mine:
                upcoming = of.wanted
                rows = await self._effects.transact(partial(_rows, query=_QUERY, tenants=(tenant,)))
                of.index = await asyncio.to_thread(_index, rows)
                of.built = upcoming


def _rows(connection: sqlite3.Connection, query: str, tenants: tuple[str, ...] = ()) -> list[tuple[str]]:
    connection.execute(_TABLE)
    return connection.execute(query, tenants).fetchall()


def _index(rows: list[tuple[str]]) -> Index:
    return Index(_ARTICLE.validate_json(text) for (text,) in rows)
