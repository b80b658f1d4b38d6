"""A request that holds a list of pydantic models, or a set, is never found again, and nothing says so."""

from __future__ import annotations

import logging

import dspy
import pydantic
from dspy.clients.cache import request_cache

from course_lib.caching import TieredCache
from tests.traps.conftest import SOLVED, plain_cache, reply


class Order(pydantic.BaseModel):
    id: str
    parts: list[str]


ORDERS = [Order(id="O-10001", parts=["pole"]), Order(id="O-10002", parts=[])]


def runs_of_equal_calls() -> int:
    """Return how often a cached function of one's own runs for two equal calls."""
    runs = []

    @request_cache()
    def price(orders: list[Order]) -> dict[str, int]:
        runs.append(orders)
        return {order.id: 10 for order in orders}

    first, second = (price(orders=[order.model_copy() for order in ORDERS]) for _ in range(2))
    assert first == second
    return len(runs)


def requests_of_equal_calls(served) -> int:
    """Return how many requests a model gets for two equal calls with a set among their options."""
    ask = dspy.Predict("question -> answer: int")
    with dspy.context(lm=served.plain_lm(cache=True)):
        for _ in range(2):
            ask(question="2 + 2?", config={"stop": {"###", "<end>"}})
    return len(served.bodies)


def test_plain_dspy_calls_again_and_says_nothing(script, give_dspy, caplog):
    give_dspy(plain_cache())
    with caplog.at_level(logging.INFO):
        assert runs_of_equal_calls() == 2, SOLVED.format("lists of models are keyed")
        assert requests_of_equal_calls(script(reply("4"))) == 2, SOLVED.format("sets are keyed")

    assert caplog.records == []


def test_our_cache_keys_models_and_sets_by_what_is_in_them(script, give_dspy):
    give_dspy(TieredCache())

    assert runs_of_equal_calls() == 1
    assert requests_of_equal_calls(script(reply("4"))) == 1
