"""Traces are whole wherever a program runs, say what happened, and nothing of what was said."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from inline_snapshot import snapshot
from opentelemetry import trace
from opentelemetry.propagate import inject
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from pydantic import BaseModel

from course_lib import desk, lm
from course_lib.caching import TieredCache
from course_lib.concurrency import resilient, stream
from course_lib.debugging import DistributedTracer, Tracer, Tracing, observed, tree
from course_lib.debugging import spans as spans_module
from course_lib.debugging.spans import Place
from course_lib.debugging.steps import spans_of, steps_of
from course_lib.errors import CourseError
from course_lib.measure import PerformanceMonitor, calls
from course_lib.resilience import CircuitBreaker, retry
from tests.concurrency.waiting import until, until_ledger
from tests.debugging.traces import TRIAGE, events, everything, named, roots, shape, traces

TICKETS = [ticket.text for ticket in desk.tickets("train")]
PREDICT = ("Predict(SortTicket)", "ChatAdapter.format", "chat sim-large", "ChatAdapter.parse")


class Both(dspy.Module):
    """Two steps at once, each in a thread of DSPy's."""

    def __init__(self):
        super().__init__()
        self.triage, self.answer = desk.Triage(), dspy.ChainOfThought("question -> answer")

    def forward(self, text):
        tasks = [(self.triage, {"ticket": text}), (self.answer, {"question": text})]
        dspy.Parallel(num_threads=2, disable_progress_bar=True)(tasks)
        return self.triage(ticket=f"{text}!")


# -- whole traces ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.soak)])
def test_each_of_many_requests_over_threads_and_tasks_is_a_whole_trace(count):
    texts = [f"{TICKETS[at % 40]} ({at})" for at in range(count)]
    triage, tracer = desk.Triage(), Tracer()

    async def in_tasks(some):
        await asyncio.gather(*(triage.acall(ticket=text) for text in some[::2]))
        worker = dspy.asyncify(triage)
        await asyncio.gather(*(worker(ticket=text) for text in some[1::2]))

    def in_pool(some):
        with ThreadPoolExecutor(8) as pool:
            for text in some:
                pool.submit(contextvars.copy_context().run, triage, ticket=text)

    with tracer:
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(asyncio.run, in_tasks(texts[::3]))),
            threading.Thread(target=contextvars.copy_context().run, args=(in_pool, texts[1::3])),
        ]
        for thread in threads:
            thread.start()
        tasks = [(triage, {"ticket": text}) for text in texts[2::3]]
        dspy.Parallel(num_threads=8, disable_progress_bar=True)(tasks)
        for thread in threads:
            thread.join()

    found = traces(tracer.spans)
    assert len(found) == count
    assert all({span.name for span in each} == TRIAGE and len(each) == 5 for each in found)
    assert all(shape(each) == [("Triage", PREDICT)] for each in found)


def test_threads_of_parallel_within_a_module_stand_in_its_trace():
    with Tracer() as tracer:
        Both()(text=TICKETS[0])

    (spans,) = traces(tracer.spans)
    assert len(spans) == 1 + 3 * 5
    (both,) = roots(spans)
    below = [span.name for span in spans if span.parent and span.parent.span_id == both.context.span_id]
    assert sorted(below) == ["ChainOfThought", "Triage", "Triage"]


def test_a_block_of_ones_own_holds_what_runs_in_threads_without_a_module_around_it():
    with Tracer() as tracer, tracer.span("nightly run", tickets=3):
        desk.Triage().batch(
            [dspy.Example(ticket=text).with_inputs("ticket") for text in TICKETS[:3]],
            disable_progress_bar=True,
        )

    (spans,) = traces(tracer.spans)
    (root,) = roots(spans)
    assert (root.name, root.attributes["tickets"]) == ("nightly run", 3)
    assert len(spans) == 1 + 3 * 5


@pytest.mark.anyio
async def test_a_stream_is_one_trace_with_its_first_token():
    program = dspy.Predict("question -> answer")

    with Tracer() as tracer:
        streamed = dspy.streamify(program, is_async_program=False)  # keeps the callbacks of this moment
        async for _ in streamed(question="Where is my tent?"):
            pass
        async with stream(program, question="And my stove?") as answered:
            async for _ in answered:
                pass

    found = traces(tracer.spans)
    assert len(found) == 2
    for spans in found:
        (call,) = named(spans, "chat sim-large")
        assert call.attributes["gen_ai.request.stream"] is True
        assert 0 < call.attributes["gen_ai.response.time_to_first_chunk"] < 5


class Leaves(dspy.Module):
    """Ends before a task that it has begun, `left`."""

    async def aforward(self):
        async def later():
            await asyncio.sleep(0.05)
            await desk.Triage().acall(ticket=TICKETS[0])

        self.left = asyncio.create_task(later())
        return dspy.Prediction()


@pytest.mark.anyio
async def test_a_task_that_outlives_its_parent_stays_in_its_trace():
    leaves = Leaves()
    with Tracer() as tracer:
        await leaves.acall()
        await leaves.left

    (spans,) = traces(tracer.spans)
    assert len(spans) == 6


class Chain(dspy.Module):
    """Begins a task like itself, which outlives it, so many times."""

    def __init__(self, tracer):
        super().__init__()
        self.tracer, self.tasks = tracer, []

    async def aforward(self, left):
        with self.tracer.span("link"):
            if left:
                self.tasks.append(asyncio.create_task(self.acall(left=left - 1)))
        return dspy.Prediction()


@pytest.mark.anyio
async def test_of_a_chain_of_tasks_only_the_last_calls_are_known(monkeypatch):
    monkeypatch.setattr(calls, "_ENDED_KEPT", 5)
    with Tracer() as tracer:
        chain = Chain(tracer)
        await chain.acall(left=50)
        for task in chain.tasks:  # grows meanwhile
            await task
        chain.tasks.clear()

    gc.collect()
    known = [each for each in gc.get_objects() if type(each) is calls.Call and type(each.data) is Place]
    chained = [each for each in known if each.data.trace_id == tracer.spans[0].context.trace_id]
    assert len(tracer.spans) == 2 * 51
    assert len(chained) < 20


@pytest.mark.anyio
async def test_a_task_that_outlives_its_parent_by_too_many_calls_begins_a_trace_of_its_own(monkeypatch):
    monkeypatch.setattr("course_lib.measure.calls._ENDED_KEPT", 0)
    leaves = Leaves()
    with Tracer() as tracer:
        await leaves.acall()
        await leaves.left

    assert sorted(map(len, traces(tracer.spans))) == [1, 5]


@pytest.mark.anyio
async def test_calls_that_fail_or_are_cancelled_end_their_spans():
    lm.profile("silent", hang_rate=1.0)
    with Tracer() as tracer, dspy.context(lm=lm.connect("sim-large@silent", cache=False)):
        for ticket in TICKETS[:2]:
            call = asyncio.create_task(desk.Triage().acall(ticket=ticket))
            await until_ledger(lambda ledger: ledger.under_way)
            call.cancel()
            await asyncio.wait([call])
            await until_ledger(lambda ledger: not ledger.under_way)
    nobody = dspy.LM("openai/none", api_base="http://127.0.0.1:9/v1", api_key="k", num_retries=0)
    with Tracer() as second, dspy.context(lm=nobody), pytest.raises(dspy.LMTransportError):
        await desk.Triage().acall(ticket=TICKETS[0])
    gc.collect()

    assert [len(each) for each in traces(tracer.spans)] == [4, 4]
    assert {span.attributes["error.type"] for span in tracer.spans if not span.status.is_ok} == {
        "CancelledError"
    }
    (call,) = named(second.spans, "chat none")
    assert call.attributes["error.type"] == "LMTransportError"
    assert (call.status.description, call.attributes["gen_ai.provider.name"]) == (
        "LMTransportError",
        "openai",
    )


@pytest.mark.parametrize("adapter", [dspy.JSONAdapter, dspy.XMLAdapter, BAMLAdapter])
def test_format_and_parse_of_an_inherited_adapter_are_one_span_each(adapter):
    with Tracer() as tracer, dspy.context(adapter=adapter()):
        desk.Triage()(ticket=TICKETS[0])

    name = adapter.__name__
    assert shape(tracer.spans) == [("Triage", (PREDICT[0], f"{name}.format", PREDICT[2], f"{name}.parse"))]


def test_several_tracers_at_once_have_each_their_own_whole_traces():
    with Tracer() as first, PerformanceMonitor() as monitor, Tracer() as second, second.span("within"):
        Both()(text=TICKETS[0])
        with first.span("only of the first"):
            desk.Triage()(ticket=TICKETS[1])

    assert [len(each) for each in traces(first.spans)] == [16, 6]
    assert [len(each) for each in traces(second.spans)] == [16 + 5 + 1]
    assert monitor.report().calls == 4
    ids = [{span.context.span_id for span in each.spans} for each in (first, second)]
    assert ids[0].isdisjoint(ids[1])


def test_a_tracer_installed_twice_or_in_a_copied_program_makes_one_span():
    tracer = Tracer()
    triage = desk.Triage()
    triage.sort.callbacks = [tracer]

    with tracer:
        triage.deepcopy()(ticket=TICKETS[0])
        with pytest.raises(CourseError, match="already listening"):
            tracer.__enter__()

    assert len(tracer.spans) == 5


def test_evaluations_tools_and_optimizers_are_spans():
    def track(number: str) -> str:
        """Track a parcel."""
        raise ValueError(f"no parcel {number}")

    examples = desk.examples("train")[:4]
    with Tracer() as tracer:
        dspy.Evaluate(devset=examples, metric=desk.category_match, num_threads=2)(desk.Triage())
        with pytest.raises(ValueError, match="no parcel"):
            dspy.Tool(track)(number="NP1")
        dspy.LabeledFewShot(k=2).compile(desk.Triage(), trainset=examples)

    by_root = {roots(spans)[0].name: spans for spans in traces(tracer.spans)}
    assert set(by_root) == {"Evaluate", "execute_tool track", "LabeledFewShot"}
    (evaluation,) = roots(by_root["Evaluate"])
    assert len(named(by_root["Evaluate"], "Triage")) == 4
    assert 0 <= evaluation.attributes["gen_ai.evaluation.score.value"] <= 100
    assert by_root["execute_tool track"][0].status.description == "ValueError"


# -- a share of the traces -------------------------------------------------------------------------------


def test_of_a_share_each_trace_is_kept_whole_or_not_at_all():
    spans_module._random.seed(7)
    triage = desk.Triage()
    with Tracer(share=0.5) as tracer:
        for text in TICKETS[:10]:
            triage(ticket=text)
        dspy.Parallel(num_threads=4, disable_progress_bar=True)([(Both(), {"text": TICKETS[0]})] * 6)

    kept = traces(tracer.spans)
    assert 4 < len(kept) < 12
    assert {len(each) for each in kept} == {5, 16}
    assert all(len(roots(each)) == 1 for each in kept)


def test_the_trace_id_decides_as_opentelemetrys_sampler_does():
    sampler = TraceIdRatioBased(0.3)

    places = [spans_module.Place.below(None, sampler) for _ in range(200)]

    asked = [sampler.should_sample(None, place.trace_id, "").decision.is_sampled() for place in places]
    assert [place.is_sampled for place in places] == asked
    assert set(asked) == {True, False}
    assert len(Tracer(share=1.0).spans) == 0
    with pytest.raises(ValueError, match="range"):
        Tracer(share=1.1)


@pytest.mark.parametrize(
    ("share", "flag", "kept"), [(0, 1, 6), (0, 0, 0), (0.99, 0, 0), (1, 0, 6), (1, 1, 6)]
)
def test_the_flag_of_a_trace_from_elsewhere_is_obeyed_and_sent_on(share, flag, kept):
    header = f"00-{'ab' * 15}ff-{'cd' * 8}-0{flag}"
    with Tracer(share=share) as tracer, tracer.span("answer", of={"traceparent": header}):
        desk.Triage()(ticket=TICKETS[0])
        sent = tracer.inject({})["traceparent"]

    assert len(tracer.spans) == kept
    assert sent.startswith(header[:36])
    assert sent.endswith("-01" if kept else "-00")


@pytest.mark.parametrize(("share", "flag", "kept"), [(0, 1, 0), (1, 0, 1)])
def test_a_server_may_obey_no_flag_and_keeps_its_share_of_traces_from_elsewhere(share, flag, kept):
    header = f"00-{'ab' * 8}{'00' * 8}-{'cd' * 8}-0{flag}"  # an id that every share has in it
    with Tracer(share=share, obeys=False) as tracer, tracer.span("answer", of={"traceparent": header}):
        sent = tracer.inject({})["traceparent"]

    assert len(tracer.spans) == kept
    assert sent.startswith(header[:36])
    assert sent.endswith(f"-0{kept}")


@pytest.mark.anyio
async def test_what_outlives_a_call_that_is_not_kept_is_not_kept_either():
    leaves = Leaves()

    class Outer(dspy.Module):
        async def aforward(self):
            return await leaves.acall()

    with Tracer(share=0.0) as tracer:
        await Outer().acall()
        tracer._sampler = TraceIdRatioBased(1.0)  # whatever began a trace of its own now would be kept
        await leaves.left

    assert tracer.spans == []


# -- what a span says ------------------------------------------------------------------------------------


def test_a_models_span_follows_the_conventions():
    with Tracer() as tracer, dspy.context(lm=lm.connect("sim-large", temperature=0.5, max_tokens=500)):
        desk.Triage()(ticket=TICKETS[0])

    (call,) = named(tracer.spans, "chat sim-large")
    said = dict(call.attributes)
    ledger = lm.ledger()
    assert said.pop("gen_ai.usage.cost") == pytest.approx(ledger.cost_usd)
    assert said.pop("gen_ai.usage.input_tokens") == ledger.prompt_tokens
    assert said.pop("gen_ai.usage.output_tokens") == ledger.completion_tokens
    assert call.kind is trace.SpanKind.CLIENT
    assert said == snapshot(
        {
            "dspy.kind": "lm",
            "dspy.class": "LM",
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "sim-large",
            "gen_ai.provider.name": "course",
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.max_tokens": 500,
            "dspy.cache.hit": False,
            "gen_ai.response.model": "sim-large",
            "gen_ai.response.finish_reasons": ("stop",),
        }
    )


def test_an_answer_that_was_cut_off_says_so():
    with Tracer() as tracer, dspy.context(lm=lm.connect("sim-large", max_tokens=4, cache=False)):
        dspy.settings.lm("Tell me about the Halden tent.")
        dspy.settings.lm(dspy.lm15.Request("course/sim-large", dspy.lm15.Message.user("And the Dovre?")))

    reasons = [span.attributes["gen_ai.response.finish_reasons"] for span in tracer.spans]
    assert reasons[0] == ("length",)
    assert len(reasons) == 2


@pytest.mark.parametrize("history", [True, False])
def test_tokens_and_cost_of_all_spans_are_those_of_the_ledger(history):
    with dspy.context(disable_history=not history), Tracer() as tracer:
        Both()(text=TICKETS[0])
        Both()(text=TICKETS[0])

    calls = named(tracer.spans, "chat sim-large")
    ledger = lm.ledger()
    assert sum(span.attributes.get("gen_ai.usage.input_tokens", 0) for span in calls) == ledger.prompt_tokens
    assert sum(span.attributes.get("gen_ai.usage.cost", 0) for span in calls) == pytest.approx(
        ledger.cost_usd
    )
    assert [span.attributes["dspy.cache.hit"] for span in calls].count(True) == 3


# -- what happened, as events ----------------------------------------------------------------------------


def test_a_hit_says_its_tier(redis_url, monkeypatch):
    monkeypatch.setattr(dspy, "cache", TieredCache(redis_url=redis_url))
    model = dspy.cache.front(lm.connect("sim-large"))

    with Tracer() as tracer, dspy.context(lm=model):
        for _ in range(2):
            desk.Triage()(ticket=TICKETS[0])
        dspy.cache.reset_memory_cache()
        asyncio.run(desk.Triage().acall(ticket=TICKETS[0]))
    dspy.cache.close()

    calls = named(tracer.spans, "chat sim-large")
    assert [[(event.name, dict(event.attributes)) for event in call.events] for call in calls] == [
        [("cache.miss", {})],
        [("cache.hit", {"tier": "memory"})],
        [("cache.hit", {"tier": "redis"})],
    ]


def test_dspys_own_retries_are_seen():
    lm.profile("twice", first=["unavailable", "unavailable"])
    with Tracer() as tracer, dspy.context(lm=observed(lm.connect("sim-large@twice", cache=False))):
        desk.Triage()(ticket=TICKETS[0])

    (call,) = named(tracer.spans, "chat sim-large@twice")
    assert [event.name for event in call.events] == ["attempt.failed"] * 2
    assert call.status.is_ok


def test_retries_fallbacks_and_breakers_are_events_of_the_call():
    lm.profile("down", error_rate=1.0)
    large, small = lm.connect("sim-large@down", cache=False), lm.connect("sim-small", cache=False)

    with Tracer() as tracer, dspy.context(lm=resilient(large, small)):
        for number in range(3):
            desk.Triage()(ticket=TICKETS[number])

    happened = events(tracer.spans)
    assert happened["fallback"] == 3
    assert happened["breaker"] == happened["breaker.refused"] == 1
    calls = named(tracer.spans, "chat sim-large@down")
    assert {call.attributes["gen_ai.response.model"] for call in calls} == {"sim-small"}
    (opened,) = (event for call in calls for event in call.events if event.name == "breaker")
    assert dict(opened.attributes) == {"breaker": "course/sim-large@down", "state": "open"}


def test_a_retry_of_anything_is_an_event_of_the_span_around_it():
    tries, breaker = iter([ValueError("anna@example.com"), None]), CircuitBreaker("carrier", threshold=1)

    @retry(is_retryable=lambda error: True, first_wait_s=0.001)
    def ask():
        if error := next(tries):
            breaker.record_failure(error)
            raise error

    with Tracer() as tracer, tracer.span("ask the carrier"):
        ask()
    ask_again = Tracer()

    (span,) = tracer.spans
    assert [event.name for event in span.events] == ["breaker", "retry"]
    assert span.events[1].attributes["error"] == "ValueError"
    assert span.events[1].attributes["attempt"] == 2
    assert "anna" not in everything(tracer.spans)
    assert ask_again.spans == []


def test_a_parse_failure_and_what_follows_it_are_told():
    with Tracer() as tracer, dspy.context(lm=lm.connect("sim-small@sloppy", cache=False)):
        for number in range(12):
            try:
                desk.Triage()(ticket=TICKETS[number])
            except dspy.AdapterParseError:
                continue

    fallbacks = [event for span in tracer.spans for event in span.events if event.name == "adapter.fallback"]
    failed = [span for span in named(tracer.spans, "ChatAdapter.parse") if "error.type" in span.attributes]
    assert len(fallbacks) == len(failed) > 0
    assert fallbacks[0].attributes["adapter"] == "JSONAdapter"


# -- content ---------------------------------------------------------------------------------------------

PERSONAL = "My lamp is dead. anna.schmidt@example.com, +44 20 7946 0123, 4242 4242 4242 4242\n\nAnna Schmidt"
PARTS = ("lamp", "anna.schmidt", "7946 0123", "4242 4242", "Anna Schmidt")


def find_customer(email: str, card: str) -> str:
    """Find a customer."""
    raise LookupError(f"nobody has {email} and {card}")


def use_everything():
    desk.Triage()(ticket=PERSONAL)
    with pytest.raises(LookupError):
        dspy.Tool(find_customer)(email="anna.schmidt@example.com", card="4242 4242 4242 4242")
    with dspy.context(lm=lm.connect("sim-small@sloppy", cache=False)):
        for number in range(6):
            try:
                desk.Triage()(ticket=f"{PERSONAL} ({number})")
            except dspy.AdapterParseError:
                continue


def test_without_content_nothing_of_what_was_said_is_in_any_span(tmp_path):
    with Tracer(file=tmp_path / "run.jsonl") as tracer:
        use_everything()

    said = everything(tracer.spans) + (tmp_path / "run.jsonl").read_text("utf-8") + tree(tracer.spans)
    assert [part for part in PARTS if part in said] == []
    assert "AdapterParseError" in said


def test_content_is_redacted_in_prompts_replies_arguments_and_errors(tmp_path):
    with Tracer(content=True, file=tmp_path / "run.jsonl") as tracer:
        use_everything()

    said = everything(tracer.spans) + (tmp_path / "run.jsonl").read_text("utf-8")
    assert [part for part in PARTS if part in said] == ["lamp"]
    (tool,) = named(tracer.spans, "execute_tool find_customer")
    assert tool.attributes["gen_ai.tool.call.arguments"] == '{"email": "[email]", "card": "[card]"}'
    assert tool.status.description == "LookupError: nobody has [email] and [card]"
    call = named(tracer.spans, "chat sim-large")[0]
    assert "My lamp is dead. [email], [phone], [card]" in call.attributes["gen_ai.input.messages"]
    assert "[[ ## category ## ]]" in call.attributes["gen_ai.output.messages"]
    assert set(named(tracer.spans, "Triage")[0].attributes) >= {"input.value", "output.value"}


def test_what_cannot_be_shown_or_is_large_does_no_harm():
    class Odd:
        def __str__(self):
            raise TypeError

    class Takes(dspy.Module):
        def forward(self, what):
            return dspy.Prediction(what=what, image=dspy.Image("data:image/png;base64,AAAA"))

    with Tracer(content=True) as tracer:
        Takes()(what=Odd())
        Takes()(what="a surrogate \ud800")
        Takes()(what="x" * 2_000_000)
        Takes()(what={"self": float("nan")})

    assert len(tracer.spans) == 4
    assert all("input.value" in span.attributes for span in tracer.spans)
    assert max(len(value) for span in tracer.spans for value in span.attributes.values()) <= 16_384
    assert "cannot be shown" in tracer.spans[0].attributes["input.value"]


# -- its surroundings ------------------------------------------------------------------------------------


def test_the_process_keeps_its_own_provider_and_a_span_may_stand_in_one_that_another_library_opened():
    before = trace.get_tracer_provider()
    theirs = TracerProvider().get_tracer("a web framework")

    with Tracer() as tracer, theirs.start_as_current_span("GET /answer") as span:
        inject(carrier := {})
        with tracer.span("look up", of=carrier):
            desk.Triage()(ticket=TICKETS[0])

    assert trace.get_tracer_provider() is before
    (block,) = named(tracer.spans, "look up")
    assert block.parent.span_id == span.get_span_context().span_id
    assert {each.context.trace_id for each in tracer.spans} == {span.get_span_context().trace_id}


def test_one_call_traces_a_block_or_costs_nothing(tmp_path):
    with Tracing(enabled=False, file=tmp_path / "no.jsonl") as nothing:
        assert dspy.settings.callbacks == []
        desk.Triage()(ticket=TICKETS[0])
    with Tracing(enabled=True, file=tmp_path / "yes.jsonl") as tracer:
        desk.Triage()(ticket=TICKETS[0])

    assert nothing.spans == []
    assert not (tmp_path / "no.jsonl").exists()
    assert len((tmp_path / "yes.jsonl").read_text("utf-8").splitlines()) == len(tracer.spans) == 5
    distributed = DistributedTracer("http://127.0.0.1:9", service="answers")
    assert distributed.resource.attributes["service.name"] == "answers"


def test_a_trace_is_shown_as_a_tree():
    with Tracer() as tracer:
        desk.Triage()(ticket=TICKETS[0])

    lines = tree(tracer.spans).splitlines()
    assert [line.split("  ")[-2].strip() for line in lines] == ["Triage", *PREDICT]
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 2, 4, 4, 4]


def test_memory_is_bounded():
    tracer = Tracer(kept=7)
    with tracer:
        for number in range(5):
            desk.Triage()(ticket=TICKETS[number])

    assert len(tracer.spans) == 7
    assert tracer._open == {}


def test_content_is_what_it_was_at_the_time_and_a_redaction_that_fails_shows_nothing():
    class Changes(dspy.Module):
        def forward(self, items):
            items.append("later")
            return dspy.Prediction(items=items)

    def fails(value):
        raise KeyError(value)

    with Tracer(content=True) as tracer, Tracer(content=True, redact=fails) as closed:
        Changes()(items=["first"])

    assert tracer.spans[0].attributes["input.value"] == '{"items": ["first"]}'
    assert tracer.spans[0].attributes == tracer.spans[0].attributes
    assert "first" not in everything(closed.spans)
    assert "not shown: KeyError" in closed.spans[0].attributes["input.value"]


def test_a_redaction_that_takes_its_time_holds_up_no_other_tracer():
    begun, may_go_on = threading.Event(), threading.Event()

    def waits(value):
        begun.set()
        may_go_on.wait(60)
        return value

    with Tracer(content=True, redact=waits) as slow, Tracer(content=True) as other:
        desk.Triage()(ticket=TICKETS[0])
    reading = threading.Thread(target=lambda: slow.spans)
    reading.start()
    assert begun.wait(60)
    assert any("input.value" in span.attributes for span in other.spans)
    assert reading.is_alive()
    may_go_on.set()
    reading.join()


def test_where_long_content_is_cut_no_half_of_a_thing_is_left():
    class Takes(dspy.Module):
        def forward(self, texts):
            return dspy.Prediction()

    with Tracer(content=True) as tracer:
        for filler in range(15_900, 16_300, 9):
            Takes()(texts=["y " * (filler // 2) + "4242 4242 4242 4242 or anna.schmidt@example.com"])

    shown = "".join(span.attributes["input.value"] for span in tracer.spans)
    assert "4242" not in shown
    assert "anna" not in shown
    assert "[card]" in shown


class Model(BaseModel):
    what: Any


@dataclass
class Data:
    what: Any


ITERATORS = {
    "generator": lambda: (each for each in "abc"),
    "map": lambda: map(str, "abc"),
    "zip": lambda: zip("abc", strict=False),
    "StringIO": lambda: io.StringIO("a\nb\nc"),
}


@pytest.mark.parametrize("name", ITERATORS)
@pytest.mark.parametrize("held_by", [list, dict, Model, Data, dspy.Prediction])
def test_what_can_be_read_only_once_is_left_to_the_program(name, held_by):
    class Passes(dspy.Module):
        def forward(self, what, inside):
            return what

    one, other = ITERATORS[name](), ITERATORS[name]()
    inside = [other] if held_by is list else held_by(what=other)
    with Tracer(content=True) as tracer:
        passed = Passes()(what=one, inside=inside)

    assert len([*passed]) == len([*other]) == 3
    assert f"(a {name})" in tracer.spans[0].attributes["output.value"]
    assert tracer.spans[0].attributes["input.value"].count(f"(a {name})") == 2


def test_a_value_that_holds_itself_many_times_takes_no_time():
    class Takes(dspy.Module):
        def forward(self, what):
            return dspy.Prediction()

    what: list[Any] = []
    what += [what] * 500
    with Tracer(content=True) as tracer:
        Takes()(what=what)

    assert "input.value" in tracer.spans[0].attributes


@pytest.mark.anyio
async def test_a_span_in_a_generator_that_is_left_early_is_no_error():
    failed = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))

    async def numbers():
        with tracer.span("numbers"):
            for number in range(3):
                yield number

    async def read_one():
        async for _ in numbers():
            break

    with Tracer() as tracer:
        await asyncio.create_task(read_one())
        gc.collect()
        await until(lambda: tracer.spans)
        gc.collect()

    assert failed == []
    assert tracer.spans[0].status.is_unset
    assert dspy.settings.callbacks == []


@pytest.mark.parametrize("hours", [1, -1])
def test_a_calendar_that_is_set_meanwhile_moves_no_span_against_another(monkeypatch, hours):
    now, hour_ns = time.time_ns, 3_600 * 10**9

    with Tracer() as tracer, tracer.span("outer") as outer:
        monkeypatch.setattr(time, "time_ns", lambda: now() + hours * hour_ns)
        with tracer.span("inner"):
            outer.add_event("event", {})

    inner, outer = tracer.spans
    assert outer.start_time <= inner.start_time <= outer.events[0].timestamp <= inner.end_time
    assert inner.end_time <= outer.end_time < outer.start_time + hour_ns
    steps = steps_of(spans_of(tracer.spans))
    assert sum(step.self_s for step in steps.values()) <= 1e-6 + (outer.end_time - outer.start_time) / 1e9
