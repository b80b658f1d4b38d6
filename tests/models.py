"""A model with an empty ledger, and a cache of the test's own; a test module that imports it uses it."""

from __future__ import annotations

import dspy
import pytest

from course_lib import lm
from course_lib.exercises.engine.seen import memory_cache


@pytest.fixture(autouse=True)
def model(monkeypatch):
    monkeypatch.setattr(dspy, "cache", memory_cache())
    model = lm.connect("sim-large")
    lm.reset()
    with dspy.context(lm=model):
        yield model
