"""The parts of an answer's time sum to the whole, and are the parts that we slowed down."""

from __future__ import annotations

import asyncio
import time

import dspy
import matplotlib as mpl
import pytest
from dspy.clients.cache import Cache

from course_lib import desk, lm
from course_lib.caching import draw_latency_budget, latency, latency_budget
from course_lib.caching.latency import LatencyError

TICKET = "Where is my parcel?"
QUESTION = "How many days do I have to return an item?"


class SlowCache(Cache):
    """Looks up for 30 ms."""

    def get(self, *args, **options):
        time.sleep(0.03)
        return super().get(*args, **options)


@pytest.fixture(autouse=True)
def slow_model(monkeypatch):
    monkeypatch.setattr(dspy, "cache", SlowCache(False, True, None))
    speed = {"speed_p50_tokens_per_s": 400, "speed_p99_tokens_per_s": 400}
    lm.profile("timed", ttft_p50_ms=120, ttft_p99_ms=120, **speed)
    with dspy.context(lm=lm.connect("sim-large@timed")):
        lm.reset()
        yield


def test_each_part_is_the_one_that_we_slowed_down_and_the_whole_is_no_more_than_passed():
    begun_s = time.perf_counter()
    budget = latency_budget(desk.Answer(), question=QUESTION)
    passed_ms = 1000 * (time.perf_counter() - begun_s)

    (call,) = lm.ledger().calls
    assert sum(budget.values()) <= passed_ms
    assert min(budget.values()) >= 0
    assert budget[latency.FIRST] == pytest.approx(call.ttft_ms)
    assert budget[latency.FIRST] > 115
    assert 0 < budget[latency.WRITING] < call.duration_ms - call.ttft_ms + 0.001
    assert budget[latency.LOOK_UP] >= 30
    assert next(iter(budget)) == "FindArticles"


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter])
def test_an_answer_of_the_cache_spends_nothing_at_the_model(adapter):
    """Also with adapters that report an event twice."""
    with dspy.context(adapter=adapter()):
        first, again = (latency_budget(desk.Triage(), ticket=TICKET) for _ in range(2))

    assert min(first.values()) >= 0
    assert again[latency.FIRST] == again[latency.WRITING] == 0


def test_calls_that_overlap_or_go_elsewhere_are_refused_and_the_cache_that_was_there_is_put_back():
    class Both(dspy.Module):
        def forward(self):
            both = dspy.Parallel(num_threads=2, disable_progress_bar=True)
            return both([(desk.Triage(), {"ticket": text}) for text in ("one", "two")])[0]

    before = dspy.cache.get, dspy.cache.put
    with pytest.raises(LatencyError, match="at once"):
        latency_budget(Both())
    with pytest.raises(ZeroDivisionError):
        latency_budget(lambda: 1 / 0)
    assert (dspy.cache.get, dspy.cache.put) == before

    elsewhere = dspy.utils.DummyLM([{"category": "billing", "urgency": "low"}] * 2)
    message = "1 calls of a model, the course's endpoint saw 0"
    with dspy.context(lm=elsewhere), pytest.raises(LatencyError, match=message):
        latency_budget(desk.Triage(), ticket=TICKET)


def test_a_program_that_returns_something_else_is_measured_too_also_in_a_running_loop():
    class Plain(dspy.Module):
        def forward(self, ticket):
            return desk.Triage()(ticket=ticket).category

    async def cell():
        return latency_budget(Plain(), ticket=TICKET)

    assert asyncio.run(cell())[latency.FIRST] > 115


def test_a_bar_is_drawn_for_each_budget_with_its_sum():
    budget = {latency.FIRST: 75.0, latency.REST: 25.0}

    with mpl.rc_context({"backend": "agg"}):
        (axes,) = draw_latency_budget({"one": budget, "two": budget}).axes
        mpl.pyplot.close("all")

    assert axes.get_xlabel() == "milliseconds"
    assert len(axes.patches) == 4
    assert [text.get_text() for text in axes.texts] == ["100 ms"] * 2
