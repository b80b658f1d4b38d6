"""The parts of an answer's time sum to the whole, and are the parts that we slowed down."""

from __future__ import annotations

import asyncio
import time

import dspy
import matplotlib as mpl
import pytest
from dspy import lm15
from dspy.clients.cache import Cache

from course_lib import desk, lm
from course_lib.caching import draw_latency_budget, latency, latency_budget
from course_lib.caching.latency import LatencyError

QUESTION = "How many days do I have to return an item?"


class SlowCache(Cache):
    """Looks up for 30 ms."""

    def get(self, *args, **options):
        time.sleep(0.03)
        return super().get(*args, **options)


@pytest.fixture(autouse=True)
def slow_model(monkeypatch):
    monkeypatch.setattr(
        dspy, "cache", SlowCache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)
    )
    lm.profile(
        "timed", ttft_p50_ms=120, ttft_p99_ms=120, speed_p50_tokens_per_s=400, speed_p99_tokens_per_s=400
    )
    with dspy.context(lm=lm.connect("sim-large@timed")):
        lm.reset()
        yield


@pytest.fixture
def budget():
    return latency_budget(desk.Answer(), question=QUESTION)


def test_the_parts_sum_to_the_whole(budget):
    assert sum(budget.parts_ms.values()) == pytest.approx(budget.total_ms)
    assert min(budget.parts_ms.values()) >= 0


def test_the_models_own_times_are_those_of_the_ledger(budget):
    (call,) = lm.ledger().calls

    assert budget.parts_ms[latency.FIRST] == pytest.approx(call.ttft_ms)
    assert budget.parts_ms[latency.FIRST] > 115
    assert budget.parts_ms[latency.WRITING] > (call.completion_tokens - 2) / 400 * 1000


def test_the_cache_and_the_search_have_parts_of_their_own(budget):
    assert budget.parts_ms[latency.LOOK_UP] >= 30
    assert next(iter(budget.parts_ms)) == "FindArticles"
    assert budget.prediction.citations == ["return-policy"]


def test_an_answer_of_the_cache_spends_nothing_at_the_model(budget):
    again = latency_budget(desk.Answer(), question=QUESTION)

    assert again.requests == 0
    assert again.parts_ms[latency.FIRST] == again.parts_ms[latency.WRITING] == 0
    assert sum(again.parts_ms.values()) == pytest.approx(again.total_ms)


@pytest.mark.parametrize("adapter", [dspy.JSONAdapter, dspy.XMLAdapter])
def test_events_that_an_adapter_reports_twice_count_once(adapter):
    with dspy.context(adapter=adapter()):
        budget = latency_budget(desk.Triage(), ticket="Where is my parcel?")

    assert sum(budget.parts_ms.values()) == pytest.approx(budget.total_ms)
    assert min(budget.parts_ms.values()) >= 0


def test_the_cache_that_was_there_is_put_back():
    class Broken(dspy.Module):
        def forward(self):
            return 1 / 0

    before = dspy.cache.get, dspy.cache.put
    with pytest.raises(ZeroDivisionError):
        latency_budget(Broken())

    assert (dspy.cache.get, dspy.cache.put) == before


def test_calls_that_overlap_are_refused():
    class Both(dspy.Module):
        def __init__(self):
            super().__init__()
            self.triage = desk.Triage()

        def forward(self):
            both = dspy.Parallel(num_threads=2, disable_progress_bar=True)
            return both([(self.triage, {"ticket": text}) for text in ("one", "two")])[0]

    with pytest.raises(LatencyError, match="at once"):
        latency_budget(Both())


def test_a_model_elsewhere_is_refused_since_its_times_are_not_known():
    class Elsewhere:
        def complete(self, request):
            return self.stream(request)

        def stream(self, request):
            text = "[[ ## category ## ]]\nbilling\n\n[[ ## urgency ## ]]\nlow\n\n[[ ## completed ## ]]"
            message = lm15.Message.assistant([lm15.TextPart(text)])
            usage = lm15.Usage(input_tokens=3, output_tokens=2, total_tokens=5)
            response = lm15.Response(
                id="1", model=request.model, message=message, finish_reason="stop", usage=usage
            )
            yield from lm15.response_to_events(response)

    with (
        dspy.context(lm=dspy.LM("else/where", engine=Elsewhere(), cache=False)),
        pytest.raises(LatencyError, match="1 calls of a model, the course's endpoint saw 0"),
    ):
        latency_budget(desk.Triage(), ticket="Where is my parcel?")


def test_a_program_that_returns_something_else_is_measured_too():
    class Plain(dspy.Module):
        def __init__(self):
            super().__init__()
            self.triage = desk.Triage()

        def forward(self, ticket):
            return self.triage(ticket=ticket).category

    assert latency_budget(Plain(), ticket="Where is my parcel?").prediction in desk.CATEGORIES


def test_it_works_inside_a_running_loop_as_in_a_notebook():
    async def cell():
        return latency_budget(desk.Triage(), ticket="Where is my parcel?")

    assert asyncio.run(cell()).requests == 1


def test_it_prints_and_draws(budget):
    text = str(budget)
    assert text.splitlines()[-1].startswith("all")
    assert latency.FIRST in text

    with mpl.rc_context({"backend": "agg"}):
        (axes,) = draw_latency_budget({"one": budget, "two": budget}).axes
        mpl.pyplot.close("all")
    assert axes.get_xlabel() == "milliseconds"
    assert len(axes.patches) == 2 * len(budget.parts_ms)
