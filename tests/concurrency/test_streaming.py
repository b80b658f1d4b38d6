"""A stream of one run: its events, its ends, and what it leaves behind."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import dspy
import pytest

from course_lib import desk, lm
from course_lib.caching import TieredCache, current_scope, scope
from course_lib.concurrency import HalfAnswer, RateDeadlineExceeded, Unanswered, resilient
from course_lib.concurrency.streaming import (
    Citation,
    Done,
    Error,
    Event,
    Final,
    NotAPredictionError,
    Status,
    Stream,
    Token,
    UnknownFieldError,
    as_json,
    from_json,
    kind_of,
    stream,
    streams,
)
from course_lib.resilience import BreakerOpen, BulkheadFull, Deadline, DeadlineExceeded
from tests.concurrency.waiting import until, until_ledger
from tests.traps.conftest import script  # noqa: F401  a fixture

pytestmark = pytest.mark.anyio
QUESTION = "How long does express delivery take?"
FIELDS = ("reasoning", "answer")
ASK = "question -> reasoning, answer"


def model(name: str = "streams", **profile: Any) -> dspy.LM:
    """The course's model under a profile of this test's own, without a cache, and an empty ledger."""
    lm.connect()
    lm.profile(name, **profile)
    lm.reset()
    return lm.connect(f"sim-large@{name}", cache=False, num_retries=0)


async def read(events: Stream) -> list[Event]:
    async with events:
        return [event async for event in events]


async def streamed(program: dspy.Module, lm_: dspy.LM, *, adapter: Any = None, **options: Any) -> list[Event]:
    """Return all events of one stream."""
    with dspy.context(lm=lm_, adapter=adapter):
        return await read(stream(program, **options))


def text_of(events: Sequence[Event], field: str = "answer") -> str:
    return "".join(event.text for event in events if isinstance(event, Token) and event.field == field)


class Sync(dspy.Module):
    """A program without `aforward`."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict(ASK)

    def forward(self, question: str) -> Any:
        return self.ask(question=question)


class Ends(dspy.Module):
    """A program that ends as it is told to."""

    def __init__(self, end: Callable[[], Any]) -> None:
        super().__init__()
        self.ask, self.end = dspy.Predict("question -> answer"), end

    async def aforward(self) -> Any:
        return self.end()


@pytest.mark.parametrize(
    "adapter", [None, dspy.JSONAdapter(), dspy.XMLAdapter()], ids=["chat", "json", "xml"]
)
@pytest.mark.parametrize("program", [dspy.Predict(ASK), Sync()], ids=["async", "sync"])
async def test_the_fields_asked_for_come_as_tokens_then_the_answer_then_done(program, adapter) -> None:
    events = await streamed(program, model(), adapter=adapter, fields=FIELDS, question=QUESTION)

    *tokens, final, done = events
    assert isinstance(final, Final)
    assert done == Done()
    for field in FIELDS:
        own = [one for one in tokens if isinstance(one, Token) and one.field == field]
        assert len(own) > 3
        assert not any(one.is_replayed for one in own)
        assert [one.is_last for one in own] == [False] * (len(own) - 1) + [True]
        assert text_of(events, field) == final.fields[field] == final.prediction[field]


async def test_a_program_streams_for_the_second_request_and_for_many_at_once() -> None:
    program = dspy.Predict("question -> answer")
    questions = [f"What is {n} + {n}?" for n in range(20)]

    with dspy.context(lm=model(speed_p50_tokens_per_s=200)):
        first = await read(stream(program, question=questions[0]))
        found = [first, *await asyncio.gather(*(read(stream(program, question=q)) for q in questions))]

    for n, events in zip([0, *range(20)], found, strict=True):
        assert sum(isinstance(event, Token) for event in events) >= 2
        assert text_of(events) == events[-2].fields["answer"]
        assert str(2 * n) in text_of(events)


async def test_a_finished_answer_is_cut_into_tokens_that_say_so() -> None:
    program, cached = dspy.Predict(ASK), lm.connect(rollout_id=7, temperature=1.0)
    await streamed(program, cached, question=QUESTION)

    again = await streamed(program, cached, question=QUESTION)
    own_adapter = await streamed(program, model(), adapter=_Own(), question=QUESTION)

    for events in (again, own_adapter):
        own = [event for event in events if isinstance(event, Token)]
        assert len(own) > 3
        assert all(one.is_replayed for one in own)
        assert text_of(events) == events[-2].fields["answer"]


@pytest.mark.parametrize(
    "adapter", [None, dspy.JSONAdapter(), dspy.XMLAdapter()], ids=["chat", "json", "xml"]
)
@pytest.mark.parametrize("fields", ["citations: list[str], answer", "answer, citations: list[str]"])
async def test_a_finished_answer_comes_in_the_order_in_which_the_model_writes(fields, adapter) -> None:
    article = "[otter] The ferry\nThe ferry to the island leaves at ten."
    inputs = {"context": [article], "question": "When does the ferry to the island leave?"}
    program = dspy.Predict(f"context: list[str], question -> {fields}")

    live, own = [
        await streamed(program, model(), adapter=one, citations="citations", **inputs)
        for one in (adapter, _Own())
    ]

    orders = [list(dict.fromkeys(kind_of(event) for event in events)) for events in (live, own)]
    assert orders[0] == orders[1]
    assert orders[0].index("citation") == (0 if fields.startswith("citations") else 1)


class _Own(dspy.ChatAdapter):
    """DSPy's listeners refuse an adapter of another name."""


async def test_hits_of_the_tiered_cache_stream_like_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = TieredCache()
    monkeypatch.setitem(vars(dspy), "cache", cache)
    front = cache.front(lm.connect())

    live, hit = [await streamed(dspy.Predict(ASK), front, question="A hit?") for _ in range(2)]

    assert hit == live
    assert cache.stats().hits == {"memory": 1}
    cache.close()


async def test_citations_come_while_the_answer_is_written_each_once() -> None:
    events = await streamed(
        desk.Answer(), model(), fields=["answer"], citations="citations", question="Can I return a used tent?"
    )

    cited = [event for event in events if isinstance(event, Citation)]
    final = next(event for event in events if isinstance(event, Final))
    assert cited
    assert [one.source for one in cited] == list(dict.fromkeys(final.prediction.citations))
    assert [one.number for one in cited] == list(range(1, len(cited) + 1))
    assert set(final.fields) == {"answer"}


async def test_the_tools_of_an_agent_are_told_also_where_they_run_in_threads(tmp_path, caplog) -> None:
    agent = desk.Act(desk.Session(audit=tmp_path / "audit.jsonl"))
    ticket = "Please refund EUR 39 for order O-10161, the Glow lamp was broken."

    events = await streamed(agent, model(), ticket=ticket)

    told = [event.text for event in events if isinstance(event, Status)]
    assert any("refund" in text for text in told)
    assert text_of(events) == events[-2].fields["answer"]
    assert not caplog.records


class _Words(dspy.streaming.StatusMessageProvider):
    def lm_start_status_message(self, instance: Any, inputs: Any) -> str:
        return "The model is asked."

    def module_end_status_message(self, outputs: Any) -> str:
        return "A module has ended."


class Long(dspy.Module):
    """A program that writes its answer many times."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question: str) -> Any:
        for _ in range(29):
            await self.ask.acall(question=question)
        return await self.ask.acall(question=question)


async def test_a_reader_who_waits_slows_the_program_and_loses_nothing() -> None:
    with dspy.context(lm=model()):
        slow = stream(Long(), status=_Words(), question=QUESTION)
    events: list[Event] = []
    async with slow:
        async for event in slow:
            if not events:
                await until(lambda: slow._count - slow._read == streams.AHEAD)
                assert lm.ledger().requests < 30
            events.append(event)

    told = [event.text for event in events if isinstance(event, Status)]
    assert told.count("The model is asked.") == 30
    assert told.count("A module has ended.") == 31
    assert text_of(events) == events[-2].fields["answer"] * 30


@pytest.mark.parametrize("program", [dspy.Predict(ASK), Sync()], ids=["async", "sync"])
def test_a_reader_who_leaves_ends_the_request_to_the_model(program) -> None:
    async def main() -> None:
        with dspy.context(lm=model(speed_p50_tokens_per_s=10)):
            async with stream(program, fields=FIELDS, question=QUESTION) as events:
                async for event in events:
                    assert isinstance(event, Token)
                    break
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await until_ledger(lambda ledger: ledger.requests == 1)

    before = threading.active_count()
    asyncio.run(main())

    assert lm.ledger().statuses == {499: 1}
    assert threading.active_count() <= before + 1  # asyncio's pool may keep an idle one


@pytest.mark.parametrize("program", [dspy.Predict("question -> answer"), Sync()], ids=["async", "sync"])
async def test_a_reader_who_leaves_while_the_program_waits_for_him_leaves_no_error_behind(
    program, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(streams, "AHEAD", 4)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    with dspy.context(lm=model(speed_p50_tokens_per_s=1000)):
        async with stream(program, question=QUESTION) as events:
            async for _ in events:
                await until(lambda: events._news._waiters)
                break
    gc.collect()
    await until_ledger(lambda ledger: ledger.requests == 1)

    assert not told


@pytest.mark.soak  # the model is waited for, until its time-out
async def test_a_program_in_a_thread_whose_model_is_silent_keeps_no_reader_waiting() -> None:
    silent = model(hang_rate=1.0).copy(timeout=8)

    with dspy.context(lm=silent):
        reader = asyncio.create_task(read(stream(Sync(), question=QUESTION)))
    await until_ledger(lambda ledger: ledger.under_way == 1)
    reader.cancel()
    await asyncio.wait([reader])
    assert lm.ledger().under_way == 1  # the thread still waits for its model
    await until_ledger(lambda ledger: ledger.requests == 1)


async def _break(events: Stream) -> None:
    async for _ in events:
        break


async def _cancel(events: Stream) -> None:
    reader = asyncio.create_task(read(events))
    await until_ledger(lambda ledger: ledger.under_way == 1)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


@pytest.mark.parametrize("end", [_break, _cancel])
async def test_a_plain_loop_that_breaks_and_a_reader_that_is_cancelled_end_the_run_too(end) -> None:
    with dspy.context(lm=model(speed_p50_tokens_per_s=10)):
        await end(stream(dspy.Predict(ASK), fields=FIELDS, question=QUESTION))
    await until_ledger(lambda ledger: ledger.requests == 1)

    assert lm.ledger().statuses == {499: 1}


async def test_an_answer_that_breaks_off_is_told_with_what_came() -> None:
    events = await streamed(
        dspy.Predict(ASK), model(cut_midway_rate=1.0), fields=FIELDS, question="What is 21 + 21?"
    )

    *tokens, error, done = events
    assert done == Done()
    assert isinstance(error, Error)
    assert error.code in {"stream_assembly", "transport"}
    assert isinstance(error.cause, dspy.LMError)
    assert tokens
    assert error.partial == {field: text for field in FIELDS if (text := text_of(tokens, field))}


async def test_an_answer_at_the_limit_of_tokens_is_marked() -> None:
    whole = await streamed(dspy.Predict("question -> answer"), model(), question=QUESTION)
    limited = model()
    limited.kwargs["max_tokens"] = 8

    cut = await streamed(dspy.Predict("question -> answer"), limited, question=QUESTION)

    assert not whole[-2].is_cut
    assert cut[-2].is_cut
    assert text_of(cut) == cut[-2].fields["answer"] != whole[-2].fields["answer"]


@pytest.mark.parametrize("question", [QUESTION, "What is 21 + 21?"])
async def test_an_answer_whose_stream_ends_without_a_reason_is_marked(question) -> None:
    events = await streamed(dspy.Predict("question -> answer"), model(no_finish_rate=1.0), question=question)

    assert text_of(events) == events[-2].fields["answer"]
    assert events[-2].is_cut


def _raise(error: BaseException, cause: BaseException | None = None) -> None:
    raise error from cause


OWN = {
    BreakerOpen: "breaker_open",
    BulkheadFull: "bulkhead_full",
    DeadlineExceeded: "deadline",
    HalfAnswer: "stream_assembly",
    RateDeadlineExceeded: "rate_deadline",
    Unanswered: "unanswered",
}
FAILURES: dict[str, Any] = {
    **{kind.__name__: (partial(_raise, kind("sk-secret")), code, kind) for kind, code in OWN.items()},
    "no model has room": (lambda: _raise(Unanswered("sk-"), BulkheadFull("y")), "bulkhead_full", Unanswered),
    "half, then late": (lambda: _raise(HalfAnswer("sk-"), dspy.LMTimeoutError("y")), "timeout", HalfAnswer),
    "not a prediction": (lambda: "text", "not_a_prediction", NotAPredictionError),
    "nothing": (lambda: None, "not_a_prediction", NotAPredictionError),
    "a bug": (lambda: 1 / 0, "internal", ZeroDivisionError),
    "a time-out of its own": (lambda: _raise(TimeoutError("sk-secret")), "deadline", TimeoutError),
    "a task of its own, cancelled": (
        lambda: _raise(asyncio.CancelledError("x")),
        "not_a_prediction",
        NotAPredictionError,
    ),
}


@pytest.mark.parametrize(("end", "code", "kind"), FAILURES.values(), ids=FAILURES.keys())
async def test_a_program_that_fails_ends_its_stream_with_a_code_and_a_sentence(end, code, kind) -> None:
    error, done = await streamed(Ends(end), model())

    assert (error.code, done) == (code, Done())
    assert isinstance(error.cause, kind)
    assert str(error.cause) not in str(as_json(error))


class EndsInThread(Ends):
    """The same without `aforward`."""

    aforward = property()  # hasattr() finds none

    def forward(self) -> Any:
        return self.end()


class Odd:
    """A value that ends the process when it is to be shown."""

    def __str__(self) -> str:
        raise SystemExit(1)


@pytest.mark.parametrize("program", [Ends, EndsInThread])
@pytest.mark.parametrize(
    "end",
    [
        partial(_raise, SystemExit(1)),
        partial(_raise, KeyboardInterrupt()),
        partial(_raise, GeneratorExit()),
        partial(_raise, BaseExceptionGroup("two", [SystemExit(2)])),
        lambda: dspy.Prediction(answer=Odd()),
    ],
    ids=["exit", "interrupt", "generator exit", "group", "value"],
)
def test_a_program_that_would_end_the_event_loop_ends_its_own_stream_alone(program, end) -> None:
    lm_ = model()

    error, done = asyncio.run(streamed(program(end), lm_))

    assert error.code in {"not_a_prediction", "internal"}
    assert done == Done()


async def test_an_answer_of_a_resilient_model_that_breaks_off_has_the_same_code_as_without() -> None:
    cut, question = model(cut_midway_rate=1.0), "What is 21 + 21?"

    plain, wrapped = [
        (await streamed(dspy.Predict(ASK), one, fields=FIELDS, question=question))[-2]
        for one in (cut, resilient(cut))
    ]

    assert wrapped.code == plain.code != "lm_error"
    assert isinstance(wrapped.cause, HalfAnswer)


async def test_an_error_of_the_provider_gives_none_of_its_text() -> None:
    limited = model(limit_requests_per_s=0.01)
    await streamed(dspy.Predict(ASK), limited, question=QUESTION)

    error, _ = await streamed(dspy.Predict(ASK), limited, question=QUESTION)

    assert error.code == "rate_limit"
    assert error.retry_after_s > 0
    assert set(as_json(error)) == {"code", "message", "partial", "retry_after_s"}


async def test_the_deadline_of_the_place_ends_the_stream() -> None:
    with dspy.context(lm=model(hang_rate=1.0)), Deadline.after(0.2).applied():
        error, done = await read(stream(dspy.Predict(ASK), question=QUESTION))

    assert (error.code, done) == ("deadline", Done())


async def test_the_run_sees_the_context_of_the_place_where_the_stream_was_made() -> None:
    mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="nobody")
    seen: list[Any] = []
    program = Ends(lambda: seen.append((mine.get(), str(current_scope()))) or dspy.Prediction(answer="x"))

    with dspy.context(lm=model()), scope(tenant="A"):
        mine.set("me")
        made = stream(program)
    mine.set("somebody else")
    with scope(tenant="B"):
        await read(made)

    assert seen[0][0] == "me"
    assert "'A'" in seen[0][1]


async def test_a_field_of_several_predictors_is_named_with_its_predictor() -> None:
    class Two(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.draft, self.revise = (
                dspy.Predict("question -> answer"),
                dspy.Predict("question, draft -> answer"),
            )

        async def aforward(self, question: str) -> Any:
            draft = await self.draft.acall(question=question)
            return await self.revise.acall(question=question, draft=draft.answer)

    events = await streamed(Two(), model(), fields=["draft.answer", "revise.answer"], question=QUESTION)

    assert text_of(events, "draft.answer")
    assert text_of(events, "revise.answer") == events[-2].fields["answer"]
    with pytest.raises(
        UnknownFieldError, match=r"2 predictors; ask for one of: draft\.answer, revise\.answer"
    ):
        stream(Two(), question=QUESTION)
    with pytest.raises(UnknownFieldError, match="'anser' is written by 0 predictors"):
        stream(Two(), fields=["anser"], question=QUESTION)


class Named(dspy.Module):
    """A program whose input has the name of an option."""

    async def aforward(self, status: str) -> None: ...


@pytest.mark.parametrize(
    "program", [dspy.Predict("status -> answer"), dspy.ChainOfThought("grace_s -> answer"), Named()]
)
def test_a_program_with_an_input_that_is_named_like_an_option_is_refused(program) -> None:
    with pytest.raises(ValueError, match=r"an input '(status|grace_s)', which is an option of stream\(\)"):
        stream(program)


async def test_a_reader_who_comes_back_gets_what_he_has_not_seen() -> None:
    with dspy.context(lm=model(speed_p50_tokens_per_s=100)):
        events = stream(dspy.Predict(ASK), fields=FIELDS, question=QUESTION)
        events._grace_s = 30.0
    seen = []
    async for number, event in events.follow():
        seen.append(event)
        if number == 3:
            break
    wrong = [event async for _, event in events.follow(after=10_000)]
    assert [kind_of(event) for event in wrong] == ["error", "done"]
    seen += [event async for _, event in events.follow(after=3)]
    whole = [event async for _, event in events.follow()]
    assert [pair async for pair in events.follow(after=len(whole))] == [(len(whole), Done())]

    assert seen == whole
    assert seen[-1] == Done()
    assert lm.ledger().requests == 1


async def test_text_in_json_comes_without_its_quotes_and_escapes(script) -> None:  # noqa: F811
    answer = 'Say "hi"\n\tto \u00fc \\ C:\\new, then {"a": [1]}.'
    written = json.dumps({"reasoning": "Because.", "answer": answer})

    events = await streamed(
        dspy.Predict(ASK), script(written).plain_lm(), adapter=dspy.JSONAdapter(), fields=FIELDS, question="a"
    )

    assert text_of(events) == events[-2].fields["answer"] == answer
    assert sum(isinstance(event, Token) for event in events) > 10


def test_an_event_comes_back_from_json_as_it_was() -> None:
    for event in (Token("answer", "a\nb", is_last=True), Error("x", "Y.", {"answer": "half"}), Done()):
        assert from_json(kind_of(event), json.dumps(as_json(event))) == event


@pytest.mark.soak
async def test_readers_who_leave_at_any_moment_leave_nothing_behind() -> None:
    chance = random.Random(7)

    async def one(program: dspy.Module, number: int) -> None:
        events = stream(program, fields=FIELDS, question=f"What is {number} + {number}?")
        with suppress(TimeoutError):
            async with asyncio.timeout(chance.choice([0, 0.01, 0.1, 0.5, 5])), events:
                most = chance.randrange(1, 40)
                async for event in events:
                    most -= 1
                    if not most or isinstance(event, Error):
                        break

    slow = model(ttft_p50_ms=50, ttft_p99_ms=400, speed_p50_tokens_per_s=20, cut_midway_rate=0.2)

    programs = [dspy.Predict(ASK), Sync()]
    with dspy.context(lm=slow):
        for _ in range(6):
            await asyncio.gather(*(one(programs[n % 2], n) for n in range(60)))
    await until_ledger(lambda ledger: not ledger.under_way)
    await slow.aclose()

    assert {200, 499} <= set(lm.ledger().statuses)
