"""A usage tracker that loses nothing, wherever the calls run."""

from __future__ import annotations

import os
import pickle

import dspy
import pytest

from course_lib import desk, lm
from course_lib.measure import PerformanceMonitor, Usage, UsageTracker, usage_of
from tests.resilience.conftest import ended_well, fork

EXAMPLES = desk.examples("dev")[:6]


def test_in_a_batch_a_stream_and_under_a_tracker_of_dspy_the_totals_are_those_of_the_ledger():
    tracker, triage, inputs = UsageTracker(), desk.Triage(), EXAMPLES[0].inputs()
    with dspy.context(lm=lm.connect("sim-large", cache=False), usage_tracker=tracker):
        lm.reset()
        triage.batch(EXAMPLES, num_threads=3, disable_progress_bar=True)
        list(dspy.streamify(triage, async_streaming=False)(**inputs))
        with dspy.track_usage():
            triage(**inputs)

    usage, ledger = usage_of(tracker.entries), lm.ledger()
    assert usage.calls == ledger.requests == 8
    assert usage.prompt_tokens == ledger.prompt_tokens
    assert usage.completion_tokens == ledger.completion_tokens
    assert usage.cost_usd == pytest.approx(ledger.cost_usd)
    assert tracker.get_total_tokens()["course/sim-large"]["prompt_tokens"] == usage.prompt_tokens


def test_a_model_without_a_listed_price_is_counted_apart():
    entries = [
        ("course/sim-large", {"prompt_tokens": 2000, "completion_tokens": 100}),
        ("course/sim-large@storm", {"prompt_tokens": 2000, "prompt_tokens_details": {"cached_tokens": 1024}}),
        ("mine/unheard-of", {"prompt_tokens": 7, "completion_tokens": 3}),
        ("dummy", {}),
    ]

    usage = usage_of(entries)

    assert usage == Usage(4, 4007, 103, pytest.approx(0.006 + 0.00372), 2, 1024)
    assert usage.tokens == 4110
    assert pickle.loads(pickle.dumps(usage)) == usage


def test_a_server_that_reports_less_than_nothing_takes_nothing_from_tokens_or_cost():
    entries = [
        ("course/sim-small", {"prompt_tokens": -10, "completion_tokens": -1}),
        ("course/sim-small", {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": -(10**9)}}),
    ]

    assert usage_of(entries) == Usage(
        2, 10, 0, usage_of([("course/sim-small", {"prompt_tokens": 10})]).cost_usd
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_forked_while_somebody_counts_counts_on():
    tracker, monitor = UsageTracker(), PerformanceMonitor()

    def counts() -> bool:
        tracker.add_usage("mine", {})
        with monitor:
            Empty()()
        return bool(tracker.entries and monitor.report().programs)

    with tracker._lock, monitor._lock:
        child = fork(counts)
    assert ended_well(child)


class Empty(dspy.Module):
    def forward(self) -> None:
        """Ask nothing."""
