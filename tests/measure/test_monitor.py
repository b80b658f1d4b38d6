"""The monitor counts what the endpoint counts, wherever the calls run."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import copy
import re
import threading
from dataclasses import replace

import dspy
import pytest
from dspy.utils.callback import BaseCallback

from course_lib import desk, lm
from course_lib.caching import CacheManager
from course_lib.errors import CourseError
from course_lib.measure import PerformanceMonitor
from tests.models import model  # noqa: F401

TICKETS = [ticket.text for ticket in desk.tickets("train")]


def assert_agrees_with_the_ledger(monitor):
    report, ledger = monitor.report(), lm.ledger()
    assert report.calls - report.cached == ledger.requests
    assert report.usage.prompt_tokens == ledger.prompt_tokens
    assert report.usage.completion_tokens == ledger.completion_tokens
    assert report.usage.cost_usd == pytest.approx(ledger.cost_usd)


# -- wherever the calls run -------------------------------------------------------------------------------


def in_a_batch(triage, tickets):
    examples = [dspy.Example(ticket=ticket).with_inputs("ticket") for ticket in tickets]
    triage.batch(examples, num_threads=40, disable_progress_bar=True)


def in_parallel(triage, tickets):
    dspy.Parallel(num_threads=4, disable_progress_bar=True)([(triage, {"ticket": t}) for t in tickets])


def in_tasks(triage, tickets):
    async def gathered():
        await asyncio.gather(*(triage.acall(ticket=ticket) for ticket in tickets))

    asyncio.run(gathered())


def in_asyncify(triage, tickets):
    async def gathered():
        worker = dspy.asyncify(triage)
        await asyncio.gather(*(worker(ticket=ticket) for ticket in tickets))

    asyncio.run(gathered())


def in_own_threads(triage, tickets):
    def run(context, ticket):
        context.run(triage, ticket=ticket)

    threads = [threading.Thread(target=run, args=(contextvars.copy_context(), t)) for t in tickets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    "way", [in_a_batch, in_parallel, in_tasks, in_asyncify, in_own_threads], ids=lambda f: f.__name__
)
def test_tokens_cost_and_calls_are_those_of_the_ledger(way):
    with PerformanceMonitor() as monitor:
        way(desk.Triage(), TICKETS[:40])

    assert_agrees_with_the_ledger(monitor)
    (program,) = monitor.report().programs
    assert (program.name, program.calls) == ("Triage", 40)


def test_a_module_within_a_module_is_one_answer():
    class Twice(dspy.Module):
        def __init__(self):
            super().__init__()
            self.triage = desk.Triage()

        def forward(self, tickets):
            in_parallel(self.triage, tickets)
            return self.triage(ticket=tickets[0])

    with PerformanceMonitor() as monitor:
        Twice()(tickets=TICKETS[:3])

    report = monitor.report()
    assert [(row.name, row.calls) for row in report.programs] == [("Twice", 1)]
    assert (report.calls, report.cached) == (4, 1)


# -- cache hits, errors, cancellation ---------------------------------------------------------------------


@pytest.mark.parametrize("disable_history", [False, True])
def test_a_hit_is_known_as_a_hit_and_costs_nothing(disable_history):
    with dspy.context(disable_history=disable_history), PerformanceMonitor() as monitor:
        for _ in range(2):
            in_tasks(desk.Triage(), TICKETS[:1])

    (row,) = monitor.report().models
    assert (row.calls, row.cached) == (2, 1)
    assert (row.answered, len(row.latency_ms)) == (1, 1)
    assert_agrees_with_the_ledger(monitor)


def test_errors_are_counted_by_class_and_kept_out_of_the_latency():
    lm.profile("broken", error_rate=1.0)
    with dspy.context(lm=lm.connect("sim-large@broken", num_retries=0)), PerformanceMonitor() as monitor:
        for _ in range(3):
            with pytest.raises(dspy.LMServerError):
                desk.Triage()(ticket=TICKETS[0])

    (row,) = monitor.report().models
    assert row.errors == {"LMServerError": 3}
    assert (row.calls, len(row.latency_ms)) == (3, 0)
    assert "errors: LMServerError 3" in str(monitor.report())


def test_a_retry_is_part_of_its_call():
    lm.profile("once", timeline=[(0, 0.5, {"unavailable_rate": 1.0})])
    with dspy.context(lm=lm.connect("sim-large@once", num_retries=1)), PerformanceMonitor() as monitor:
        desk.Triage()(ticket=TICKETS[0])

    (row,) = monitor.report().models
    assert (row.calls, row.answered, lm.ledger().requests) == (1, 1, 2)
    assert row.latency_ms[0] > sum(call.duration_ms for call in lm.ledger().calls)


def test_a_cancelled_call_is_no_error():
    lm.profile("slow", ttft_p50_ms=500, ttft_p99_ms=500)

    async def give_up():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(desk.Triage().acall(ticket=TICKETS[0]), 0.1)

    with dspy.context(lm=lm.connect("sim-large@slow")), PerformanceMonitor() as monitor:
        asyncio.run(give_up())

    (row,) = monitor.report().models
    assert (row.calls, row.cancelled, row.errors.total()) == (1, 1, 0)


# -- streams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True], ids=["sync program", "async program"])
def test_the_first_token_of_a_stream_is_timed_before_its_end(is_async):
    lm.profile(
        "typing", ttft_p50_ms=100, ttft_p99_ms=100, speed_p50_tokens_per_s=120, speed_p99_tokens_per_s=120
    )

    async def read():
        stream = dspy.streamify(desk.Answer(), is_async_program=is_async)
        return [part async for part in stream(question="How many days do I have to return an item?")]

    with dspy.context(lm=lm.connect("sim-large@typing")), PerformanceMonitor() as monitor:
        parts = asyncio.run(read())

    (row,) = monitor.report().models
    assert len(parts) > 5
    assert isinstance(parts[-1], dspy.Prediction)
    assert 0 < row.first_token_ms[0] < row.latency_ms[0]
    assert_agrees_with_the_ledger(monitor)


# -- living with others -----------------------------------------------------------------------------------


@pytest.mark.parametrize("track_usage", [True, False], ids=["of the prediction", "of a block"])
def test_a_usage_tracker_of_the_reader_counts_as_before(track_usage):
    with dspy.context(track_usage=track_usage), PerformanceMonitor():
        block = contextlib.nullcontext() if track_usage else dspy.track_usage()
        with block as tracker:
            prediction = desk.Triage()(ticket=TICKETS[0])

    used = prediction.get_lm_usage() if tracker is None else tracker.get_total_tokens()
    assert used["course/sim-large"]["prompt_tokens"] == lm.ledger().prompt_tokens


def test_a_monitor_within_a_monitor_counts_its_block_and_both_count_it():
    with PerformanceMonitor() as outer:
        desk.Triage()(ticket=TICKETS[0])
        with PerformanceMonitor() as inner:
            desk.Triage()(ticket=TICKETS[1])

    assert (outer.report().calls, inner.report().calls) == (2, 1)
    assert_agrees_with_the_ledger(outer)


def test_callbacks_that_are_there_stay_and_come_back():
    there = BaseCallback()
    with dspy.context(callbacks=[there]):
        with PerformanceMonitor() as monitor:
            assert dspy.settings.callbacks == [there, monitor]
        assert dspy.settings.callbacks == [there]
    assert dspy.settings.get("usage_tracker") is None


def test_a_model_that_hears_for_itself_is_counted_in_copies_and_in_threads_that_inherit_nothing(model):  # noqa: F811
    monitor = PerformanceMonitor()
    listening = copy.deepcopy(model.copy(callbacks=[monitor]))  # as optimizers copy programs, models and all
    thread = threading.Thread(target=listening, args=("Where is my parcel?",))
    thread.start()
    thread.join()

    assert monitor.report().calls == 1
    assert_agrees_with_the_ledger(monitor)


def test_entering_twice_is_refused_and_listening_twice_counts_once():
    with PerformanceMonitor() as monitor, pytest.raises(CourseError, match="already listening"):
        monitor.__enter__()

    with dspy.context(callbacks=[monitor, monitor]):
        desk.Triage()(ticket=TICKETS[0])
    assert_agrees_with_the_ledger(monitor)


def test_a_model_called_by_a_model_is_not_paid_twice():
    large = lm.connect("sim-large")

    class Through:
        def complete(self, request):
            return large(replace(request, model=large.model))

    chain = dspy.LM("fallback/chain", engine=Through(), cache=False)
    with dspy.context(lm=chain), PerformanceMonitor() as monitor:
        desk.Triage()(ticket=TICKETS[0])

    report = monitor.report()
    assert [(row.name, row.calls) for row in report.models] == [("fallback/chain", 1)]
    assert report.usage.prompt_tokens == lm.ledger().prompt_tokens
    assert "without a listed price" in str(report)


def test_hits_followers_and_replays_of_our_own_cache_are_hits():
    async def asked(triage):
        await triage.acall(ticket=TICKETS[0])  # a hit
        await asyncio.gather(*(triage.acall(ticket=TICKETS[1]) for _ in range(20)))  # one leads, 19 follow
        stream = dspy.streamify(triage, is_async_program=True)
        return [part async for part in stream(ticket=TICKETS[1])]  # replayed

    with (
        CacheManager() as manager,
        dspy.context(lm=manager.front(lm.connect("sim-large"))),
        PerformanceMonitor() as monitor,
    ):
        desk.Triage()(ticket=TICKETS[0])
        parts = asyncio.run(asked(desk.Triage()))

    assert len(parts) > 2
    report = monitor.report()
    assert (report.calls, report.cached, lm.ledger().requests) == (23, 21, 2)
    assert_agrees_with_the_ledger(monitor)


# -- the report -------------------------------------------------------------------------------------------


def test_the_report_reads_as_text():
    with PerformanceMonitor() as monitor:
        before = monitor.report()
        desk.Triage()(ticket=TICKETS[0])

    text = repr(monitor)
    assert "0.0 answers/s" in repr(before), "a report stays as it was"
    assert re.search(r"^course/sim-large +1 +0 +0 ", text, re.MULTILINE)
    assert re.search(r"CPU \d+% of one core; memory \d+ MB", text)
    assert "little more than the slowest" in text


def test_two_monitors_at_once_agree_and_leave_the_settings_as_they_were():
    before = dspy.settings.get("usage_tracker")
    first, second = PerformanceMonitor(), PerformanceMonitor()
    with first, second:
        desk.Triage()(ticket=TICKETS[0])
        assert dspy.settings.get("usage_tracker") is before
        desk.Triage()(ticket=TICKETS[1])

    assert_agrees_with_the_ledger(first)
    assert_agrees_with_the_ledger(second)


def test_names_without_end_take_no_memory_without_end():
    with PerformanceMonitor() as monitor:
        for number in range(200):
            with pytest.raises(Error):
                type(f"Program{number}", (Failing,), {})()(type(f"Error{number}", (Error,), {}))

    rows = monitor.report().programs
    assert [len(rows), rows[0].name, rows[-1].name, rows[-1].calls] == [51, "Program0", "other", 150]
    assert len(rows[-1].errors) == 51
    assert rows[-1].errors["other"] == 100


class Error(Exception):
    pass


class Failing(dspy.Module):
    def forward(self, error):
        raise error
