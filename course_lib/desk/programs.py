"""The support desk as DSPy programs: sort a ticket, find articles, answer with citations.

Main path: Triage()(ticket=...), FindArticles(k=3)(question=...), Answer()(question=...), or .acall.
Source: dspy.Module, dspy.Predict, dspy.Signature (DSPy 3.4.1). The instructions are short on purpose and
describe no label, so that demos, better instructions and optimizers have something to gain.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

from typing import Any

import dspy

from course_lib.desk import records
from course_lib.desk.search import search_articles


class SortTicket(dspy.Signature):
    """Sort a support ticket of Lantern, a shop for camping gear."""

    ticket: str = dspy.InputField()
    category: records.Category = dspy.OutputField()
    urgency: records.Urgency = dspy.OutputField()


class AnswerFromArticles(dspy.Signature):
    """Answer a customer's question from the help articles in the context, and from nothing else.

    Cite the articles used. If they do not answer the question, say that you do not know.
    """

    context: list[str] = dspy.InputField(desc="help articles, each beginning with its id in brackets")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    citations: list[str] = dspy.OutputField(desc="ids of the articles that the answer comes from")


class Triage(dspy.Module):
    """Sort a ticket: `ticket` -> `category`, `urgency`. One LM call."""

    def __init__(self) -> None:
        super().__init__()
        self.sort = dspy.Predict(SortTicket)

    def forward(self, ticket: str) -> dspy.Prediction:
        """Sort one ticket."""
        return self.sort(ticket=ticket)

    async def aforward(self, ticket: str) -> dspy.Prediction:
        """Sort one ticket without blocking the event loop."""
        return await self.sort.acall(ticket=ticket)


class FindArticles(dspy.Module):
    """Find help articles: `question` -> `articles` (ids) and `context` (texts), best first. No LM call."""

    def __init__(self, k: int = 3) -> None:
        super().__init__()
        self.k = k

    def forward(self, question: str) -> dspy.Prediction:
        """Find the `k` articles that fit best; fewer, or none, if no more share a word with the question."""
        pages = [hit.article for hit in search_articles(question, self.k)]
        return dspy.Prediction(articles=[page.id for page in pages], context=[page.chunk for page in pages])

    async def aforward(self, question: str) -> dspy.Prediction:
        """Do the same on the event loop; searching 31 articles takes well under a millisecond."""
        return FindArticles.forward(self, question)


class Answer(dspy.Module):
    """Answer from the help centre: `question` -> `answer`, `citations` (ids). One LM call.

    With `context` (texts as of `Article.chunk`) it answers from that instead of searching.
    """

    def __init__(self, k: int = 3) -> None:
        super().__init__()
        self.find = FindArticles(k)
        self.reply = dspy.Predict(AnswerFromArticles)

    def forward(self, question: str, context: list[str] | None = None) -> dspy.Prediction:
        """Answer one question."""
        if context is None:
            context = self.find(question=question).context
        return self.reply(context=context, question=question)

    async def aforward(self, question: str, context: list[str] | None = None) -> dspy.Prediction:
        """Answer one question without blocking the event loop."""
        if context is None:
            context = (await self.find.acall(question=question)).context
        return await self.reply.acall(context=context, question=question)


def examples(split: records.Split) -> list[dspy.Example]:
    """Return a split's tickets as examples: input `ticket`, two labels, `article` and `id` beside them."""
    kept = ("category", "urgency", "article", "id")
    return [
        dspy.Example(ticket=one.text, **{name: getattr(one, name) for name in kept}).with_inputs("ticket")
        for one in records.tickets(split)
    ]


def category_match(example: dspy.Example, pred: dspy.Prediction, trace: Any = None) -> bool:  # noqa: ARG001
    """Return whether the category is right: a metric for `Evaluate` and the optimizers."""
    return bool(example.category == pred.category)
