"""OpenInference replaces methods of DSPy; when it leaves, DSPy's callbacks are gone. A Tracer leaves all."""

from __future__ import annotations

import dspy
import pytest
from openinference.instrumentation.dspy import DSPyInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from course_lib import desk, lm
from course_lib.debugging import Tracer
from tests.traps.conftest import SOLVED

CLASSES = (dspy.Module, dspy.Predict, dspy.Adapter, dspy.ChatAdapter, dspy.BaseLM, dspy.LM, dspy.Tool)
METHODS = ("__call__", "acall", "forward", "aforward")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put DSPy's methods back after a test, whatever it did to them."""
    for each in CLASSES:
        for name in vars(each).keys() & set(METHODS):
            monkeypatch.setattr(each, name, vars(each)[name])


def modules_seen() -> list[str]:
    """Return what a callback hears of a program: the modules."""
    with Tracer() as tracer, dspy.context(lm=lm.connect()):
        desk.Triage()(ticket="Where is my parcel?")
    return [span.name for span in tracer.spans if span.attributes["dspy.kind"] == "module"]


def test_an_instrumentation_that_left_has_taken_the_callbacks_of_modules_away():
    assert modules_seen() == ["Predict(SortTicket)", "Triage"]
    instrumentor = DSPyInstrumentor()

    instrumentor.instrument(tracer_provider=TracerProvider())
    instrumentor.uninstrument()

    assert modules_seen() == [], SOLVED.format("loses its callbacks when OpenInference leaves")


def test_a_tracer_that_left_has_replaced_nothing():
    before = [vars(each).copy() for each in CLASSES]

    modules_seen()

    assert [vars(each) for each in CLASSES] == before
    assert modules_seen() == ["Predict(SortTicket)", "Triage"]
