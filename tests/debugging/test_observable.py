"""A program is watched without being changed, and stopped by an error of DSPy's when its budget is spent."""

from __future__ import annotations

import asyncio
import copy
import time

import anyio
import dspy
import pytest
from dspy.utils import DummyLM

from course_lib import desk, lm
from course_lib.caching import current_scope, scope
from course_lib.concurrency import RateLimit, ResilientProcessor, limited, resilient, stream
from course_lib.debugging import Budget, BudgetExceeded, MetricsCollector, ObservableModule, Tracer, observed
from course_lib.errors import CourseError
from tests.debugging.traces import named, traces

TICKETS = [ticket.text for ticket in desk.tickets("train")]


class Loops(dspy.Module):
    """Asks again and again, as an agent may; catches what its calls raise, as programs do."""

    def __init__(self, times=10, lm=None):
        super().__init__()
        self.triage, self.times = desk.Triage(), times
        self.triage.sort.lm = lm

    def forward(self, ticket):
        for number in range(self.times):
            last = self.triage(ticket=f"{ticket} {number}")
        return last

    async def aforward(self, ticket):
        for number in range(self.times):
            last = await self.triage.acall(ticket=f"{ticket} {number}")
        return last


def test_answers_usage_and_errors_are_the_programs():
    tracer = Tracer()
    program = ObservableModule(desk.Triage(), tracer)

    with dspy.context(track_usage=True):
        plain, watched = desk.Triage()(ticket=TICKETS[0]), program(ticket=TICKETS[1])
        again = asyncio.run(program.acall(ticket=TICKETS[2]))

    assert {type(plain), type(watched), type(again)} == {dspy.Prediction}
    assert watched.get_lm_usage()["course/sim-large"]["prompt_tokens"] > 0
    assert program.metrics.value("dspy_requests_total", program="Triage", error="") == 2
    assert [len(each) for each in traces(tracer.spans)] == [5, 5]
    assert dspy.settings.callbacks == []
    with pytest.raises(TypeError):
        program(nothing="of the kind")
    assert program.metrics.value("dspy_requests_total", error="TypeError") == 1


@pytest.mark.parametrize(
    "budget", [Budget(attempts=3), Budget(tokens=2_000), Budget(cost_usd=0.003)], ids=str
)
@pytest.mark.parametrize("way", ["sync", "async", "stream"])
def test_a_spent_budget_stops_the_run_before_the_next_call(budget, way):
    program = ObservableModule(Loops(), per_request=budget)

    async def streamed():
        async with stream(program, fields=["category"], ticket=TICKETS[0]) as answered:
            (error,) = [event for event in [e async for e in answered] if hasattr(event, "cause")]
        raise error.cause

    runs = {
        "sync": lambda: program(ticket=TICKETS[0]),
        "async": lambda: asyncio.run(program.acall(ticket=TICKETS[0])),
        "stream": lambda: asyncio.run(streamed()),
    }
    model = lm.connect("sim-large", cache=False)
    with (
        dspy.context(lm=model),
        pytest.raises(BudgetExceeded, match=r"request is spent: .* the trace") as told,
    ):
        runs[way]()
    ledger = lm.ledger()

    assert isinstance(told.value, dspy.LMError)
    assert isinstance(told.value, CourseError)
    assert not dspy.is_retryable_lm_error(told.value)
    assert 1 < ledger.requests < 10
    spent = {
        "attempts": ledger.requests,
        "tokens": ledger.prompt_tokens + ledger.completion_tokens,
        "cost_usd": ledger.cost_usd,
    }
    name, limit = next((n, v) for n in spent if (v := getattr(budget, n)) != float("inf"))
    each = spent[name] / ledger.requests
    assert limit <= spent[name] < limit + 1.2 * each


def test_answers_of_a_cache_cost_nothing_and_the_next_request_begins_anew():
    program = ObservableModule(Loops(2), per_request=Budget(attempts=2))

    for _ in range(3):
        program(ticket=TICKETS[0])
    for number in range(3):
        program(ticket=TICKETS[number])

    assert lm.ledger().requests == 6


def test_a_tenants_budget_holds_over_requests_and_for_no_other_tenant():
    program = ObservableModule(
        Loops(1), per_tenant=Budget(attempts=4), tenant=lambda: current_scope().tenant, period_s=3_600
    )
    asked = {"north": 0, "south": 0}

    def ask(tenant, number):
        with scope(tenant=tenant):
            program(ticket=f"{TICKETS[number]} {tenant} {asked}")
        asked[tenant] += 1

    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        for number in range(4):
            ask("north", number)
        with pytest.raises(BudgetExceeded, match="this tenant"):
            ask("north", 4)
        ask("south", 0)
        program._tenants.expire(time.monotonic() + 3_500)
        with pytest.raises(BudgetExceeded, match="this tenant"):
            ask("north", 4)
        program._tenants.expire(time.monotonic() + 3_600)
        ask("north", 4)

    assert asked == {"north": 5, "south": 1}


def test_a_budget_reaches_threads_models_of_the_programs_own_and_models_that_fall_back():
    lm.profile("down", error_rate=1.0)
    own = ObservableModule(Loops(lm=lm.connect("sim-small", cache=False)), per_request=Budget(attempts=2))
    with pytest.raises(BudgetExceeded):
        own(ticket=TICKETS[0])
    assert lm.ledger().requests == 2

    lm.reset()
    chain = ResilientProcessor(Loops(), lm.connect("sim-large@down"), lm.connect("sim-small", cache=False))
    resilient = ObservableModule(chain, per_request=Budget(tokens=1_500))
    with pytest.raises(BudgetExceeded):
        resilient(ticket=TICKETS[0])
    assert 1_500 <= lm.ledger().prompt_tokens + lm.ledger().completion_tokens < 2_500

    lm.reset()

    class Wide(dspy.Module):
        def forward(self, tickets):
            tasks = [(desk.Triage(), {"ticket": text}) for text in tickets]
            run = dspy.Parallel(
                num_threads=2, max_errors=99, disable_progress_bar=True, return_failed_examples=True
            )
            return dspy.Prediction(failed=run(tasks)[2])

    with dspy.context(lm=lm.connect("sim-large", cache=False)):
        answer = ObservableModule(Wide(), per_request=Budget(attempts=5))(tickets=TICKETS[:12])
    assert [type(error) for error in answer.failed] == [BudgetExceeded] * 7
    assert lm.ledger().requests == 5


WAYS = {
    "in the context": lambda predict, model: lambda q: _within(model, predict, q),
    "as an argument": lambda predict, model: lambda q: predict(question=q, lm=model),
    "directly": lambda predict, model: model,
    "by hand, of the old kind": lambda predict, model: (
        lambda q: predict(question=q, lm=DummyLM([{"answer": q}]))
    ),
}


def _within(model, predict, question):
    with dspy.context(lm=model):
        return predict(question=question)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_no_other_model_leads_past_a_budget(way):
    asked = []

    class Asks(dspy.Module):
        def forward(self, question):
            ask = way(dspy.Predict("question -> answer"), lm.connect("sim-small", cache=False))
            for number in range(4):
                ask(f"{question} {number}")
                asked.append(number)

    program = ObservableModule(Asks(), per_request=Budget(attempts=2))

    with pytest.raises(BudgetExceeded):
        program(question="How much?")
    assert asked == [0, 1]


@pytest.mark.parametrize("wrap", [lambda model: limited(model, RateLimit(1_000)), resilient])
def test_an_attempt_below_an_engine_of_ours_counts_once(wrap):
    program = ObservableModule(Loops(), per_request=Budget(attempts=2))

    with dspy.context(lm=wrap(lm.connect("sim-large", cache=False))), pytest.raises(BudgetExceeded):
        program(ticket=TICKETS[0])
    assert lm.ledger().requests == 2


@pytest.mark.parametrize("is_stream", [False, True])
def test_calls_that_are_cancelled_spend_too(is_stream):
    lm.profile("late", ttft_p50_ms=0 if is_stream else 2_000, speed_p50_tokens_per_s=20)
    program = ObservableModule(desk.Triage(), per_tenant=Budget(tokens=1_000), tenant=lambda: "one")

    async def given_up(number):
        answering = asyncio.ensure_future(program.acall(ticket=TICKETS[number]))
        done, _ = await asyncio.wait([answering], timeout=0.3)
        answering.cancel()
        await asyncio.wait([answering])
        return [type(each.exception()) for each in done]

    async def ask():
        send, receive = anyio.create_memory_object_stream(1_000)
        model, stream = lm.connect("sim-large@late", cache=False), send if is_stream else None
        with send, receive, dspy.context(lm=model, send_stream=stream):
            ended = [await given_up(number) for number in range(8)]
            return ended, receive.statistics().current_buffer_used

    ended, pieces = asyncio.run(ask())

    least = 1 + 1_000 // (lm.ledger().prompt_tokens / lm.ledger().requests)
    assert (pieces > 8) == is_stream
    stopped = ended.index([BudgetExceeded])
    assert ended[stopped:] == [[BudgetExceeded]] * (8 - stopped)
    assert abs(stopped - least) <= 2
    assert lm.ledger().requests <= stopped


def test_nested_budgets_count_a_call_once_each():
    inner = ObservableModule(Loops(3), per_request=Budget(attempts=100))
    outer = ObservableModule(inner, per_request=Budget(tokens=100_000))

    with dspy.context(lm=lm.connect("sim-large", cache=False)), MetricsCollector() as metrics:
        outer(ticket=TICKETS[0])

    assert metrics.value("dspy_model_calls_total") == lm.ledger().requests == 3
    assert outer.metrics.value("dspy_model_calls_total") == inner.metrics.value("dspy_model_calls_total") == 3


def test_an_observed_model_is_like_the_one_it_is_made_of():
    model = lm.connect("sim-large", temperature=0.3)
    seen = observed(model)

    assert observed(seen) is seen
    assert seen.supports_function_calling == model.supports_function_calling
    assert seen("Hello?") == model("Hello?")
    assert lm.ledger().requests == 1, "one key in the cache"


def test_a_copy_for_an_optimizer_counts_with_the_first():
    program = ObservableModule(desk.Triage())
    examples = desk.examples("train")[:3]

    compiled = dspy.LabeledFewShot(k=2).compile(program, trainset=examples)
    compiled(ticket=TICKETS[0])
    copy.deepcopy(program)(ticket=TICKETS[1])

    assert len(compiled.program.sort.demos) == 2
    assert program.program.sort.demos == []
    assert program.metrics.value("dspy_requests_total") == 2


@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "5"])
def test_a_budget_that_allows_nothing_is_refused(value):
    with pytest.raises(ValueError, match="give a number above 0"):
        Budget(tokens=value)


@pytest.mark.parametrize("period_s", [0, -1, float("nan")])
def test_a_period_that_never_holds_is_refused(period_s):
    with pytest.raises(ValueError, match="give seconds above 0"):
        ObservableModule(desk.Triage(), period_s=period_s)


def test_failed_attempts_are_seen_in_the_trace_of_a_watched_program():
    lm.profile("once", first=["unavailable"])
    tracer = Tracer()
    with dspy.context(lm=lm.connect("sim-large@once", cache=False)):
        program = ObservableModule(desk.Triage(), tracer)
        program(ticket=TICKETS[0])

    (call,) = named(tracer.spans, "chat sim-large@once")
    assert [event.name for event in call.events] == ["attempt.failed"]
    assert program.metrics.value("dspy_retries_total", error="ServerError") == 1


class Asks(dspy.Module):
    """Asks ten times, with listeners of its own or none."""

    def forward(self, question, **settings):
        for number in range(10):
            with dspy.context(**settings):
                dspy.Predict("question -> answer")(question=f"{question} {number}")
        return dspy.Prediction()


@pytest.mark.parametrize("budget", [Budget(tokens=1_000), Budget(cost_usd=0.005)], ids=str)
def test_a_model_that_reports_no_usage_leads_past_no_budget(budget):
    model = DummyLM([{"answer": "It is on its way."}] * 10)

    with dspy.context(lm=model), MetricsCollector() as metrics, pytest.raises(BudgetExceeded):
        ObservableModule(Asks(), per_request=budget)(question="Where is it?")

    assert metrics.value("dspy_tokens_total") == 0
    assert 1 < metrics.value("dspy_model_calls_total") < 10


def test_a_program_with_no_listeners_leads_past_no_budget():
    with dspy.context(lm=lm.connect("sim-small", cache=False)), pytest.raises(BudgetExceeded):
        ObservableModule(Asks(), per_request=Budget(tokens=600))(question="What is 2 + 3?", callbacks=[])

    assert 600 <= lm.ledger().prompt_tokens + lm.ledger().completion_tokens < 1_000
