"""Exercises 6.6.2 and 6.6.3: what their cards say where promtool is missing."""

from __future__ import annotations

import pytest

from course_lib.exercises.engine.checks import CheckFailed, NotChecked
from course_lib.exercises.flight import watching

PANEL = {
    "type": "stat",
    "title": "Replicas",
    "fieldConfig": {"defaults": {"unit": "short"}},
    "targets": [{"expr": "sum(up)"}],
}
RULES = '{groups: [{name: x, rules: [{record: "x", expr: up}]}]}'


@pytest.fixture(autouse=True)
def without_promtool(monkeypatch):
    monkeypatch.setenv("PATH", "")


def test_without_promtool_rules_are_not_judged_and_the_remedy_is_told():
    for check in (watching.are_read, watching.records, watching.burns):
        with pytest.raises(NotChecked, match=r"what the rules say .* apt-get install prometheus"):
            check(RULES, RULES)


def test_without_promtool_panels_are_judged_but_not_their_expressions():
    def dashboard():
        return {"title": "Desk", "panels": [PANEL]}

    watching.has_panels(dashboard)
    with pytest.raises(NotChecked, match=r"what the expressions say .* apt-get install prometheus"):
        watching.are_parsed(dashboard)


def test_what_is_no_rule_file_is_told_without_promtool_too():
    with pytest.raises(CheckFailed, match="the text of a rule file, got dict"):
        watching.are_read({}, RULES)


@pytest.mark.parametrize(
    "board", [None, {}, {"title": "x", "panels": []}, {"title": "x", "panels": 3}, {1, 2}]
)
def test_what_is_no_dashboard_is_told(board):
    with pytest.raises(CheckFailed, match="dashboard"):
        watching.has_panels(lambda: board)
