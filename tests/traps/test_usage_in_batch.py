"""Usage tracked around a batch is lost: each thread counts in a copy that nobody reads."""

from __future__ import annotations

import dspy

from course_lib import desk, lm
from course_lib.measure import PerformanceMonitor
from tests.traps.conftest import SOLVED


def run_a_batch() -> None:
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        lm.reset()
        desk.Triage().batch(desk.examples("dev")[:6], num_threads=3, disable_progress_bar=True)
    assert lm.ledger().requests == 6


def test_tracking_usage_around_a_batch_counts_nothing():
    with dspy.track_usage() as tracker:
        run_a_batch()

    assert tracker.get_total_tokens() == {}, SOLVED.format("a batch loses no usage")


def test_the_monitor_counts_what_the_endpoint_counts():
    with PerformanceMonitor() as monitor:
        run_a_batch()

    assert monitor.report().usage.prompt_tokens == lm.ledger().prompt_tokens
