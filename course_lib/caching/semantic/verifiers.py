"""Verifiers: the last word on a candidate that is near enough and that no guard refuses.

Main path: SemanticCache(threshold=..., verifier=shares_article).

The best judge is a model that reads both questions and the answer; asking it costs a call, so it
pays where an answer costs more than a judgement. With a hosted or local model that is a few lines:

    judge = dspy.Predict("asked, cached_question, answer -> also_answers_asked: bool")
    verifier = lambda asked, cached, answer: judge(
        asked=asked, cached_question=cached, answer=str(answer)
    ).also_answers_asked

The course's simulator cannot judge this: it says no to paraphrases too. What follows needs no model, and is
no good judge either: it knows topics, and near-misses stay within their topic (data/README.md).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from course_lib import desk

_MOST_ARTICLES = 3


def shares_article(asked: str, cached: str, answer: Any = None) -> bool:  # noqa: ARG001  (a verifier's form)
    """Say whether the article found first for the cached question is among the first three for the other.

    >>> shares_article("Is machine washing all right for a tent?", "Can I wash my tent?")
    True
    """
    return bool(set(_found(cached)[:1]) & set(_found(asked)))


@lru_cache(maxsize=4096)
def _found(question: str) -> tuple[str, ...]:
    return tuple(hit.article.id for hit in desk.search_articles(question, k=_MOST_ARTICLES))
