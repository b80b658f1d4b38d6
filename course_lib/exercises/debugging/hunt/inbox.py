# mypy: allow-subclassing-any
"""The inbox: each ticket gets an answer that greets its customer."""

from __future__ import annotations

from functools import cache

import dspy

from course_lib import desk


@cache
def _names() -> dict[str, str]:
    return {customer.id: customer.name for customer in desk.customers()}


class Inbox(dspy.Module):
    """Answer a ticket: `customer_id`, `ticket` -> `category`, `reply`, which begins "Dear NAME,".

    One object serves all customers, many of them at once: `await inbox.acall(customer_id=..., ticket=...)`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.triage, self.answer = desk.Triage(), desk.Answer()

    def greeting(self) -> str:
        """Return how the customer is greeted."""
        return f"Dear {_names()[self.customer_id]},"

    async def aforward(self, customer_id: str, ticket: str) -> dspy.Prediction:
        """Answer one ticket."""
        self.customer_id = customer_id
        category = (await self.triage.acall(ticket=ticket)).category
        answer = (await self.answer.acall(question=ticket)).answer
        return dspy.Prediction(category=category, reply=f"{self.greeting()}\n\n{answer}")
