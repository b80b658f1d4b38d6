"""What a sync program has warmed is cold for `acall`: DSPy keys the two by the function it calls."""

from __future__ import annotations

import asyncio

import dspy

from course_lib import lm
from course_lib.caching.cache import TieredCache
from tests.traps.conftest import SOLVED


def both_ways(model: dspy.LM, question: str) -> int:
    """Ask once sync and once async; return how many requests that cost."""
    lm.reset()
    with dspy.context(lm=model):
        ask = dspy.Predict("question -> answer")
        first, second = ask(question=question), asyncio.run(ask.acall(question=question))
    assert first.answer == second.answer
    return lm.ledger().requests


def test_plain_dspy_pays_twice() -> None:
    assert both_ways(lm.connect(), "Warm for both?") == 2, SOLVED.format("sync and async share a key")


def test_one_key_for_both_pays_once(give_dspy) -> None:
    cache = give_dspy(TieredCache())

    assert both_ways(lm.connect(), "Warm for both now?") == 1
    assert both_ways(cache.front(lm.connect()), "Warm through the front?") == 1
