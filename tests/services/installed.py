"""Prometheus and Alertmanager with their tools: a test that needs them is skipped without, and red in CI."""

from __future__ import annotations

import os
import shutil

import pytest

from course_lib.services import has_prometheus

REMEDY = "apt-get install prometheus prometheus-alertmanager, or: brew install prometheus alertmanager"


def need_prometheus() -> None:
    """Skip the test that calls this, or fail it where CI=true, unless they are installed."""
    if has_prometheus() and shutil.which("promtool") and shutil.which("amtool"):
        return
    problem = f"Prometheus, Alertmanager, promtool and amtool are not all installed; {REMEDY}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, but {problem}")
    pytest.skip(problem)
