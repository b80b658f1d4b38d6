"""A small model first, a large one for what the small one cannot be trusted with.

Main path: Cascade(small, large, accepts=search_agrees, threshold=0.6)(ticket=...) -> answer, and who gave it.
Source: dspy.Module (DSPy 3.4.1); the idea is that of FrugalGPT (Chen, Zaharia and Zou 2023).
"""

# mypy: allow-subclassing-any
# DSPy is skipped by mypy (see pyproject.toml), so its base classes are Any.
from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import dspy
from dspy.utils.exceptions import AdapterParseError

from course_lib import desk
from course_lib.desk.search import search_articles

Accepts = Callable[[Mapping[str, Any], dspy.Prediction], float]
"""How far to trust an answer, 0 to 1, from the inputs and the small model's prediction (True counts as 1)."""


class Cascade(dspy.Module):
    """Ask `small`; keep its answer if `accepts` trusts it enough, else ask `large`.

    Both are programs with a model of their own (`program.set_lm(lm)`; on the cascade itself it would give
    both the same), so that each has the demos that suit it. A reply of the small one that cannot be parsed
    is not trusted; other errors are raised. The prediction also has `answered_by` ("small" or "large") and
    `confidence`.
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
            first = None
        confidence, is_kept = self._trust(inputs, first)
        return _labelled(first if is_kept else self.large(**inputs), confidence, is_small=is_kept)

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Answer without blocking the event loop, if `accepts` does not."""
        try:
            first = await self.small.acall(**inputs)
        except AdapterParseError:
            first = None
        confidence, is_kept = self._trust(inputs, first)
        return _labelled(first if is_kept else await self.large.acall(**inputs), confidence, is_small=is_kept)

    def _trust(self, inputs: Mapping[str, Any], first: dspy.Prediction | None) -> tuple[float, bool]:
        """Return the confidence in the small program's answer, and whether it is kept."""
        confidence = 0.0 if first is None else float(self.accepts(inputs, first))
        return confidence, first is not None and confidence >= self.threshold


def _labelled(prediction: dspy.Prediction, confidence: float, *, is_small: bool) -> dspy.Prediction:
    prediction.answered_by, prediction.confidence = "small" if is_small else "large", confidence
    return prediction


def search_agrees(inputs: Mapping[str, Any], prediction: dspy.Prediction) -> float:
    """Trust a ticket's category by what plain search of the help centre says; no model is called.

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
