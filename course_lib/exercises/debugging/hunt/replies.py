# mypy: allow-subclassing-any
"""Replies: what the help centre says, for the shop's chat."""

from __future__ import annotations

import dspy

from course_lib import desk


class Reply(dspy.Signature):
    """Answer a customer's question from the help articles in the context, and from nothing else."""

    context: list[str] = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Replies(dspy.Module):
    """Answer a question: `question` -> `answer`, everything that the model has to say, to its last word."""

    def __init__(self, k: int = 3) -> None:
        super().__init__()
        self.find = desk.FindArticles(k)
        self.reply = dspy.Predict(Reply, max_tokens=32)

    def forward(self, question: str) -> dspy.Prediction:
        """Answer one question."""
        context = self.find(question=question).context
        return self.reply(context=context, question=question)
