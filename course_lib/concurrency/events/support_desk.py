"""The support desk as a consumer of events: a ticket arrives, is sorted and answered, and a reply leaves.

Main path: desk = SupportDesk(tickets, replies, effects, large=..., small=...), then
Consumer(tickets, desk.answer).run().
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import dspy

from course_lib.concurrency.events.effects import Effects
from course_lib.concurrency.events.live_index import LiveIndex
from course_lib.concurrency.events.stream import Event, EventError, EventStream
from course_lib.desk import Answer, Triage

REFUSAL = (
    "More messages are waiting than we can answer at the moment, and yours has not been read. "
    "Please send it again in an hour."
)
_TABLE = """
create table if not exists answers (
    tenant text not null, question text not null, reply text not null, primary key (tenant, question)
)
"""


class SupportDesk:
    """Answers each ticket as well as the backlog allows, and says in the reply how.

    | backlog of tickets | `how` |
    | --- | --- |
    | below `small_at` | "large model" |
    | from `small_at` | "earlier answer" to the same question of this tenant, else "small model" |
    | from `refuse_at` | "earlier answer", else "refused": an honest text, and no model is asked |
    """

    def __init__(
        self,
        tickets: EventStream,
        replies: EventStream,
        effects: Effects,
        *,
        large: dspy.LM,
        small: dspy.LM,
        index: LiveIndex | None = None,
        small_at: int = 20,
        refuse_at: int = 100,
    ) -> None:
        """Say where tickets come from and replies go; without `index`, the help centre is searched."""
        self._tickets, self._replies, self._effects, self._index = tickets, replies, effects, index
        self._large, self._small, self._small_at, self._refuse_at = large, small, small_at, refuse_at
        self._triage, self._answer = Triage(), Answer()
        effects.create(_TABLE)

    async def answer(self, event: Event) -> None:
        """Handle a ticket (its `text` in the event's data): publish its reply.

        A ticket that is delivered again gets the same reply, also under the same id, and costs no call.
        """
        text = event.data.get("text")
        if not isinstance(text, str) or not text.strip():
            raise EventError(f"ticket {event.id!r} has no text; its data needs a `text` that is not empty")

        def remember(connection: sqlite3.Connection, reply: dict[str, Any]) -> None:
            if reply["how"] == "large model":
                row = (event.tenant, _question(text), json.dumps(reply))
                connection.execute("insert or replace into answers values (?, ?, ?)", row)

        reply = await self._effects.once(event, lambda: self._reply(event, text), remember)
        await self._replies.publish(Event("reply", reply, event.tenant, f"{event.id}.reply"))

    async def _reply(self, event: Event, text: str) -> dict[str, Any]:
        backlog = await self._tickets.backlog()
        if backlog >= self._small_at and (earlier := await self._earlier(event.tenant, text)):
            return {**earlier, "ticket": event.id, "how": "earlier answer", "of": earlier["ticket"]}
        if backlog >= self._refuse_at:
            return {"ticket": event.id, "how": "refused", "answer": REFUSAL, "citations": []}
        is_small = backlog >= self._small_at
        with dspy.context(lm=self._small if is_small else self._large):
            labels = await self._triage.acall(ticket=text)
            found = await self._answer.acall(question=text, context=self._context(event.tenant, text))
        how = "small model" if is_small else "large model"
        return {"ticket": event.id, "how": how, **labels.toDict(), **found.toDict()}

    def _context(self, tenant: str, text: str) -> list[str] | None:
        if self._index is None:
            return None
        return [hit.article.chunk for hit in self._index.search(text, 3, tenant=tenant)]

    async def _earlier(self, tenant: str, text: str) -> dict[str, Any] | None:
        """Return the last full answer to the same question, apart from case and spaces."""
        query = "select reply from answers where tenant = ? and question = ?"
        row = await self._effects.transact(
            lambda connection: connection.execute(query, (tenant, _question(text))).fetchone()
        )
        return dict(json.loads(row[0])) if row else None


def _question(text: str) -> str:
    return " ".join(text.casefold().split())
