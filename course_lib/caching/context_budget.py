"""Fit retrieved texts into a token budget, by whole sentences, and say what was dropped.

Main path: AnswerWithin(600)(question=...) -> the desk's answer, and `fitted`: what fit(...) kept and dropped.
Tokens are counted as the course's endpoint bills them (course_lib.lm.tokens).
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import dspy

from course_lib import desk
from course_lib.desk.search import terms
from course_lib.errors import CourseError
from course_lib.lm import tokens

# After a full stop, or at the end of a line: rows of a table and items of a list stand alone.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(\[])|\n+")
_GAP = "[...]"


class BudgetError(CourseError):
    """The budget cannot hold what must not be cut."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Texts that fit."""

    context: list[str]
    """In the order given; shortened ones end with `[...]`."""
    dropped: dict[str, int]
    """First line of each text that lost something -> how many of its tokens were left out."""
    tokens: int
    """Of the context and the question together."""


def fit(context: Sequence[str], *, budget_tokens: int, question: str) -> Fitted:
    """Keep what fits, best text first; the question counts before everything and is never cut.

    A text that does not fit whole keeps its first line and those sentences that share most words with the
    question, in their own order.

    Raises:
        BudgetError: the question alone is over the budget.
    """
    left = budget_tokens - tokens.count(question)
    if left < 0:
        raise BudgetError(f"the question is never cut, and alone is {-left} tokens over the budget")
    kept: list[str] = []
    dropped: dict[str, int] = {}
    for text in context:
        size = tokens.count(text)
        part = text if size <= left else _shortened(text, left, question)
        left -= tokens.count(part)
        kept += [part] if part else []
        if part != text:
            dropped[text.partition("\n")[0]] = size - tokens.count(part)
    return Fitted(kept, dropped, budget_tokens - left)


def _shortened(text: str, room: int, question: str) -> str:
    """Return the first line and the best sentences of `text` within `room` tokens, or nothing."""
    wanted = set(terms(question))
    head, _, body = text.partition("\n")
    sentences = [part.strip() for part in _SENTENCE_END.split(body) if part.strip()]
    chosen: set[str] = set()
    best = ""
    for sentence in sorted(sentences, key=lambda sentence: -len(wanted & set(terms(sentence)))):
        tried = chosen | {sentence}
        candidate = "\n".join([head, *(each for each in sentences if each in tried), _GAP])
        if tokens.count(candidate) <= room:
            chosen, best = tried, candidate
    return best


class AnswerWithin(dspy.Module):
    """The desk's Answer on a budget: find `k` articles, fit them, answer; `fitted` says what was dropped."""

    def __init__(self, budget_tokens: int, *, k: int = 5) -> None:
        super().__init__()
        self.budget_tokens = budget_tokens
        self.find = desk.FindArticles(k)
        self.answer = desk.Answer()

    def forward(self, question: str) -> dspy.Prediction:
        """Answer one question."""
        found = self.find(question=question)
        fitted = fit(found.context, budget_tokens=self.budget_tokens, question=question)
        prediction = self.answer(question=question, context=fitted.context)
        prediction.fitted = fitted
        return prediction
