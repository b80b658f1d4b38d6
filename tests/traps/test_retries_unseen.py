"""Attempts that failed before an answer: a callback does not hear of them; an observed LM shows them."""

from __future__ import annotations

import dspy
from dspy.utils.callback import BaseCallback

from course_lib import lm
from course_lib.debugging import Tracer, observed
from tests.traps.conftest import SOLVED


class Hears(BaseCallback):
    """Keeps what a callback is told of a model's call."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def on_lm_start(self, call_id, instance, inputs):
        self.told.append("start")

    def on_lm_end(self, call_id, outputs, exception=None):
        self.told.append(exception)


def model_that_fails_once() -> dspy.LM:
    lm.profile("fails-once", first=["unavailable"])
    lm.reset()
    return lm.connect("sim-large@fails-once", cache=False)


def test_a_callback_is_told_of_one_call_that_succeeded() -> None:
    with dspy.context(callbacks=[hears := Hears()]):
        model_that_fails_once()("Hello?")

    assert lm.ledger().requests == 2
    assert hears.told == ["start", None], SOLVED.format("callbacks hear of retries")


def test_an_observed_lm_notes_each_attempt_that_failed() -> None:
    with Tracer() as tracer:
        observed(model_that_fails_once())("Hello?")

    (span,) = tracer.spans
    assert lm.ledger().requests == 2
    assert [event.name for event in span.events] == ["attempt.failed"]
