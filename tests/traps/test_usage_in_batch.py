"""Usage tracked around a batch is lost: each thread counts in a copy that nobody reads."""

from __future__ import annotations

import dspy
import pytest

from course_lib import desk, lm
from course_lib.measure import PerformanceMonitor
from tests.traps.conftest import SOLVED


@pytest.fixture(autouse=True)
def simulator():
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        lm.reset()
        yield


EXAMPLES = desk.examples("dev")[:6]


def test_tracking_usage_around_a_batch_counts_nothing():
    with dspy.track_usage() as tracker:
        desk.Triage().batch(EXAMPLES, num_threads=3, disable_progress_bar=True)

    assert lm.ledger().requests == 6
    assert tracker.get_total_tokens() == {}, SOLVED.format("a batch loses no usage")


def test_the_monitor_counts_what_the_endpoint_counts():
    with PerformanceMonitor() as monitor:
        desk.Triage().batch(EXAMPLES, num_threads=3, disable_progress_bar=True)

    used, ledger = monitor.report().usage, lm.ledger()
    assert monitor.report().calls == ledger.requests
    assert used.prompt_tokens == ledger.prompt_tokens
    assert used.completion_tokens == ledger.completion_tokens
    assert used.cost_usd == pytest.approx(ledger.cost_usd)
