"""Tenant B gets the answer that was made for tenant A: DSPy's key knows neither tenant nor endpoint."""

from __future__ import annotations

from collections.abc import Iterator

import dspy
import pytest
from dspy.clients.cache import Cache

from course_lib.caching import TieredCache, scope
from tests.traps.conftest import SOLVED


def reply(text: str) -> str:
    return f"[[ ## answer ## ]]\n{text}\n\n[[ ## completed ## ]]"


@pytest.fixture
def give_dspy(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Put a cache under DSPy for one test."""

    def give(cache: Cache) -> Cache:
        monkeypatch.setitem(vars(dspy), "cache", cache)
        return cache

    return give


def plain() -> Cache:
    return Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)


ask = dspy.Predict("question -> answer")


def test_plain_dspy_gives_tenant_b_what_the_server_of_tenant_a_said(script, give_dspy):
    acme, bolt = script(reply("acme's answer")), script(reply("bolt's answer"))
    give_dspy(plain())

    answers = []
    for served in (acme, bolt):
        with dspy.context(lm=served.plain_lm(cache=True)):
            answers.append(ask(question="What is our discount?").answer)

    assert answers[1] == "acme's answer", SOLVED.format("the endpoint is part of the cache's key")
    assert len(bolt.bodies) == 0


def test_the_endpoint_is_part_of_our_key(script, give_dspy):
    acme, bolt = script(reply("acme's answer")), script(reply("bolt's answer"))
    give_dspy(TieredCache())

    answers = []
    for served in (acme, bolt, acme, bolt):
        with dspy.context(lm=served.plain_lm(cache=True)):
            answers.append(ask(question="What is our discount?").answer)

    assert answers == ["acme's answer", "bolt's answer"] * 2
    assert len(acme.bodies) == len(bolt.bodies) == 1


def test_plain_dspy_shares_answers_between_tenants_of_one_endpoint(script, give_dspy):
    served = script(reply("acme pays 40 euros"), reply("bolt pays 90 euros"))
    give_dspy(plain())

    answers = []
    for tenant in ("acme", "bolt"):
        with dspy.context(lm=served.plain_lm(cache=True)), scope(tenant=tenant):
            answers.append(ask(question="What do we pay?").answer)

    assert answers[1] == "acme pays 40 euros", SOLVED.format("a tenant is part of the cache's key")


def test_a_scope_keeps_tenants_of_one_endpoint_apart(script, give_dspy):
    served = script(reply("acme pays 40 euros"), reply("bolt pays 90 euros"))
    give_dspy(TieredCache())

    answers = []
    for tenant in ("acme", "bolt", "acme", "bolt"):
        with dspy.context(lm=served.plain_lm(cache=True)), scope(tenant=tenant):
            answers.append(ask(question="What do we pay?").answer)

    assert answers == ["acme pays 40 euros", "bolt pays 90 euros"] * 2
    assert len(served.bodies) == 2


def test_with_a_required_tenant_a_call_without_one_is_not_cached_at_all(script, give_dspy):
    served = script(reply("first"), reply("second"))
    cache = give_dspy(TieredCache(require_tenant=True))

    with dspy.context(lm=served.plain_lm(cache=True)):
        answers = [ask(question="What do we pay?").answer for _ in range(2)]

    assert answers == ["first", "second"]
    assert cache.stats().unkeyable == {"no tenant in its scope, and require_tenant is set": 2}
