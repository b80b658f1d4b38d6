"""Exercise 2.1: each guess and each repair is judged by what DSPy's own cache really does."""

from __future__ import annotations

import dspy
import pytest

from course_lib.authoring import reading, regions
from course_lib.exercises.caching import misses
from course_lib.exercises.caching.misses import REASONS, Colleague, requests_of_pair
from course_lib.exercises.engine import registry
from course_lib.exercises.engine.checking import judge
from course_lib.paths import LESSONS

(cell,) = reading.read(LESSONS / "02_caching.py").cells_of("2.1", "exercise")
exec(regions.solved(cell.source), solved := {"__name__": "answer", "dspy": dspy, "Colleague": Colleague})
EXERCISE, Again = registry.get("2.1"), solved["Again"]


@pytest.mark.parametrize("letter", REASONS)
def test_each_pair_pays_twice_and_each_wrong_reason_and_each_pair_left_is_told_apart(letter):
    wrong = next(reason for other, reason in REASONS.items() if other != letter)
    left = type("Left", (Again,), {letter: getattr(Colleague, letter)})

    assert requests_of_pair(getattr(Colleague(), letter)) == 2
    assert f"pair {letter} misses for the reason" in judge(EXERCISE, REASONS | {letter: wrong}, Again).message
    assert f"requests of pair {letter}" in judge(EXERCISE, REASONS, left).message


@pytest.mark.parametrize("letter", REASONS)
def test_each_reason_is_what_differs_between_the_two_requests(letter):
    service = misses._Service()
    service.run(getattr(Colleague(), letter), "Where is my parcel?")
    first, second = service.asked

    different = {name for name in first if first[name] != second.get(name)}
    if not different:
        with pytest.raises(TypeError):
            dspy.cache.cache_key(first)

    assert (different or {"no key"}) == {REASONS[letter]}


def test_dspys_cache_is_as_before_after_a_check_that_fails_in_the_middle():
    former, broken = vars(dspy).get("cache"), type("Broken", (Again,), {"b": lambda *_: 1 / 0})

    assert judge(EXERCISE, REASONS, broken).outcome == "crashed"
    assert vars(dspy).get("cache") is former
