"""A well-formed answer with a label that is not allowed costs a second call, in another format."""

from __future__ import annotations

from typing import Literal

import dspy

from course_lib.adapters import ReAsk
from tests.traps.conftest import SOLVED, reply

BAD, GOOD = reply("parcels", "category"), reply("shipping", "category")
GOOD_JSON = '{"category": "shipping"}'


class Sort(dspy.Signature):
    ticket: str = dspy.InputField()
    category: Literal["shipping", "billing"] = dspy.OutputField()


def test_plain_dspy_asks_again_in_json_and_does_not_say_what_was_wrong(script):
    served = script(BAD, GOOD_JSON)

    with dspy.context(lm=served.plain_lm(), adapter=dspy.ChatAdapter()):
        answer = dspy.Predict(Sort)(ticket="Where is my parcel?")

    assert answer.category == "shipping"
    assert len(served.bodies) == 2, SOLVED.format("a bad Literal costs no second call")
    assert "JSON object" in served.prompts[1]
    assert "parcels" not in served.prompts[1]


def test_re_asking_keeps_the_format_and_says_what_was_wrong(script):
    served = script(BAD, GOOD)
    adapter = ReAsk(dspy.ChatAdapter())

    with dspy.context(lm=served.plain_lm(), adapter=adapter):
        answer = dspy.Predict(Sort)(ticket="Where is my parcel?")

    assert answer.category == "shipping"
    assert "JSON object" not in served.prompts[1]
    assert "parcels" in served.prompts[1]
    assert "cannot be read" in served.prompts[1]
    assert adapter.counts["mended"] == 1
