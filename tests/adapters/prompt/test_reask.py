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


def run(adapter, *replies, is_async=False):
    model, script = scripted(replies)
    return ask(model, adapter, is_async=is_async), model, script


def ask(model, adapter, *, is_async=False):
    program = dspy.Predict(ASK)
    with dspy.context(lm=model, adapter=adapter):
        if is_async:
            return asyncio.run(program.acall(question="Does it float?"))
        return program(question="Does it float?")


BOTH = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])


@BOTH
def test_the_second_request_shows_the_bad_reply_why_it_is_bad_and_the_request_again(is_async):
    adapter = ReAsk(CustomAdapter())
    answer, model, script = run(adapter, BAD, GOOD, is_async=is_async)

    first, second = (entry["messages"] for entry in model.history)
    assert (answer.sure, script.requests) == (True, 2)
    assert second[: len(first)] == first
    assert [message["role"] for message in second[len(first) :]] == ["assistant", "user"]
    assert second[-2]["content"] == BAD
    told = text_of(second[-1])
    assert told.startswith("This reply cannot be read: sure: Input should be a valid boolean")
    assert told.endswith(text_of(first[-1]))
    assert adapter.counts == {"calls": 1, "asked_again": 1, "mended": 1}


@BOTH
def test_a_bad_reply_is_asked_again_once_a_good_one_and_an_error_of_the_model_never(is_async):
    adapter = ReAsk(CustomAdapter())
    lm.profile("down", error_rate=1.0)
    lm.reset()

    assert run(adapter, GOOD, is_async=is_async)[2].requests == 1
    with pytest.raises(dspy.LMError):
        ask(lm.connect("sim-large@down", cache=False, num_retries=0), adapter, is_async=is_async)
    assert (lm.ledger().requests, adapter.counts) == (1, {"calls": 2})
    model, script = scripted([BAD])
    with pytest.raises(AdapterParseError):
        ask(model, adapter, is_async=is_async)
    assert (script.requests, adapter.counts) == (2, {"calls": 3, "asked_again": 1})


@pytest.mark.parametrize(
    "made", [dspy.ChatAdapter, dspy.XMLAdapter, dspy.JSONAdapter, CustomAdapter], ids=lambda c: c.__name__
)
def test_around_any_adapter_it_is_the_only_second_request_and_leaves_that_adapter_as_it_was(made):
    inner = made()
    before = dict(vars(inner))
    good = inner.format_assistant_message_content(ASK, {"answer": "Yes.", "sure": True})
    with count_fallbacks() as fallbacks:
        answer, _, script = run(ReAsk(inner), "Hm.", good)

    assert (answer.answer, script.requests, len(fallbacks)) == ("Yes.", 2, 0)
    ReAsk(inner).use_native_function_calling = True
    assert vars(inner) == before


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
