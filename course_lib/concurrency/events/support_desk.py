"""The support desk as a consumer of events: a ticket arrives, is sorted and answered, and a reply leaves.

Main path: desk = SupportDesk(tickets, replies, effects, large=..., small=...), then
Consumer(tickets, desk.answer).run().
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import dspy
from cachetools import TTLCache

from course_lib.concurrency.events.effects import Effects
from course_lib.concurrency.events.live_index import LiveIndex
from course_lib.concurrency.events.stream import Event, EventError, EventStream
from course_lib.desk import Answer, Triage

REFUSAL = (
    "More messages are waiting than we can answer at the moment, and yours has not been read. "
    "Please send it again in an hour."
)


@dataclass(eq=False)
class SupportDesk:
    """Answers each ticket as well as the backlog allows, and says in the reply how.

    | backlog of tickets | `how` |
    | --- | --- |
    | below `small_at` | "large model" |
    | from `small_at` | "earlier answer" to this question of this tenant, within the hour; or "small model" |
    | from `refuse_at` | "earlier answer"; or "refused": an honest text, and no model is asked |
    """

    tickets: EventStream
    replies: EventStream
    effects: Effects
    _: KW_ONLY
    large: dspy.LM
    small: dspy.LM
    index: LiveIndex | None = None
    """What is searched; without one, the help centre."""
    small_at: int = 20
    refuse_at: int = 100

    def __post_init__(self) -> None:
        self._triage, self._answer = Triage(), Answer()
        self._earlier: TTLCache[tuple[str, str], dict[str, Any]] = TTLCache(maxsize=10_000, ttl=3600)

    async def answer(self, event: Event) -> None:
        """Handle a "ticket" (`text` in its data): publish its reply, with an id made from the ticket's.

        A ticket that is delivered again gets the same reply again, and costs no call. Another kind of event,
        whose id may be a ticket's too, is refused.
        """
        if event.kind != "ticket":
            raise EventError(f"event {event.id!r} is no ticket: its kind is {event.kind!r}")
        text = event.data.get("text")
        if not isinstance(text, str) or not text.strip():
            raise EventError(f"ticket {event.id!r} has no text; its data needs a `text` that is not empty")
        reply = await self.effects.once(event, lambda: self._reply(event, text))
        await self.replies.publish(Event("reply", reply, event.tenant, f"{event.id}.reply"))

    async def _reply(self, event: Event, text: str) -> dict[str, Any]:
        question = (event.tenant, " ".join(text.casefold().split()))
        backlog = await self.tickets.backlog()
        if backlog >= self.small_at and (earlier := self._earlier.get(question)):
            return {**earlier, "ticket": event.id, "how": "earlier answer", "of": earlier["ticket"]}
        if backlog >= self.refuse_at:
            return {"ticket": event.id, "how": "refused", "answer": REFUSAL, "citations": []}
        if backlog >= self.small_at:
            return await self._ask(self.small, "small model", event, text)
        self._earlier[question] = reply = await self._ask(self.large, "large model", event, text)
        return reply

    async def _ask(self, model: dspy.LM, how: str, event: Event, text: str) -> dict[str, Any]:
        context = None
        if self.index is not None:
            context = [hit.article.chunk for hit in self.index.search(text, 3, tenant=event.tenant)]
        with dspy.context(lm=model):
            labels = await self._triage.acall(ticket=text)
            found = await self._answer.acall(question=text, context=context)
        return {"ticket": event.id, "how": how, **labels.toDict(), **found.toDict()}
