"""Exercises of lesson 01: the library's own parts pass the checks, and near misses do not."""

from __future__ import annotations

import dspy
import pytest

from course_lib.adapters import CustomAdapter
from course_lib.exercises.adapters import REPLIES, predicted_parse
from course_lib.exercises.engine import registry
from course_lib.exercises.engine.checking import judge


def test_the_library_s_custom_adapter_passes_the_learner_s_checks():
    result = judge(registry.get("1.3"), CustomAdapter)

    assert result.outcome == "passed", result.text


def test_chat_adapter_is_refused_for_it_does_not_write_labelled_lines():
    result = judge(registry.get("1.3"), dspy.ChatAdapter)

    assert result.outcome == "failed"


@pytest.mark.parametrize("letter", REPLIES)
def test_each_wrong_guess_about_a_reply_is_told_apart(letter):
    right = {each: predicted_parse._parsed(text) for each, text in REPLIES.items()}
    fields = {"category": "billing", "days_waited": 0, "order_ids": []}
    guess = right | {letter: fields if right[letter] == "error" else "error"}

    result = judge(registry.get("1.1"), guess)

    assert f"reply {letter} is parsed as you predicted" in result.message


def test_a_refusal_may_show_an_example_that_begins_with_the_bad_id():
    from course_lib import desk
    from course_lib.adapters.tools.limits import ToolRefused

    def order_status(order_id: str) -> str:
        found = {order.id: order.status for order in desk.orders()}
        if order_id in found:
            return found[order_id]
        raise ToolRefused(f"{order_id} cannot be looked up; a number looks like O-10001")

    assert judge(registry.get("1.5"), order_status).outcome == "passed"
