"""The gate is wrong as seldom as it says, whatever the scores are like, and few samples are enough for it."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from course_lib.deployment import GateError, compare, evaluation, scored
from course_lib.exercises.engine import registry
from course_lib.exercises.engine.checking import judge

TIMES = 100


def right_or_wrong(random, count):
    return random.random(count) < 0.6, random.random(count) < 0.6


def mostly_the_same(random, count):
    """One in ten of the right answers becomes wrong, and as many wrong ones right."""
    live = random.random(count) < 0.7
    return live, np.where(live, random.random(count) >= 0.1, random.random(count) < 0.1 * 7 / 3)


def fractions(random, count):
    return random.integers(0, 5, count) / 4, random.integers(0, 5, count) / 4


def often_better_seldom_much_worse(random, count):
    """A little better on 19 of 20 and wrong on one: the mean is the same."""
    is_lost = random.random(count) < 0.05
    return np.full(count, 0.95), np.where(is_lost, 0.0, 1.0)


SHAPES = [right_or_wrong, mostly_the_same, fractions, often_better_seldom_much_worse]


@pytest.mark.parametrize("count", [10, 30, 100])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_candidate_that_is_no_better_is_promoted_once_in_forty_at_most(shape, count):
    """All of them take three seconds: a rate of 2.5 % is seen in a hundred comparisons at least."""
    random = np.random.default_rng(count)

    decisions = [compare(*shape(random, count)).decision for _ in range(TIMES)]

    most = TIMES * 0.025 + 3 * math.sqrt(TIMES * 0.025 * 0.975)
    assert decisions.count("promote") <= most
    assert decisions.count("refuse") <= most


def test_thirty_right_or_wrong_answers_are_enough_for_thirty_points():
    random = np.random.default_rng(1)
    decisions = []
    for _ in range(TIMES):
        live = random.random(30) < 0.5
        better = np.where(live, random.random(30) < 0.97, random.random(30) < 0.7)
        decisions.append((compare(live, better).decision, compare(better, live).decision))

    assert decisions.count(("promote", "refuse")) > 0.8 * TIMES


@pytest.mark.parametrize(("wins", "losses"), [(5, 0), (6, 0), (8, 1), (9, 1), (10, 3), (12, 2), (12, 3)])
def test_for_right_and_wrong_it_decides_as_the_sign_test_does(wins, losses):
    live = [0] * wins + [1] * losses + [1] * 7
    candidate = [1] * wins + [0] * losses + [1] * 7
    tossed = sum(math.comb(wins + losses, k) for k in range(wins, wins + losses + 1)) / 2 ** (wins + losses)

    assert (compare(live, candidate).decision == "promote") == (tossed < 0.025)


def test_a_margin_lets_an_equal_one_through_when_there_are_enough_samples():
    assert compare([1] * 30, [1] * 30, margin=0.05).decision == "undecided"
    assert compare([1] * 100, [1] * 100, margin=0.05).decision == "promote"
    assert compare([1] * 100, [0.9] * 100, margin=0.05).decision == "refuse"


def test_an_undecided_one_says_how_many_more_would_decide():
    verdict = compare([0] * 4 + [1] * 16, [1] * 3 + [0] + [1] * 16)

    assert verdict.decision == "undecided"
    assert verdict.more is not None
    assert 10 < verdict.more < 200
    assert str(verdict.more) in verdict.reason
    assert compare([0, 1], [1, 0]).more is None


@pytest.mark.parametrize(
    ("live", "candidate", "told"),
    [
        ([], [], "0 scores"),
        ([1, 0], [1], "1 scores, the other version 2"),
        ([0.5], [70], "70.0"),
        ([float("nan")], [1], "nan"),
    ],
    ids=["none", "not as many", "percent", "no number"],
)
def test_scores_that_cannot_be_compared_are_refused(live, candidate, told):
    with pytest.raises(GateError, match=told):
        compare(live, candidate)


@pytest.mark.parametrize("options", [{"confidence": 0.9999}, {"confidence": 1.0}, {"margin": 1.0}])
def test_what_the_draws_cannot_tell_is_refused(options):
    with pytest.raises(GateError, match=r"at most 0\.999"):
        compare([0, 1], [1, 1], **options)


def test_many_different_scores_take_little_memory():
    random = np.random.default_rng(1)
    tracemalloc.start()

    compare(random.random(3_000), random.random(3_000))  # a second

    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_a_program_that_fails_on_an_example_scores_nothing_there():
    examples, metric = evaluation("triage")

    def fails(**_):
        raise ValueError

    assert scored(fails, examples[:3], metric) == [0.0, 0.0, 0.0]


@pytest.mark.soak  # a thousand comparisons
def test_the_library_s_gate_passes_the_learner_s_check():
    def gate(live, candidate):  # ours refuses to compare nothing with nothing
        return compare(live, candidate).decision if len(live) else "undecided"

    result = judge(registry.get("5.7"), gate)

    assert result.outcome == "passed", result.text
