import asyncio
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from course_lib import lm
from course_lib.adapters import CustomAdapter, ReAsk, count_fallbacks
from course_lib.adapters.prompt.script import scripted, text_of

ASK = dspy.Signature("question -> answer, sure: bool")
GOOD = "answer: Yes.\nsure: True"
BAD = "answer: Yes.\nsure: perhaps"


def ask(is_async):
    program = dspy.Predict(ASK)
    if is_async:
        return asyncio.run(program.acall(question="Does it float?"))
    return program(question="Does it float?")


def run(adapter, *replies, is_async=False):
    model, script = scripted(replies)
    with dspy.context(lm=model, adapter=adapter):
        answer = ask(is_async)
    return answer, model, script


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_second_request_shows_the_bad_reply_why_it_is_bad_and_the_request_again(is_async):
    adapter = ReAsk(CustomAdapter())
    answer, model, script = run(adapter, BAD, GOOD, is_async=is_async)

    first, second = (entry["messages"] for entry in model.history)
    assert answer.sure is True
    assert script.requests == 2
    assert second[: len(first)] == first
    assert [message["role"] for message in second[len(first) :]] == ["assistant", "user"]
    assert second[-2]["content"] == BAD
    told = text_of(second[-1])
    assert told.startswith("This reply cannot be read: sure: Input should be a valid boolean")
    assert told.endswith(text_of(first[-1]))
    assert adapter.counts == {"calls": 1, "asked_again": 1, "mended": 1}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_good_reply_is_one_request_and_a_bad_one_is_asked_again_at_most_once(is_async):
    adapter = ReAsk(CustomAdapter())

    assert run(adapter, GOOD, is_async=is_async)[2].requests == 1
    assert adapter.counts == {"calls": 1}
    model, script = scripted([BAD])
    with dspy.context(lm=model, adapter=adapter), pytest.raises(AdapterParseError):
        ask(is_async)
    assert script.requests == 2
    assert adapter.counts == {"calls": 2, "asked_again": 1}


@pytest.mark.parametrize(
    "inner", [dspy.ChatAdapter, dspy.XMLAdapter, dspy.JSONAdapter, CustomAdapter], ids=lambda c: c.__name__
)
def test_around_any_adapter_it_is_the_only_second_request(inner):
    good = inner().format_assistant_message_content(ASK, {"answer": "Yes.", "sure": True})
    with count_fallbacks() as fallbacks:
        answer, _, script = run(ReAsk(inner()), "Hm.", good)

    assert answer.answer == "Yes."
    assert script.requests == 2
    assert len(fallbacks) == 0


def test_the_adapter_it_was_given_is_left_as_it_was():
    inner = dspy.ChatAdapter()
    ReAsk(inner).use_native_function_calling = True

    assert inner.use_json_adapter_fallback is True
    assert inner.use_native_function_calling is False


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_errors_of_the_model_are_never_asked_again(is_async):
    lm.profile("down", error_rate=1.0)
    lm.reset()
    adapter = ReAsk(CustomAdapter())
    down = lm.connect("sim-large@down", cache=False, num_retries=0)

    with dspy.context(lm=down, adapter=adapter), pytest.raises(dspy.LMError):
        ask(is_async)

    assert lm.ledger().requests == 1
    assert adapter.counts == {"calls": 1}


def test_what_a_reader_has_seen_in_a_stream_is_not_asked_again():
    model, script = scripted([BAD, GOOD])

    async def collect():
        program = dspy.streamify(dspy.Predict(ASK), is_async_program=True)
        return [part async for part in program(question="?")]

    with dspy.context(lm=model, adapter=ReAsk(CustomAdapter())), pytest.raises(AdapterParseError):
        asyncio.run(collect())

    assert script.requests == 1


def test_the_counts_hold_in_threads():
    adapter = ReAsk(CustomAdapter())

    def one(_):
        return run(adapter, BAD, GOOD)[0].sure

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(40)))
    assert adapter.counts == {"calls": 40, "asked_again": 40, "mended": 40}
