"""A usage tracker that loses nothing, wherever the calls run."""

from __future__ import annotations

import asyncio
import pickle

import dspy
import pytest

from course_lib import desk, lm
from course_lib.measure import Usage, UsageTracker, usage_of

EXAMPLES = desk.examples("dev")[:6]


@pytest.fixture(autouse=True)
def simulator():
    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        lm.reset()
        yield


def in_a_batch(triage):
    triage.batch(EXAMPLES, num_threads=3, disable_progress_bar=True)


def in_tasks(triage):
    async def gathered():
        await asyncio.gather(*(triage.acall(**example.inputs()) for example in EXAMPLES))

    asyncio.run(gathered())


def in_a_stream(triage):
    for example in EXAMPLES:
        list(dspy.streamify(triage, async_streaming=False)(**example.inputs()))


def under_trackers_of_dspy(triage):
    for example in EXAMPLES:
        with dspy.track_usage():
            triage(**example.inputs())


@pytest.mark.parametrize("run", [in_a_batch, in_tasks, in_a_stream, under_trackers_of_dspy])
def test_the_totals_are_those_of_the_ledger(run):
    tracker = UsageTracker()

    with dspy.context(usage_tracker=tracker):
        run(desk.Triage())

    usage, ledger = usage_of(tracker.entries), lm.ledger()
    assert (usage.calls, usage.prompt_tokens, usage.completion_tokens) == (
        ledger.requests,
        ledger.prompt_tokens,
        ledger.completion_tokens,
    )
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
