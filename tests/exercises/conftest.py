"""A sample section of exercises, registered for these tests only."""

from __future__ import annotations

import asyncio
import time

import pytest

from course_lib.exercises.engine import registry
from course_lib.exercises.engine.checks import NotChecked, expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise


def _doubles(double) -> None:
    """Two becomes four."""
    expect_equal(double(2), 4, "double(2)", hint="What is two times two?")


def _keeps_text(double) -> None:
    """Text is doubled too."""
    expect(double("ab") == "abab", "double of a text", observed=double("ab"), expected="the text twice")


async def _gathers(fetch) -> None:
    """Three waits take the time of one."""
    started_s = time.monotonic()
    fetched = await asyncio.gather(fetch(), fetch(), fetch())
    expect_equal(fetched, ["x", "x", "x"], "three fetches at once")
    expect(time.monotonic() - started_s < 2, "time of three fetches", observed="slow", expected="fast")


def _adds(first, second) -> None:
    """Both parts work together."""
    expect_equal(first(1) + second(1), 3, "first(1) + second(1)")


def _is_even(double) -> None:
    """Four is even."""
    expect(double(2) % 2 == 0, observed=double(2), expected="an even number")


def _takes_any_number(double) -> None:
    """Nothing is refused."""
    without_error(lambda: double(0), "double(0)")


def _needs_scales(_) -> None:
    """Two weighs as much as four halves."""
    raise NotChecked("no scales in this house; borrow some")


def double(value):
    """An answer that passes, also in tests of other files."""
    return value * 2


def _exercise(exercise_id: str, *checks, **changes) -> Exercise:
    described = {
        "title": f"Sample {exercise_id}",
        "lesson": "99_sample",
        "minutes": 3,
        "difficulty": "easy",
        "hints": ("Look closely.", "Multiply."),
        "why": "Because multiplication is repeated addition.",
        "deadline_s": 5.0,
    }
    return Exercise(id=exercise_id, checks=checks, **(described | changes))


REGISTERED = (
    "from course_lib.exercises import check, hint, solution\n"
    "from course_lib.exercises.engine import progress, registry\n"
    "from tests.exercises.conftest import SAMPLES\nregistry.register(*SAMPLES)\n"
)
"""What another kernel runs first, so that it has the samples too."""

SAMPLES = (
    _exercise("99.1", _doubles, _keeps_text),
    _exercise("99.2", _gathers, hints=("Only one.",)),
    _exercise("99.3", _doubles, deadline_s=0.3),
    _exercise("99.4", _adds),
    _exercise("99.5", _is_even),
    _exercise("99.6", _takes_any_number),
    _exercise("99.7", _doubles, _needs_scales),
)


@pytest.fixture(autouse=True)
def sample_section(work, monkeypatch) -> None:
    """Every test here has the samples and a learner's folder of its own."""
    monkeypatch.setattr(registry, "_registered", {sample.id: sample for sample in SAMPLES})
