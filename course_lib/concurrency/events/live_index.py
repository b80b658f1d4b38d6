"""Help articles that are ingested while questions are answered.

Main path: Consumer(documents, index.ingest) in one task, index.search(question) in any other.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency.events.effects import Effects
from course_lib.concurrency.events.stream import Event, EventError
from course_lib.desk import Index
from course_lib.desk.help_centre import Article
from course_lib.desk.search import Hit

_TABLE = """
create table if not exists documents (
    tenant text not null, id text not null, updated text not null, document text not null,
    primary key (tenant, id)
)
"""
_KEEP_NEWEST = """
insert into documents values (?, ?, ?, ?) on conflict do update
set updated = excluded.updated, document = excluded.document where excluded.updated >= updated
"""
_ARTICLE = TypeAdapter(Article)
_EMPTY = Index([])


class LiveIndex:
    """An index for each tenant, replaced as a whole: a search never waits, and sees no half of a change.

    The documents are in the file of `effects`; await refresh() to find those of a former process.
    """

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        effects.create(_TABLE)
        self._indexes: dict[str, Index] = {}
        self._building = asyncio.Lock()
        self._arrived = self._built = 0

    def search(self, question: str, k: int | None = None, *, tenant: str = "") -> list[Hit]:
        """Return a tenant's `k` best documents, best first, of those that are ingested by now."""
        return self._indexes.get(tenant, _EMPTY).search(question, k)

    async def ingest(self, event: Event) -> None:
        """Take a document (the fields of an Article); when this returns, it is stored and can be found.

        An older version that arrives after a newer one changes nothing.
        """
        try:
            article = _ARTICLE.validate_python(event.data)
        except ValidationError as error:
            problems = "; ".join(f"{one['loc'][0]}: {one['msg']}" for one in error.errors())
            raise EventError(f"event {event.id!r} is no document: {problems}") from None
        row = (event.tenant, article.id, article.updated.isoformat(), _ARTICLE.dump_json(article).decode())

        async def work() -> str:
            return article.id

        await self._effects.once(event, work, lambda connection, _: connection.execute(_KEEP_NEWEST, row))
        await self.refresh()

    async def refresh(self) -> None:
        """Make all that is stored by now searchable, also by other processes and former ones.

        Whoever comes while an index is built waits for the next, which serves all that wait.
        """
        self._arrived += 1
        mine = self._arrived
        async with self._building:
            if self._built >= mine:
                return
            upcoming = self._arrived
            rows = await self._effects.transact(
                lambda connection: connection.execute("select tenant, document from documents").fetchall()
            )
            self._indexes = await asyncio.to_thread(_indexes, rows)
            self._built = upcoming


def _indexes(rows: list[tuple[str, str]]) -> dict[str, Index]:
    pages = defaultdict(list)
    for tenant, document in rows:
        pages[tenant].append(_ARTICLE.validate_json(document))
    return {tenant: Index(articles) for tenant, articles in pages.items()}
