"""Tenant B gets the answer that was made for tenant A: DSPy's key knows neither tenant nor endpoint."""

from __future__ import annotations

import dspy
import pytest

from course_lib.caching import TieredCache, scope
from tests.traps.conftest import SOLVED, Script, plain_cache, reply

ask = dspy.Predict("question -> answer")


@pytest.fixture
def two_servers(script):
    return script(reply("acme's answer")), script(reply("bolt's answer"))


@pytest.fixture
def one_server(script):
    return script(reply("acme pays 40 euros"), reply("bolt pays 90 euros"))


def answers(*calls: tuple[Script, str]) -> list[str]:
    """Ask each server for its tenant."""
    found = []
    for served, tenant in calls:
        with dspy.context(lm=served.plain_lm(cache=True)), scope(tenant=tenant):
            found.append(ask(question="What is our discount?").answer)
    return found


def test_plain_dspy_gives_tenant_b_what_the_server_of_tenant_a_said(two_servers, give_dspy):
    give_dspy(plain_cache())
    acme, bolt = two_servers

    assert answers((acme, "x"), (bolt, "x"))[1] == "acme's answer", SOLVED.format(
        "the endpoint is in its key"
    )
    assert len(bolt.bodies) == 0


def test_the_endpoint_is_part_of_our_key(two_servers, give_dspy):
    give_dspy(TieredCache())
    acme, bolt = two_servers

    assert (
        answers((acme, "x"), (bolt, "x"), (acme, "x"), (bolt, "x")) == ["acme's answer", "bolt's answer"] * 2
    )
    assert len(acme.bodies) == len(bolt.bodies) == 1


def test_plain_dspy_shares_answers_between_tenants_of_one_endpoint(one_server, give_dspy):
    give_dspy(plain_cache())

    shared = answers((one_server, "acme"), (one_server, "bolt"))

    assert shared[1] == "acme pays 40 euros", SOLVED.format("a tenant is part of the cache's key")


def test_a_scope_keeps_tenants_of_one_endpoint_apart(one_server, give_dspy):
    give_dspy(TieredCache())

    apart = answers(*[(one_server, tenant) for tenant in ("acme", "bolt", "acme", "bolt")])

    assert apart == ["acme pays 40 euros", "bolt pays 90 euros"] * 2
    assert len(one_server.bodies) == 2
