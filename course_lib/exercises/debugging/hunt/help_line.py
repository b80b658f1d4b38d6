# mypy: allow-subclassing-any
"""The help line: a cheap model answers most questions, a better one the rest."""

from __future__ import annotations

import dspy

from course_lib import desk


class HelpLine(dspy.Module):
    """Answer a question from the help centre: `question` -> `answer`, `citations`.

    The small model is asked first. An answer of it that cites one of the articles that were found goes to the
    customer; for any other, the large model is asked, and its answer goes out.
    """

    def __init__(self, small: dspy.LM, large: dspy.LM, k: int = 3) -> None:
        super().__init__()
        self.small, self.large = small, large
        self.find, self.answer = desk.FindArticles(k), desk.Answer(k)

    def forward(self, question: str) -> dspy.Prediction:
        """Answer one question."""
        found = self.find(question=question)
        with dspy.context(lm=self.small):
            reply = self.answer(question=question, context=found.context)
        if any(cited in found.context for cited in reply.citations):
            return reply
        with dspy.context(lm=self.large):
            return self.answer(question=question, context=found.context)
