"""A callback that raises, to refuse a model call: DSPy logs it and makes the call; a policy is obeyed."""

from __future__ import annotations

import itertools
import logging

import dspy
import pytest
from dspy.utils.callback import BaseCallback

from course_lib.concurrency import ResilientProcessor
from course_lib.errors import CourseError
from tests.traps.conftest import SOLVED, reply


class BudgetSpentError(CourseError):
    """More calls than were allowed."""


def at_most(calls: int):
    numbers = itertools.count(1)

    def check() -> None:
        if next(numbers) > calls:
            raise BudgetSpentError

    return check


def test_plain_dspy_makes_the_call_that_a_callback_refused(script, caplog) -> None:
    model, check = script(reply("Yes.")), at_most(1)

    class Budget(BaseCallback):
        def on_lm_start(self, call_id, instance, inputs):
            check()

    quiet = caplog.at_level(logging.CRITICAL, "dspy.utils.callback")  # it warns, and goes on
    with quiet, dspy.context(lm=model.plain_lm(), callbacks=[Budget()]):
        for _ in range(3):
            dspy.Predict("question -> answer")(question="So?")

    assert len(model.bodies) == 3, SOLVED.format("a callback may refuse a call")


def test_a_policy_refuses_it(script) -> None:
    model, check = script(reply("Yes.")), at_most(1)

    async def policy(call, request):
        check()
        return await call(request)

    ask = ResilientProcessor(
        dspy.Predict("question -> answer"), model.plain_lm(), policies=lambda _name, **_: [policy]
    )
    ask(question="So?")
    with pytest.raises(BudgetSpentError):
        ask(question="So?")

    assert len(model.bodies) == 1
