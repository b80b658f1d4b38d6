"""A reply that the program cannot read does not stay in the cache; one that it can read does."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from tests.traps import conftest

script, reply = conftest.script, conftest.reply

GOOD, BAD = reply("4"), "I would say four."


def settings(served, cache):
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    return dspy.context(lm=served.plain_lm(cache=True), adapter=adapter, callbacks=[cache.watcher])


predict = dspy.Predict("question -> answer: int")


@pytest.mark.parametrize("is_async", [False, True])
def test_an_unreadable_reply_is_asked_for_again(script, cache, is_async):
    served = script(BAD, GOOD)

    def call(**inputs):
        return asyncio.run(predict.acall(**inputs)) if is_async else predict(**inputs)

    with settings(served, cache):
        with pytest.raises(AdapterParseError):
            call(question="2 + 2?")
        answers = [call(question="2 + 2?").answer for _ in range(3)]

    assert answers == [4, 4, 4]
    assert len(served.bodies) == 2
    assert cache.stats().not_kept == {"could not be parsed": 1}


def test_another_call_between_the_model_and_the_parser_is_not_blamed(script, cache):
    served = script(GOOD, BAD)

    class Nosy(dspy.ChatAdapter):
        """Asks the cache for something else before it reads."""

        def parse(self, signature, completion):
            dspy.cache.get({"question": "another"})
            return super().parse(signature, completion)

    with settings(served, cache):
        predict(question="first")
        with dspy.context(adapter=Nosy(use_json_adapter_fallback=False)), pytest.raises(AdapterParseError):
            predict(question="second")
        predict(question="first")

    assert len(served.bodies) == 2


def test_a_typed_call_gets_its_endpoint_from_the_watcher(script, cache):
    one, other = script(GOOD), script(BAD)
    request = dspy.lm15.Request(model="openai/sim-large", messages=(dspy.lm15.Message.user("hi"),))

    texts = []
    for served in (one, other, one, other):
        with settings(served, cache):
            texts.append(dspy.settings.lm(request).text)

    assert texts == [GOOD, BAD, GOOD, BAD]
    assert len(one.bodies) == len(other.bodies) == 1
