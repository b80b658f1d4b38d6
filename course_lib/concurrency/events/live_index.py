"""Help articles that are ingested while questions are answered.

Main path: Consumer(documents, index.ingest) in one task, index.search(question) in any other.
"""

from __future__ import annotations

import asyncio

from pydantic import TypeAdapter, ValidationError

from course_lib.concurrency.events.effects import Effects
from course_lib.concurrency.events.stream import Event, EventError
from course_lib.desk import Index
from course_lib.desk.help_centre import Article
from course_lib.desk.search import Hit

_ARTICLE = TypeAdapter(Article)
_EMPTY = Index([])
_QUERY = "select tenant, result from effects where kind = 'document'"


class LiveIndex:
    """An index for each tenant, replaced as a whole: a search never waits, and sees no half of a change.

    The documents are kept in `effects`; await refresh() to find those of another process, or a former one.
    """

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._indexes: dict[str, Index] = {}
        self._building = asyncio.Lock()
        self._wanted = self._built = 0

    def search(self, question: str, k: int | None = None, *, tenant: str = "") -> list[Hit]:
        """Return a tenant's `k` best documents, best first, of those that are ingested by now."""
        return self._indexes.get(tenant, _EMPTY).search(question, k)

    async def ingest(self, event: Event) -> None:
        """Take an event "document" (the fields of an Article); then it is kept, and can be found.

        An older version that arrives after a newer one changes nothing.
        """
        try:
            article = _ARTICLE.validate_python(event.data)
        except ValidationError as error:
            problem = error.errors()[0]
            raise EventError(
                f"event {event.id!r} is no document: {problem['loc']}: {problem['msg']}"
            ) from None

        async def work() -> object:
            return _ARTICLE.dump_python(article, mode="json")

        await self._effects.once(event, work)
        await self.refresh()

    async def refresh(self) -> None:
        """Let all that is kept by now be found; those that wait for one build share the next."""
        self._wanted += 1
        mine = self._wanted
        async with self._building:
            if self._built < mine:
                upcoming = self._wanted
                rows = await self._effects.transact(lambda connection: connection.execute(_QUERY).fetchall())
                self._indexes = await asyncio.to_thread(_indexes, rows)
                self._built = upcoming


def _indexes(rows: list[tuple[str, str]]) -> dict[str, Index]:
    newest: dict[str, dict[str, Article]] = {}
    for tenant, text in rows:
        article = _ARTICLE.validate_json(text)
        known = newest.setdefault(tenant, {}).setdefault(article.id, article)
        if article.updated > known.updated:
            newest[tenant][article.id] = article
    return {tenant: Index(articles.values()) for tenant, articles in newest.items()}
