"""Each demand has a test that exists, or a reason for being out of scope."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from course_lib.deployment.compliance import DEMANDS
from course_lib.paths import ROOT

IN_SCOPE = [each for each in DEMANDS if each.test]


def names_in(path: Path) -> set[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, functions)}


@pytest.mark.parametrize("demand", IN_SCOPE, ids=[f"{each.regulation} {each.section}" for each in IN_SCOPE])
def test_the_test_that_shows_a_demand_exists(demand):
    path, _, name = demand.test.partition("::")

    assert name.startswith("test_")
    assert name in names_in(ROOT / path)


def test_a_demand_has_a_control_with_a_test_or_says_whose_it_is():
    for demand in DEMANDS:
        assert bool(demand.control) is bool(demand.test) is not bool(demand.out_of_scope)


@pytest.mark.parametrize("regulation", ["GDPR", "SOC 2", "HIPAA", "PCI DSS"])
def test_each_regulation_has_demands_in_scope_and_some_that_are_not(regulation):
    scopes = {bool(each.test) for each in DEMANDS if each.regulation == regulation}

    assert scopes == {True, False}
