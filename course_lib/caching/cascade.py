"""A small model first, a large one for what the small one cannot be trusted with.

Main path: Cascade(small, large, accepts=search_agrees, threshold=0.6)(ticket=...) -> answer, and who gave it.
Source: dspy.Module and dspy.context (DSPy 3.4.1); the idea is that of FrugalGPT (Chen, Zaharia and Zou 2023).
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from course_lib import desk
from course_lib.desk.search import search_articles
from course_lib.errors import CourseError

Accepts = Callable[[Mapping[str, Any], dspy.Prediction], float]
"""How far to trust an answer, 0 to 1, from the inputs and the small model's prediction (True counts as 1)."""


class CascadeError(CourseError):
    """A cascade that cannot work as it was built."""


class Cascade(dspy.Module):
    """Ask `small`; keep its answer if `accepts` trusts it enough, else ask `large`.

    Both are programs with a model of their own (`program.set_lm(lm)`; on the cascade itself it would give
    both the same), so that each has the demos that suit it. A reply of the small one that cannot be parsed
    is not trusted; other errors are not hidden. The prediction also says `answered_by` ("small" or "large")
    and `confidence`.
    """

    def __init__(
        self, small: dspy.Module, large: dspy.Module, *, accepts: Accepts, threshold: float = 1.0
    ) -> None:
        """Keep the small program's answers whose confidence is at least `threshold`; above 1 keeps none."""
        super().__init__()
        self.small, self.large = small, large
        self.accepts, self.threshold = accepts, threshold

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Answer."""
        try:
            first = self.small(**inputs)
        except AdapterParseError:
            return self._said(self.large(**inputs), "large", 0.0)
        confidence = float(self.accepts(inputs, first))
        if confidence >= self.threshold:
            return self._said(first, "small", confidence)
        return self._said(self.large(**inputs), "large", confidence)

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Answer without blocking the event loop, if `accepts` does not."""
        try:
            first = await self.small.acall(**inputs)
        except AdapterParseError:
            return self._said(await self.large.acall(**inputs), "large", 0.0)
        confidence = float(self.accepts(inputs, first))
        if confidence >= self.threshold:
            return self._said(first, "small", confidence)
        return self._said(await self.large.acall(**inputs), "large", confidence)

    def _said(self, prediction: dspy.Prediction, by: str, confidence: float) -> dspy.Prediction:
        prediction.answered_by, prediction.confidence = by, confidence
        return prediction


class Votes(dspy.Module):
    """Ask the same several times at a temperature above 0; the most frequent value of one field wins.

    The prediction is the first one with the winning value; `vote_share` says how many of the `samples`
    gave it. A reply that cannot be parsed is a vote for nothing.
    """

    def __init__(
        self, program: dspy.Module, lm: dspy.LM, *, field: str, samples: int = 3, temperature: float = 0.5
    ) -> None:
        """Sample `program` on `lm`.

        Raises:
            CascadeError: a single sample, or temperature 0, where all samples would be the same.
        """
        super().__init__()
        if samples < 2 or temperature <= 0:
            raise CascadeError(
                f"votes need at least 2 samples at a temperature above 0, not {samples} at {temperature}"
            )
        self.program, self.field = program, field
        # A rollout id keeps the samples apart in DSPy's cache; it is not sent.
        self._lms = [lm.copy(temperature=temperature, rollout_id=at + 1) for at in range(samples)]

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Ask one after the other."""
        return self._count([self._sample(lm, inputs) for lm in self._lms])

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Ask all at once."""
        return self._count(list(await asyncio.gather(*(self._asample(lm, inputs) for lm in self._lms))))

    def _sample(self, lm: dspy.LM, inputs: Mapping[str, Any]) -> dspy.Prediction | AdapterParseError:
        try:
            with dspy.context(lm=lm):
                return self.program(**inputs)
        except AdapterParseError as error:
            return error

    async def _asample(self, lm: dspy.LM, inputs: Mapping[str, Any]) -> dspy.Prediction | AdapterParseError:
        try:
            with dspy.context(lm=lm):
                return await self.program.acall(**inputs)
        except AdapterParseError as error:
            return error

    def _count(self, samples: list[dspy.Prediction | AdapterParseError]) -> dspy.Prediction:
        read = [sample for sample in samples if not isinstance(sample, AdapterParseError)]
        if not read:
            raise samples[0]
        votes = Counter(str(getattr(sample, self.field)) for sample in read)
        winner, count = votes.most_common(1)[0]  # of equals, the one that came first
        chosen = next(sample for sample in read if str(getattr(sample, self.field)) == winner)
        chosen.vote_share = count / len(samples)
        return chosen


def votes_agree(_inputs: Mapping[str, Any], prediction: dspy.Prediction) -> float:
    """Trust a prediction of Votes by its share of the votes."""
    return float(prediction.vote_share)


def search_agrees(inputs: Mapping[str, Any], prediction: dspy.Prediction) -> float:
    """Trust a ticket's category by what plain search of the help centre says; no model is asked.

    Returns the best score of an article of that category over the best score of any article.
    """
    hits = search_articles(inputs["ticket"])
    known = _categories()
    of_category = [hit.score for hit in hits if known.get(hit.article.id) == prediction.category]
    return max(of_category) / hits[0].score if of_category else 0.0


@lru_cache(maxsize=1)
def _categories() -> dict[str, str]:
    """Return each article's category, as the train tickets that it answers have it."""
    return {ticket.article: ticket.category for ticket in desk.tickets("train") if ticket.article}
