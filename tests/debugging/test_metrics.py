"""Metrics count what the model's server counts, name no person, and stay bounded."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import dspy
import pytest
from prometheus_client.parser import text_string_to_metric_families

from course_lib import desk, lm
from course_lib.caching import TieredCache
from course_lib.concurrency import resilient
from course_lib.debugging import MetricsCollector, ObservableModule
from course_lib.measure.monitor import MOST_VALUES, OTHER
from course_lib.resilience import CircuitBreaker
from tests.concurrency.waiting import until_ledger

TICKETS = [ticket.text for ticket in desk.tickets("train")]


def test_rate_errors_duration_tokens_and_cost_are_those_of_the_ledger():
    lm.profile("half", error_rate=0.5)
    with (
        MetricsCollector() as metrics,
        dspy.context(lm=lm.connect("sim-large@half", cache=False, num_retries=0)),
    ):
        triage = desk.Triage()
        dspy.Parallel(num_threads=4, max_errors=100, disable_progress_bar=True)(
            [(triage, {"ticket": text}) for text in TICKETS[:40]]
        )

    ledger, model = lm.ledger(), "sim-large@half"
    failed = ledger.statuses[500]
    assert metrics.value("dspy_requests_total", program="Triage") == 40
    assert metrics.value("dspy_requests_total", error="LMServerError") == failed > 5
    assert metrics.value("dspy_model_calls_total", model=model, error="") == 40 - failed
    assert metrics.value("dspy_model_calls_total", model=model) == 40
    assert metrics.value("dspy_request_duration_seconds_count", program="Triage") == 40
    assert metrics.value("dspy_model_duration_seconds_count", model=model) == 40 - failed
    assert metrics.value("dspy_tokens_total", direction="input") == ledger.prompt_tokens
    assert metrics.value("dspy_tokens_total", direction="output") == ledger.completion_tokens
    assert metrics.value("dspy_cost_dollars_total", model=model) == pytest.approx(ledger.cost_usd)
    assert metrics.value("dspy_requests_in_flight") == 0


@pytest.mark.anyio
async def test_cache_hits_by_tier_first_tokens_and_cancellation(monkeypatch):
    metrics = MetricsCollector()
    with metrics:
        for _ in range(3):
            await desk.Triage().acall(ticket=TICKETS[0])
        streamed = dspy.streamify(dspy.Predict("question -> answer"), is_async_program=True)
        async for _ in streamed(question="Where?"):
            pass
    monkeypatch.setattr(dspy, "cache", TieredCache())
    lm.profile("silent", hang_rate=1.0)
    with metrics:
        for _ in range(2):
            await desk.Triage().acall(ticket=TICKETS[0])
        with dspy.context(lm=lm.connect("sim-large@silent")):
            call = asyncio.create_task(desk.Triage().acall(ticket=TICKETS[1]))
        await until_ledger(lambda ledger: ledger.under_way)
        call.cancel()
        await asyncio.wait([call])

    assert metrics.value("dspy_cache_hits_total", tier="dspy") == 2
    assert metrics.value("dspy_cache_hits_total", tier="memory") == 1
    assert metrics.value("dspy_cache_misses_total") == 2
    assert metrics.value("dspy_first_token_seconds_count", model="sim-large") == 1
    assert metrics.value("dspy_requests_total", error="CancelledError") == 1
    assert metrics.value("dspy_request_duration_seconds_count") == 6
    assert metrics.value("dspy_requests_in_flight") == 0


def test_fallbacks_breakers_and_parse_failures_are_counted():
    lm.profile("down", error_rate=1.0)
    chain = resilient(lm.connect("sim-large@down", cache=False), lm.connect("sim-small", cache=False))
    with MetricsCollector() as metrics:
        with dspy.context(lm=chain):
            for number in range(3):
                desk.Triage()(ticket=TICKETS[number])
        with dspy.context(lm=lm.connect("sim-small@sloppy", cache=False)):
            for number in range(12):
                try:
                    desk.Triage()(ticket=TICKETS[number])
                except dspy.AdapterParseError:
                    continue

    assert metrics.value("dspy_fallbacks_total", kind="model") == 3
    assert metrics.value("dspy_breaker_open", breaker="course/sim-large@down") == 1
    failures = metrics.value("dspy_parse_failures_total", adapter="ChatAdapter")
    assert metrics.value("dspy_fallbacks_total", kind="adapter") == failures > 0
    assert metrics.value("dspy_tokens_total", model="sim-small") > 0


def test_values_of_a_label_are_bounded():
    metrics = MetricsCollector()
    for number in range(MOST_VALUES + 20):
        breaker = CircuitBreaker(f"customer {number}", threshold=1)
        breaker.record_failure("down")

    names = {sample.labels["breaker"] for family in text_string_to_metric_families(metrics.text())
             for sample in family.samples if sample.name == "dspy_breaker_open"}  # fmt: skip
    assert len(names) == MOST_VALUES + 1
    assert OTHER in names


def test_of_another_programs_calls_nothing_is_counted():
    with MetricsCollector() as here:
        desk.Triage()(ticket=TICKETS[0])
    elsewhere = MetricsCollector()
    desk.Triage()(ticket=TICKETS[0])

    assert here.value("dspy_requests_total") == 1
    assert elsewhere.value("dspy_requests_total") == 0


def test_nothing_personal_is_in_any_metric():
    def refund(email: str) -> str:
        """Refund."""
        raise LookupError(email)

    with MetricsCollector() as metrics:
        ObservableModule(desk.Triage())(ticket="anna@example.com")
        with pytest.raises(LookupError):
            dspy.Tool(refund)(email="anna@example.com")

    assert "anna" not in metrics.text()
    assert list(text_string_to_metric_families(metrics.text()))


def test_a_wrapped_program_counts_under_its_own_name_wherever_the_collector_is():
    metrics = MetricsCollector()
    inner = ObservableModule(desk.Triage(), metrics=metrics)
    with dspy.context(callbacks=[metrics]):
        for program in (inner, ObservableModule(inner, metrics=metrics)):
            program(ticket=TICKETS[0])
    inner(ticket=TICKETS[0])

    assert metrics.value("dspy_requests_total", program="Triage") == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_child_forked_while_metrics_are_read_counts_on():
    code = """
import os, threading, time
import dspy
from course_lib.debugging import MetricsCollector
from dspy.utils import DummyLM
dspy.configure(lm=DummyLM([{"answer": "x"}] * 1_000), callbacks=[metrics := MetricsCollector()])
program = dspy.Predict("question -> answer")
program(question="?")
locked, forked = threading.Event(), threading.Event()
def read():
    thing = metrics._requests
    child = thing.labels("Predict", "")
    with metrics.registry._lock, thing._lock, child._value._lock:
        locked.set()
        forked.wait(30)
threading.Thread(target=read).start()
locked.wait(30)
child = os.fork()
if child == 0:
    program(question="?")
    os._exit(int(metrics.value("dspy_requests_total")))
forked.set()
for _ in range(200):
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        break
    time.sleep(0.1)
else:
    os.kill(child, 9)
assert os.waitstatus_to_exitcode(status) == 2
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
