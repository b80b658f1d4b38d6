"""Tenant B gets the answer that was made for tenant A: DSPy's key knows neither tenant nor endpoint."""

from __future__ import annotations

import dspy
import pytest

from course_lib.caching import TieredCache, scope
from tests.traps.conftest import SOLVED, Script, plain_cache, reply


def answers(*calls: tuple[Script, str]) -> list[str]:
    """Ask each server for its tenant."""
    ask, found = dspy.Predict("question -> answer"), []
    for served, tenant in calls:
        with dspy.context(lm=served.plain_lm(cache=True)), scope(tenant=tenant):
            found.append(ask(question="What is our discount?").answer)
    return found


def two_servers(script) -> list[tuple[Script, str]]:
    return [(script(reply(f"{tenant}'s answer")), "one tenant") for tenant in ("acme", "bolt")]


def one_server(script) -> list[tuple[Script, str]]:
    served = script(reply("acme's answer"), reply("bolt's answer"))
    return [(served, "acme"), (served, "bolt")]


@pytest.mark.parametrize(
    ("calls", "part"), [(two_servers, "the endpoint"), (one_server, "a tenant")], ids=["endpoint", "tenant"]
)
def test_plain_dspy_gives_bolt_the_answer_of_acme(script, give_dspy, calls, part):
    give_dspy(plain_cache())

    assert answers(*calls(script)) == ["acme's answer"] * 2, SOLVED.format(f"{part} is part of its key")


@pytest.mark.parametrize("calls", [two_servers, one_server])
def test_endpoint_and_tenant_are_part_of_our_key(script, give_dspy, calls):
    give_dspy(TieredCache())
    both = calls(script)

    assert answers(*both, *both) == ["acme's answer", "bolt's answer"] * 2
    assert sum(len(served.bodies) for served in {served for served, _ in both}) == 2
