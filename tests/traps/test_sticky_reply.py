"""A reply that cannot be parsed was a successful call: the cache keeps it, and every retry reads it again."""

from __future__ import annotations

import dspy
import pytest
from dspy.utils.exceptions import AdapterParseError

from course_lib.adapters import ReAsk
from tests.traps.conftest import SOLVED, reply

GOOD = reply("4")


def test_plain_dspy_retries_from_the_cache_and_never_asks_again(script):
    served = script("I would say four.", GOOD)
    adapter = dspy.ChatAdapter(use_json_adapter_fallback=False)
    ask = dspy.Predict("question -> answer: int")

    with dspy.context(lm=served.plain_lm(cache=True), adapter=adapter):
        for _ in range(3):
            with pytest.raises(AdapterParseError):
                ask(question="2 + 2, sticky?")

    assert len(served.bodies) == 1, SOLVED.format("unparseable replies are not cached")


def test_re_asking_is_another_request_so_the_cache_does_not_stand_in_its_way(script):
    served = script("I would say four.", GOOD)
    ask = dspy.Predict("question -> answer: int")

    with dspy.context(lm=served.plain_lm(cache=True), adapter=ReAsk(dspy.ChatAdapter())):
        answers = [ask(question="2 + 2, sticky no more?").answer for _ in range(3)]

    assert answers == [4, 4, 4]
    assert len(served.bodies) == 2
