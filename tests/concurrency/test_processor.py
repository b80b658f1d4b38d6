"""A program goes on although its model fails; counted at the endpoint, sync and async."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from dspy.lm15 import StreamDeltaEvent, StreamStartEvent, TextDelta

from course_lib import desk, lm
from course_lib.concurrency.policies import (
    Coalesce,
    ExponentialBackoff,
    Hedge,
    Timeout,
    guarded_by,
    is_outage,
    limited_by,
)
from course_lib.concurrency.processor import (
    HalfAnswer,
    ResilientProcessor,
    Unanswered,
    only_answers,
    recommended,
    resilient,
    shared_key,
)
from course_lib.lm.endpoint.faults import draw
from course_lib.measure import PerformanceMonitor
from course_lib.resilience import (
    BreakerOpen,
    Bulkhead,
    BulkheadFull,
    CircuitBreaker,
    Deadline,
    DeadlineExceeded,
)
from tests.concurrency.waiting import until_ledger

pytestmark = pytest.mark.anyio
TICKETS = [example.ticket for example in desk.examples("train")]


@pytest.fixture(autouse=True)
def _profiles() -> None:
    lm.connect()
    lm.profile("down", unavailable_rate=1.0)
    lm.profile("half", cut_midway_rate=1.0)
    lm.profile("never", hang_rate=1.0)
    lm.profile("moment", ttft_p50_ms=100, ttft_p99_ms=101)
    lm.reset()


def processor(*profiles: str, policies: Any = (), **options: Any) -> ResilientProcessor:
    """Return a desk.Triage on sim-large with these profiles, and on sim-small for one named "small"."""
    models = [lm.connect("sim-small" if each == "small" else f"sim-large@{each}") for each in profiles]
    return ResilientProcessor(desk.Triage(), *models, policies=lambda _name, **_: list(policies), **options)


async def in_task(program: Any, ticket: str = TICKETS[0]) -> Any:
    return await program.acall(ticket=ticket)


async def in_thread(program: Any, ticket: str = TICKETS[0]) -> Any:
    return await asyncio.to_thread(program, ticket=ticket)


both_forms = pytest.mark.parametrize("ask", [in_task, in_thread])


@both_forms
async def test_another_model_answers_and_is_named(ask):
    program = processor("down", "small")

    with dspy.context(track_usage=True):
        prediction = await ask(program)

    (calls,) = [call for call in lm.ledger().calls if call.status == 200]
    assert prediction.answered_by == ["course/sim-small"]
    assert prediction.category == (await in_task(processor("small"))).category
    usage = prediction.get_lm_usage()
    assert {name: each["prompt_tokens"] for name, each in usage.items()} == {
        "course/sim-small": calls.prompt_tokens
    }


async def test_the_monitor_counts_what_each_model_cost():
    with PerformanceMonitor() as monitor:
        await in_task(processor("down", "small"))

    ledger = lm.ledger()
    usage = monitor.report().usage
    assert (usage.prompt_tokens, usage.cost_usd) == (ledger.prompt_tokens, pytest.approx(ledger.cost_usd))


@both_forms
async def test_there_is_one_layer_of_retries(ask):
    program = processor("down", policies=[ExponentialBackoff(2, first_wait_s=0.001)])

    with pytest.raises(dspy.LMServerError):
        await ask(program)

    assert lm.ledger().requests == 2


@both_forms
async def test_the_deadline_ends_the_request_at_the_models_server(ask):
    for deadline_s in (0.2, 1.0, 5.0):  # on a busy machine the first ones may pass before there is a request
        with pytest.raises(DeadlineExceeded):
            await ask(processor("never", deadline_s=deadline_s))
        if (ledger := lm.ledger()).requests or ledger.under_way:
            break

    await until_ledger(lambda ledger: ledger.statuses == {499: 1} and not ledger.under_way)


class Both(dspy.Module):
    """Asks twice, in threads of DSPy's."""

    def forward(self, ticket: str) -> dspy.Prediction:
        parallel = dspy.Parallel(num_threads=2, disable_progress_bar=True)
        asked = [(desk.Triage(), {"ticket": f"{ticket} {n}"}) for n in range(2)]
        return dspy.Prediction(answers=parallel(asked), left_s=Deadline.current().remaining_s())


@pytest.mark.parametrize(("profile", "answers"), [("moment", 2), ("never", 0)])
def test_the_deadline_and_the_names_reach_dspys_threads(profile, answers):
    program = ResilientProcessor(Both(), lm.connect(f"sim-large@{profile}"), deadline_s=5 if answers else 0.5)

    begun_s = time.monotonic()
    prediction = program(ticket=TICKETS[0])

    assert time.monotonic() - begun_s < 15  # the endpoint's own patience is longer
    assert len(prediction.answered_by) == 2 - prediction.answers.count(None) == answers
    assert bool(prediction.left_s) == bool(answers)


async def test_to_cancel_the_caller_ends_the_request_at_the_models_server():
    call = asyncio.create_task(in_task(processor("never", policies=[Coalesce(key=shared_key)])))
    await until_ledger(lambda ledger: ledger.under_way == 1)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    await until_ledger(lambda ledger: ledger.statuses == {499: 1})


@both_forms
async def test_tools_see_the_deadline_and_the_context_of_the_caller(ask):
    class Looks(dspy.Module):
        def forward(self, ticket: str) -> dspy.Prediction:
            return dspy.Prediction(left_s=Deadline.current().remaining_s(), mark=dspy.settings.get("mark"))

        async def aforward(self, ticket: str) -> dspy.Prediction:
            return await asyncio.to_thread(self.forward, ticket)

    with dspy.context(mark="mine"):
        seen = await ask(ResilientProcessor(Looks(), lm.connect(), deadline_s=60))

    assert (seen.mark, 0 < seen.left_s <= 60, Deadline.current()) == ("mine", True, None)


@both_forms
async def test_an_open_breaker_spares_the_model_and_says_so(ask):
    breaker = CircuitBreaker("large", threshold=2, first_wait_s=600, is_failure=is_outage)
    alone = processor("down", policies=[guarded_by(breaker)])
    for _ in range(2):
        with pytest.raises(dspy.LMServerError):
            await ask(alone)

    with pytest.raises(BreakerOpen, match="large is not asked at the moment"):
        await ask(alone.deepcopy())
    with pytest.raises(Unanswered), dspy.context(lm=alone.lm):
        await ask(desk.Triage())

    assert lm.ledger().requests == 2


async def test_a_full_bulkhead_sends_the_rest_to_another_model():
    full = lambda name, **_: [limited_by(Bulkhead(name, limit=1 if "large" in name else 99))]  # noqa: E731
    models = lm.connect("sim-large@moment"), lm.connect("sim-small")
    program = ResilientProcessor(desk.Triage(), *models, policies=full)

    predictions = await asyncio.gather(*(in_task(program, ticket) for ticket in TICKETS[:5]))

    answered_by = sorted(str(each.answered_by) for each in predictions)
    assert answered_by == ["['course/sim-large@moment']", *["['course/sim-small']"] * 4]
    alone = ResilientProcessor(desk.Triage(), models[0], policies=full)
    outcomes = await asyncio.gather(*(in_task(alone, each) for each in TICKETS[:2]), return_exceptions=True)
    assert [type(each) for each in outcomes] == [dspy.Prediction, BulkheadFull]


def _seed_whose_first_request_hangs() -> int:
    for seed in itertools.count():
        plans = [draw(lm.Profile("any", hang_rate=0.5, seed=seed), "sim-large", n) for n in (0, 1)]
        if [plan.fault for plan in plans] == ["hang", None]:
            return seed
    raise AssertionError


@both_forms
async def test_a_hedged_requests_loser_is_cancelled_at_the_models_server(ask):
    lm.profile("hangs-first", hang_rate=0.5, seed=_seed_whose_first_request_hangs())
    program = processor("hangs-first", policies=[Hedge(0.05, is_idempotent=only_answers)])

    assert (await ask(program)).answered_by == ["course/sim-large@hangs-first"]

    await until_ledger(lambda ledger: ledger.statuses == {200: 1, 499: 1})


@both_forms
async def test_identical_requests_at_once_are_one_and_counted_once(ask):
    program = processor("moment", policies=recommended("large", is_last=True)[:1])
    with PerformanceMonitor() as monitor:
        answers = await asyncio.gather(*(ask(program) for _ in range(4)))

    assert lm.ledger().requests == 1
    assert [each.answered_by for each in answers] == [["course/sim-large@moment"]] * 4
    assert monitor.report().usage.prompt_tokens == lm.ledger().prompt_tokens


async def stream_of(program: Any, *, is_async: bool) -> list[Any]:
    listeners = [dspy.streaming.StreamListener("category"), dspy.streaming.StreamListener("urgency")]
    streaming = dspy.streamify(program, stream_listeners=listeners, is_async_program=is_async)
    return [each async for each in streaming(ticket=TICKETS[0])]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_stream_falls_back_before_its_first_token(is_async):
    events = await stream_of(processor("down", "small"), is_async=is_async)

    assert any(isinstance(each, dspy.streaming.StreamResponse) for each in events)
    assert events[-1].answered_by == ["course/sim-small"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_nothing_is_repeated_after_the_first_token_of_a_stream(is_async):
    policies = [ExponentialBackoff(3, first_wait_s=0.001, is_retryable=lambda _error: True)]

    with pytest.raises(HalfAnswer, match="broke off after its first token"):
        await stream_of(processor("half", "small", policies=policies), is_async=is_async)

    assert lm.ledger().requests == 1


class Stalls:
    """An engine whose stream goes on `for_s` after its first token, and then fails."""

    def __init__(self, for_s: float) -> None:
        self.for_s, self.begun, self.is_open = for_s, 0, False

    async def complete(self, _request: Any) -> Any:
        raise NotImplementedError

    async def stream(self, _request: Any) -> AsyncIterator[Any]:
        self.begun, self.is_open = self.begun + 1, True
        try:
            yield StreamStartEvent(id="1", model="stalls")
            yield StreamDeltaEvent(TextDelta(text="Once"))
            await asyncio.sleep(self.for_s)
            raise dspy.LMServerError("down")
        finally:
            self.is_open = False


def events_of(model: dspy.LM, **options: Any) -> AsyncIterator[Any]:
    """Return the events of a stream of a resilient model."""
    model = resilient(model, **options)
    request = dspy.lm15.Request(model=model.model, messages=(dspy.lm15.Message.user("Tell me a story."),))
    return model._async_engine_spec.stream(request)


@pytest.fixture
def stalls() -> Callable[..., tuple[Stalls, dspy.LM]]:
    def stalls(for_s: float) -> tuple[Stalls, dspy.LM]:
        unused = SimpleNamespace(complete=lambda _request: None)
        return (engine := Stalls(for_s)), dspy.LM("stalls", engine=unused, async_engine=engine)

    return stalls


async def test_no_stream_is_hedged_after_its_first_token(stalls):
    engine, model = stalls(0.4)
    hedged = lambda _name, **_: [Hedge(0.2, is_idempotent=only_answers)]  # noqa: E731

    with pytest.raises(HalfAnswer):
        _ = [each async for each in events_of(model, policies=hedged)]

    assert engine.begun == 1


async def test_a_reader_who_leaves_ends_the_stream_at_the_models_server():
    lm.profile("slowly", speed_p50_tokens_per_s=5)

    events = events_of(lm.connect("sim-large@slowly"))
    assert [(await anext(events)).type for _ in range(2)] == ["start", "delta"]
    await events.aclose()

    await until_ledger(lambda ledger: ledger.statuses == {499: 1} and not ledger.under_way)


async def test_a_reader_who_leaves_ends_a_stream_that_stalls(stalls):
    engine, model = stalls(600)

    events = events_of(model)
    assert [(await anext(events)).type for _ in range(2)] == ["start", "delta"]
    assert engine.is_open
    await events.aclose()

    assert not engine.is_open


async def test_sync_calls_leave_no_thread_and_no_connection():
    threads = set()

    async def note(call: Any, request: Any) -> Any:
        threads.add(threading.current_thread())
        return await call(request)

    program = processor("moment", policies=[note])
    await asyncio.gather(*(in_thread(program, ticket) for ticket in TICKETS[:4]))

    assert len(threads) == 4
    assert not any(each.is_alive() for each in threads)
    assert not program.lm._engine_store


@pytest.mark.parametrize("calls", [60, pytest.param(600, marks=pytest.mark.soak)])
async def test_in_bad_weather_all_are_answered_and_nothing_is_left(calls):
    faults = {"unavailable_rate": 0.2, "hang_rate": 0.05, "cut_before_rate": 0.1, "cut_midway_rate": 0.1}
    lm.profile("bad", ttft_p50_ms=10, ttft_p99_ms=100, **faults)
    bulkheads = []

    def policies(name: str, *, is_last: bool) -> list[Any]:
        bulkheads.append(Bulkhead(name, limit=8, waiting=8 if not is_last else calls))
        every = recommended(name, is_last=is_last)
        every[2:4] = Hedge(0.3, is_idempotent=only_answers), limited_by(bulkheads[-1])
        return [*every[:-1], Timeout(60 if is_last else 1)]

    models = lm.connect("sim-large@bad"), lm.connect("sim-large")
    program = ResilientProcessor(desk.Triage(), *models, policies=policies, deadline_s=60)
    asking = [asyncio.create_task(in_task(program, f"{TICKETS[n % 20]} {n // 2}")) for n in range(calls)]
    for call in asking[::7]:
        await asyncio.sleep(0.01)
        call.cancel()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)

    failed = [each for each in outcomes if not isinstance(each, dspy.Prediction)]
    assert {type(each) for each in failed} <= {asyncio.CancelledError}
    assert len(failed) <= len(asking[::7])
    await until_ledger(lambda ledger: not ledger.under_way)
    assert [each._free for each in bulkheads] == [8, 8]


def test_a_predictor_with_a_model_of_its_own_is_refused():
    program = desk.Triage()
    program.set_lm(lm.connect())

    with pytest.raises(ValueError, match="has a model of its own; give it here"):
        ResilientProcessor(program, lm.connect())


def test_samples_and_streams_are_nobody_elses():
    def request(**config: Any) -> dspy.lm15.Request:
        messages = (dspy.lm15.Message.user("?"),)
        return dspy.lm15.Request(model="m", messages=messages, config=dspy.lm15.Config(**config))

    assert shared_key(request()) == shared_key(request()) != shared_key(request(max_tokens=5))
    assert shared_key(request(temperature=0.0)) is not None
    assert shared_key(request(temperature=0.7)) is None


def test_a_policy_can_be_left_out_by_name_and_only_by_a_name_that_there_is():
    assert len(recommended("large", is_last=True, without=["hedge", "breaker"])) == 4
    with pytest.raises(ValueError, match=r"hedges.*coalescing, backoff"):
        recommended("large", is_last=True, without=["hedges"])
