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


def test_plain_dspy_runs_a_cached_function_again_and_says_nothing(give_dspy, caplog):
    give_dspy(plain_cache())
    with caplog.at_level(logging.INFO):
        runs = runs_of_equal_calls()

    assert runs == 2, SOLVED.format("lists of models are keyed")
    assert caplog.records == []


def test_our_cache_keys_models_wherever_they_stand(give_dspy):
    cache = give_dspy(TieredCache())

    assert runs_of_equal_calls() == 1
    assert cache.stats().hits == {"memory": 1}


def requests_of_equal_calls(served) -> int:
    """Return how many requests a model gets for two equal calls with a set among their options."""
    ask = dspy.Predict("question -> answer: int")
    with dspy.context(lm=served.plain_lm(cache=True)):
        for _ in range(2):
            ask(question="2 + 2?", config={"stop": {"###", "<end>"}})
    return len(served.bodies)


def test_plain_dspy_asks_the_model_again_for_a_set_of_stops(script, give_dspy):
    give_dspy(plain_cache())

    assert requests_of_equal_calls(script(reply("4"))) == 2, SOLVED.format("sets are keyed")


def test_our_cache_keys_a_set_by_what_is_in_it(script, give_dspy):
    give_dspy(TieredCache())

    assert requests_of_equal_calls(script(reply("4"))) == 1
