"""Exercise 5.5: what its card says where promtool is missing."""

from __future__ import annotations

import pytest

from course_lib.exercises.deployment import alerting
from course_lib.exercises.engine.checks import CheckFailed, NotChecked


def test_without_promtool_the_alert_is_not_judged_and_the_remedy_is_told(monkeypatch):
    monkeypatch.setenv("PATH", "")

    for check in (alerting.is_read, alerting.fires, alerting.is_silent):
        with pytest.raises(NotChecked, match=r"the metrics are right; .* apt-get install prometheus"):
            check(None, "groups: []")


def test_what_is_no_text_is_told_without_promtool_too(monkeypatch):
    monkeypatch.setenv("PATH", "")

    with pytest.raises(CheckFailed, match="the text of a rule file, got dict"):
        alerting.is_read(None, {})
