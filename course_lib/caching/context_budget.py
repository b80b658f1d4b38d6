"""Fit retrieved texts or a conversation into a token budget, by whole sentences, and say what was dropped.

Main path: fit(texts, budget_tokens=600, question=...) -> Fitted(context, dropped, ...); AnswerWithin(600).
Tokens are counted as the course's endpoint bills them (course_lib.lm.tokens); or give another `count`.
Source: dspy.History and dspy.Module (DSPy 3.4.1).
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dspy

from course_lib import desk
from course_lib.desk.search import terms
from course_lib.errors import CourseError
from course_lib.lm import tokens

Count = Callable[[str], int]
Keep = Literal["sentences", "texts"]

# After a full stop, or at the end of a line: rows of a table and items of a list stand alone.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(\[])|\n+")


class BudgetError(CourseError):
    """The budget cannot hold what must not be cut."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What one text lost."""

    text: str
    """Its first line, by which it is known."""
    tokens: int
    """How many of its tokens were left out."""
    is_whole: bool
    """True when nothing of it was kept."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Texts that fit."""

    context: list[str]
    """In the order given; shortened ones are marked with `[...]` where something is missing."""
    dropped: list[Dropped]
    tokens: int
    """Of the context and the question together."""
    budget_tokens: int

    def __str__(self) -> str:
        lines = [f"{self.tokens:,} of {self.budget_tokens:,} tokens, {len(self.context)} texts"]
        lines += [
            f"dropped {'all' if loss.is_whole else 'part'} of {loss.text!r}: {loss.tokens:,} tokens"
            for loss in self.dropped
        ]
        return "\n".join(lines)


def fit(
    context: Sequence[str],
    *,
    budget_tokens: int,
    question: str = "",
    keep: Keep = "sentences",
    count: Count = tokens.count,
) -> Fitted:
    """Keep what fits, best text first; the question counts before everything and is never cut.

    A text that does not fit whole keeps its first line and, with `keep="sentences"`, those sentences that
    share most words with the question, in their own order. With `keep="texts"` it is left out.

    Raises:
        BudgetError: the question alone is over the budget.
    """
    left = budget_tokens - count(question)
    if left < 0:
        raise BudgetError(
            f"the question has {count(question)} tokens, more than the budget of {budget_tokens}; "
            "it is never cut, so raise the budget or refuse the question"
        )
    wanted = frozenset(terms(question))
    kept: list[str] = []
    dropped: list[Dropped] = []
    for text in context:
        size = count(text)
        part = text if size <= left else _shortened(text, left, wanted, count) if keep == "sentences" else ""
        if part:
            kept.append(part)
            left -= count(part)
        if part != text:
            dropped.append(Dropped(text.partition("\n")[0], size - count(part), is_whole=not part))
    return Fitted(kept, dropped, budget_tokens - left, budget_tokens)


_GAP = "[...]"


def _shortened(text: str, room: int, wanted: frozenset[str], count: Count) -> str:
    """Return the first line and the best sentences of `text` within `room` tokens, or nothing."""
    head, _, body = text.partition("\n")
    sentences = [part.strip() for part in _SENTENCE_END.split(body) if part.strip()]
    order = sorted(range(len(sentences)), key=lambda at: (-len(wanted & set(terms(sentences[at]))), at))
    chosen: set[int] = set()
    best = ""
    for at in order:
        tried = _joined(head, sentences, chosen | {at})
        if count(tried) <= room:
            chosen.add(at)
            best = tried
    return best


def _joined(head: str, sentences: Sequence[str], chosen: set[int]) -> str:
    lines = [head]
    for at, sentence in enumerate(sentences):
        if at in chosen:
            lines.append(sentence)
        elif lines[-1] != _GAP:
            lines.append(_GAP)
    return "\n".join(lines)


def fit_history(
    history: dspy.History, *, budget_tokens: int, count: Count = tokens.count
) -> tuple[dspy.History, int]:
    """Keep the newest turns that fit, whole; returns the history and how many turns were dropped."""
    kept: list[dict[str, Any]] = []
    left = budget_tokens
    for turn in reversed(history.messages):
        left -= sum(count(str(value)) for value in turn.values())
        if left < 0:
            break
        kept.append(turn)
    return dspy.History(messages=kept[::-1]), len(history.messages) - len(kept)


class AnswerWithin(dspy.Module):
    """The desk's Answer on a budget: find `k` articles, fit them, answer; `fitted` says what was dropped."""

    def __init__(self, budget_tokens: int, *, k: int = 5, keep: Keep = "sentences") -> None:
        super().__init__()
        self.budget_tokens, self.keep = budget_tokens, keep
        self.find = desk.FindArticles(k)
        self.answer = desk.Answer()

    def forward(self, question: str) -> dspy.Prediction:
        """Answer one question."""
        fitted = self._fit(question, self.find(question=question).context)
        prediction = self.answer(question=question, context=fitted.context)
        prediction.fitted = fitted
        return prediction

    async def aforward(self, question: str) -> dspy.Prediction:
        """Answer one question without blocking the event loop."""
        fitted = self._fit(question, (await self.find.acall(question=question)).context)
        prediction = await self.answer.acall(question=question, context=fitted.context)
        prediction.fitted = fitted
        return prediction

    def _fit(self, question: str, context: Sequence[str]) -> Fitted:
        return fit(context, budget_tokens=self.budget_tokens, question=question, keep=self.keep)
