"""OpenInference replaces methods of DSPy; when it leaves, DSPy's callbacks are gone. A Tracer leaves all."""

from __future__ import annotations

import json
import subprocess
import sys

import dspy

from course_lib import desk, lm
from course_lib.debugging import Tracer
from tests.traps.conftest import SOLVED

CLASSES = (dspy.Module, dspy.Predict, dspy.Adapter, dspy.ChatAdapter, dspy.BaseLM, dspy.LM, dspy.Tool)
MODULES = ["Predict(SortTicket)", "Triage"]
LIBRARY = """
import json
from openinference.instrumentation.dspy import DSPyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from tests.traps.test_callbacks_taken_away import modules_seen

before, instrumentor = modules_seen(), DSPyInstrumentor()
instrumentor.instrument(tracer_provider=TracerProvider())
instrumentor.uninstrument()
print(json.dumps([before, modules_seen()]))
"""


def modules_seen() -> list[str]:
    """Return what a callback hears of a program: the modules."""
    with Tracer() as tracer, dspy.context(lm=lm.connect()):
        desk.Triage()(ticket="Where is my parcel?")
    return [span.name for span in tracer.spans if span.attributes["dspy.kind"] == "module"]


def test_an_instrumentation_that_left_has_taken_the_callbacks_of_modules_away():
    """In a process of its own (three seconds), since what it has replaced stays replaced."""
    done = subprocess.run([sys.executable, "-c", LIBRARY], capture_output=True, text=True, check=True)

    before, after = json.loads(done.stdout.splitlines()[-1])

    assert before == MODULES
    assert after == [], SOLVED.format("loses its callbacks when OpenInference leaves")


def test_a_tracer_that_left_has_replaced_nothing():
    before = [vars(each).copy() for each in CLASSES]

    assert modules_seen() == MODULES

    assert [vars(each) for each in CLASSES] == before
