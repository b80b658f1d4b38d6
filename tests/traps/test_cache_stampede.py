"""32 callers ask the same at once: DSPy's cache is empty for each of them, so the model is paid 32 times."""

from __future__ import annotations

import asyncio

import dspy

from course_lib import lm
from course_lib.caching.cache import TieredCache
from tests.caching.conftest import slow_model
from tests.traps.conftest import SOLVED


async def crowd(model: dspy.LM, question: str) -> None:
    ask = dspy.Predict("question -> answer")
    with dspy.context(lm=model):
        await asyncio.gather(*(ask.acall(question=question) for _ in range(32)))


def test_plain_dspy_calls_the_model_for_each_of_them() -> None:
    asyncio.run(crowd(slow_model(), "A stampede?"))

    assert lm.ledger().requests == 32, SOLVED.format("identical calls share a request")


def test_with_a_front_one_calls_and_the_others_wait(give_dspy) -> None:
    cache = give_dspy(TieredCache())

    asyncio.run(crowd(cache.front(slow_model()), "A queue?"))

    assert lm.ledger().requests == 1
