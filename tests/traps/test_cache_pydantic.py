"""A request that holds a list of pydantic models, or a set, is never found again, and nothing says so."""

from __future__ import annotations

import logging

import dspy
import pydantic
import pytest
from dspy.clients.cache import Cache, request_cache

from course_lib.caching import TieredCache
from tests.traps.conftest import SOLVED


class Order(pydantic.BaseModel):
    id: str
    parts: list[str]


ORDERS = [Order(id="O-10001", parts=["pole"]), Order(id="O-10002", parts=[])]
GOOD = "[[ ## answer ## ]]\n4\n\n[[ ## completed ## ]]"


def priced(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how often a cached function of one's own runs for two equal calls."""
    monkeypatch.setitem(vars(dspy), "cache", cache)
    runs = []

    @request_cache()
    def price(orders: list[Order]) -> dict[str, int]:
        runs.append(orders)
        return {order.id: 10 for order in orders}

    first, second = (price(orders=[order.model_copy() for order in ORDERS]) for _ in range(2))
    assert first == second
    return len(runs)


def plain() -> Cache:
    return Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)


def test_plain_dspy_runs_a_cached_function_again_and_says_nothing(monkeypatch, caplog):
    with caplog.at_level(logging.INFO):
        runs = priced(plain(), monkeypatch)

    assert runs == 2, SOLVED.format("lists of models are keyed")
    assert caplog.records == []


def test_our_cache_keys_models_wherever_they_stand(monkeypatch):
    cache = TieredCache()

    assert priced(cache, monkeypatch) == 1
    assert cache.stats().hits == {"memory": 1}


def asked(cache: Cache, served, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return how many requests a model gets for two equal calls with a set among their options."""
    monkeypatch.setitem(vars(dspy), "cache", cache)
    ask = dspy.Predict("question -> answer: int")
    with dspy.context(lm=served.plain_lm(cache=True)):
        for _ in range(2):
            ask(question="2 + 2?", config={"stop": {"###", "<end>"}})
    return len(served.bodies)


def test_plain_dspy_asks_the_model_again_for_a_set_of_stops(script, monkeypatch):
    assert asked(plain(), script(GOOD), monkeypatch) == 2, SOLVED.format("sets are keyed")


def test_our_cache_keys_a_set_by_what_is_in_it(script, monkeypatch):
    assert asked(TieredCache(), script(GOOD), monkeypatch) == 1


def test_what_cannot_be_keyed_is_counted_with_its_type(monkeypatch):
    monkeypatch.setitem(vars(dspy), "cache", (cache := TieredCache()))

    @request_cache()
    def count(things: object) -> int:
        return 1

    count(things=[object()])

    assert cache.stats().unkeyable == {"a value of type builtins.object in 'things'": 1}
