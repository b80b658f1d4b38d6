"""A cached answer inside dspy.streamify: chunks as the model sends them, then the Prediction."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest
from dspy.clients.call_result import CallResult
from dspy.lm15 import Message, Response, TextPart, ThinkingPart, ToolCallPart, Usage

from course_lib import lm
from course_lib.caching import CachedLM, TieredCache, front
from tests.caching.conftest import waiting

ADAPTERS = [dspy.ChatAdapter(), dspy.JSONAdapter(), dspy.XMLAdapter()]
FIELDS = "question -> reasoning, answer"


async def stream_of(
    question: str, *, is_async: bool = True, fields: tuple[str, ...] = ("reasoning", "answer")
) -> list[Any]:
    """Return all that a stream of a fresh program yields."""
    listeners = [dspy.streaming.StreamListener(name) for name in fields]
    program = dspy.streamify(dspy.Predict(FIELDS), stream_listeners=listeners, is_async_program=is_async)
    return [value async for value in program(question=question)]


def streamed(question: str, **options: Any) -> list[Any]:
    return asyncio.run(stream_of(question, **options))


def texts(values: list[Any]) -> dict[str, str]:
    """Return what each listener was told, joined."""
    told: dict[str, str] = {}
    for value in values[:-1]:
        told[value.signature_field_name] = told.get(value.signature_field_name, "") + value.chunk
    return told


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: type(adapter).__name__)
@pytest.mark.parametrize("is_async", [True, False], ids=["async program", "sync program"])
def test_a_hit_streams_just_as_the_model_did(model: CachedLM, adapter: dspy.Adapter, is_async: bool) -> None:
    with dspy.context(lm=model, adapter=adapter):
        live = streamed("How are boots washed?", is_async=is_async)
        again = streamed("How are boots washed?", is_async=is_async)
        answer = dspy.Predict(FIELDS)(question="How are tents dried?")  # without a stream
        other = streamed("How are tents dried?", is_async=is_async)

    assert lm.ledger().requests == 2
    assert texts(again) == texts(live)
    assert len(again) == len(live) > 4
    assert again[-1].answer == live[-1].answer
    assert [value.is_last_chunk for value in again[:-1]] == [value.is_last_chunk for value in live[:-1]]
    assert texts(other)["answer"].strip(' "') == other[-1].answer == answer.answer  # in JSON, with its quotes


def test_a_waiter_of_a_streaming_leader_waits_and_then_streams(model: CachedLM, cache: TieredCache) -> None:
    async def crowd() -> list[list[Any]]:
        streams = [asyncio.create_task(stream_of("Crowd?", fields=("answer",))) for _ in range(5)]
        await asyncio.to_thread(waiting, cache, 4)
        return await asyncio.gather(*streams)

    with dspy.context(lm=model):
        crowds = asyncio.run(crowd())

    assert lm.ledger().requests == 1
    assert len({texts(values)["answer"] for values in crowds}) == 1
    assert all(len(values) > 2 for values in crowds)


def test_a_hit_in_redis_is_loaded_once_and_streams_too(
    redis_url: str, give_dspy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = give_dspy(TieredCache(redis_url=redis_url))
    load, loads = CallResult.load, []
    with dspy.context(lm=cache.front(lm.connect())):
        live = streamed("In Redis?")
        cache.memory.clear()
        monkeypatch.setattr(CallResult, "load", lambda record: loads.append(record) or load(record))
        again = streamed("In Redis?")

    assert texts(again) == texts(live)
    assert (len(loads), cache.stats().hits) == (1, {"redis": 1})


def test_in_threads_of_parallel_a_hit_is_answered_though_it_cannot_be_shown(model: CachedLM) -> None:
    class Batch(dspy.Module):
        def forward(self) -> dspy.Prediction:
            pairs = [(dspy.Predict(FIELDS), {"question": "Parallel?"})] * 3
            return dspy.Prediction(all=dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs))

    with dspy.context(lm=model):
        dspy.Predict(FIELDS)(question="Parallel?")
        values = list(dspy.streamify(Batch(), async_streaming=False)())

    assert len(values[-1].all) == 3
    assert lm.ledger().requests == 1


def test_every_kind_of_part_is_shown_or_left_out() -> None:
    call = ToolCallPart(id="1", name="look", input={"a": 1})
    message = Message.assistant([ThinkingPart("Let me think."), TextPart("It is [[ here ]]."), call])
    response = Response(id="r", model="m", message=message, finish_reason="tool_call", usage=Usage())

    chunks = list(front.pieces_of(CallResult.native(response), "m"))
    deltas = [chunk.choices[0].delta for chunk in chunks]

    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Let me think."
    assert "".join(delta.content or "" for delta in deltas) == "It is [[ here ]]."
    assert [delta.tool_calls[0].function.name for delta in deltas if "tool_calls" in delta] == ["look"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert list(front.pieces_of(CallResult(outputs=["LiteLLM's"]), "m")) == []
