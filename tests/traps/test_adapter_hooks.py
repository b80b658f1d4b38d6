"""Hooks of an adapter's format and parse: DSPy calls them for each class it inherits from; a Tracer once."""

from __future__ import annotations

from collections import Counter

import dspy
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.utils.callback import BaseCallback

from course_lib.debugging import Tracer
from tests.traps.conftest import SOLVED


class Counts(BaseCallback):
    """Counts what it hears."""

    def __init__(self) -> None:
        self.heard: Counter[str] = Counter()

    def on_adapter_format_start(self, call_id, instance, inputs):
        self.heard["format"] += 1

    def on_adapter_parse_start(self, call_id, instance, inputs):
        self.heard["parse"] += 1


def ask(script) -> None:
    with dspy.context(lm=script('{"answer": "Yes."}').plain_lm(), adapter=BAMLAdapter()):
        dspy.Predict("question -> answer")(question="So?")


def test_plain_dspy_tells_of_one_call_several_times(script) -> None:
    with dspy.context(callbacks=[counts := Counts()]):
        ask(script)

    assert counts.heard["format"] > 1, SOLVED.format("one hook for one call")


def test_a_tracer_makes_one_span_of_it(script) -> None:
    with Tracer() as tracer:
        ask(script)

    names = Counter(span.name for span in tracer.spans)
    assert names["BAMLAdapter.format"] == names["BAMLAdapter.parse"] == 1
