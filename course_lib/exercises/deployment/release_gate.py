"""Exercise 5.7, a release gate for few samples: how often it errs, and what it lets through.

Main path: EXERCISE -> engine.registry; each check draws scores of its own, and counts what the gate says.
The draws are the same each time, so a gate without chance of its own has the same verdict each time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from course_lib.exercises.engine.checks import expect, expect_one_of, without_error
from course_lib.exercises.engine.registry import Exercise

Gate = Callable[[list[float], list[float]], str]
Draw = Callable[[Any, int], tuple[Any, Any]]

_WORDS = "promote", "refuse", "undecided"
_ONE_IN, _AT_LEAST = 20, 0.8
_TIMES, _TIMES_BETTER = 200, 50


def _said(gate: Gate, live: Any, candidate: Any) -> str:
    """Return the gate's word for copies of these scores."""
    what = f"gate on {len(live)} examples"
    said = without_error(lambda: gate(list(live), list(candidate)), what, expected="one of three words")
    expect_one_of(said, _WORDS, f"what the {what} returns")
    return said


def _words(gate: Gate, draw: Draw, examples: int, times: int, seed: int) -> Counter[str]:
    """Return how often the gate says what of so many pairs of versions."""
    random = np.random.default_rng([seed, examples])
    pairs = (draw(random, examples) for _ in range(times))
    return Counter(_said(gate, live.tolist(), candidate.tolist()) for live, candidate in pairs)


# -- pairs of versions -----------------------------------------------------------------------------------


def _apart(random: Any, examples: int) -> tuple[Any, Any]:
    """Right or wrong, whatever the other one says."""
    return (random.random(examples) < 0.6) * 1, (random.random(examples) < 0.6) * 1


def _alike(random: Any, examples: int) -> tuple[Any, Any]:
    """True or false, mostly the same for both."""
    both, one = random.random(examples) < 0.7, random.random((2, examples)) < 0.15
    return both ^ one[0], both ^ one[1]


def _fractions(random: Any, examples: int) -> tuple[Any, Any]:
    """Thirds, of easy and hard examples."""
    easy = random.uniform(0.2, 0.9, examples)
    return random.binomial(3, easy) / 3, random.binomial(3, easy) / 3


def _worse(random: Any, examples: int) -> tuple[Any, Any]:
    """Right or wrong, the candidate 15 points worse."""
    return (random.random(examples) < 0.7) * 1, (random.random(examples) < 0.55) * 1


def _much_better(random: Any, examples: int) -> tuple[Any, Any]:
    """Right or wrong, the candidate some 35 points better."""
    live = random.random(examples) < 0.5
    better = np.where(live, random.random(examples) < 0.96, random.random(examples) < 0.74)
    return live * 1, better * 1


def _better_on_each(random: Any, examples: int) -> tuple[Any, Any]:
    """Fractions all over the scale, the candidate some ten points better on each."""
    live = np.where(random.random(examples) < 0.5, 0.02, 0.86) + random.uniform(0, 0.04, examples)
    return live, np.clip(live + random.uniform(0.05, 0.15, examples), 0, 1)


_EQUAL: tuple[tuple[Draw, int], ...] = (_apart, 10), (_alike, 30), (_fractions, 20), (_fractions, 100)


# -- checks ----------------------------------------------------------------------------------------------


def errs_seldom(gate: Any) -> None:
    """A candidate that is only as good as the live version is promoted once in twenty at most, or refused."""
    most = _TIMES / _ONE_IN + 3.5 * math.sqrt(_TIMES / _ONE_IN)
    for draw, examples in _EQUAL:
        counts = _words(gate, draw, examples, _TIMES, 1)
        for word in ("promote", "refuse"):
            expect(
                counts[word] <= most,
                f"how often it says {word!r} of {_TIMES} candidates that are as good, {examples} examples",
                observed=f"{counts[word]} times",
                expected=f"once in {_ONE_IN}: {_TIMES // _ONE_IN} times, and by chance {int(most)} at most",
                hint="Few samples differ by chance. How large a difference would chance alone make?",
            )


def keeps_worse_out(gate: Any) -> None:
    """A candidate that is worse is promoted more seldom still."""
    times = _TIMES // 2
    promoted = _words(gate, _worse, 40, times, 2)["promote"]
    expect(
        promoted <= times / _ONE_IN,
        f"how often it promotes a candidate that is 15 points worse, of {times}, 40 examples",
        observed=f"{promoted} times",
        expected=f"less than once in {_ONE_IN}: {times // _ONE_IN} times at most",
        hint="A difference that chance would not make may be one for the worse.",
    )


def _expect_seen(gate: Gate, draw: Draw, examples: int, told: str, hint: str) -> None:
    for word, pair in (("promote", draw), ("refuse", lambda *given: draw(*given)[::-1])):
        said = _words(gate, pair, examples, _TIMES_BETTER, 3)[word]
        expect(
            said >= _AT_LEAST * _TIMES_BETTER,
            f"how often it says {word!r} of a candidate that is {told}",
            observed=f"{said} of {_TIMES_BETTER}",
            expected=f"at least {_AT_LEAST * _TIMES_BETTER:.0f}",
            hint=hint,
        )


def sees_what_is_plain(gate: Any) -> None:
    """Of 40 examples, right or wrong, 35 points more are promoted and 35 fewer refused, in 4 of 5 cases."""
    hint = "A bound for any scores whatever, such as Hoeffding's, needs many more; and it is never refused?"
    _expect_seen(gate, _much_better, 40, "35 points better (or worse), 40 examples", hint)


def compares_pairs(gate: Any) -> None:
    """Of 60 examples, ten points more on each are promoted and ten fewer refused, in 4 of 5 cases."""
    hint = "Both versions have the same examples: look at the difference on each, not at the two means."
    _expect_seen(gate, _better_on_each, 60, "ten points better (or worse) on each of 60 examples", hint)


def waits_for_four(gate: Any) -> None:
    """Three examples or fewer decide nothing."""
    for live, candidate in (
        ([0], [1]),
        ([0, 0, 0], [1, 1, 1]),
        ([0.2, 0.3], [0.9, 1.0]),
        ([0.5] * 3, [0.7] * 3),
    ):
        for first, second in ((live, candidate), (candidate, live)):
            said = _said(gate, first, second)
            hint = "Three heads in a row are no proof against a coin. Equal differences have no spread."
            expect(
                said == "undecided",
                f"gate({first}, {second})",
                observed=said,
                expected="undecided",
                hint=hint,
            )
    same = [0.0, 1.0, 1.0, 0.5] * 5
    said = _said(gate, same, same)
    expect(said == "undecided", "gate of the same scores", observed=said, expected="undecided")


def leaves_scores(gate: Any) -> None:
    """The lists are left as they were."""
    live, candidate = [1, 0, 0.5, 0, 1, 0.25], [0, 1, 1, 0.5, 1, 0]
    before = list(live), list(candidate)
    without_error(lambda: gate(live, candidate), "gate")
    expect((live, candidate) == before, observed=f"{live} and {candidate}", expected=f"{before}")


EXERCISE = Exercise(
    title="A gate for few samples",
    minutes=20,
    difficulty="medium",
    hints=(
        "Begin with the difference on each example. If both versions were as good, each difference would be "
        "for the one or for the other by chance alone: how often would chance give as much as this?",
        "Ways that work: count wins and losses and ask the binomial distribution (math.comb); draw the "
        "differences again and again (a bootstrap) and look at the lowest and highest means; Student's t.",
        "Draw weights with Dirichlet's distribution, for the differences and for one value more, the worst "
        "there could have been (-1): the mean that 2.5 % of the draws are under is the lower bound. Promote "
        "when it is above 0. The upper bound has +1 instead.",
    ),
    checks=(errs_seldom, keeps_worse_out, sees_what_is_plain, compares_pairs, waits_for_four, leaves_scores),
    deadline_s=30.0,
    why="The one value more stands for what a few samples have not shown. With many it weighs nothing; of "
    "four it is a quarter, and nothing is decided. For right and wrong answers this is the sign test, "
    "exactly; for fractions it sees how large a win or a loss was, too, which a sign test does not. "
    "compare() does the same, and says how many more samples it would take.",
)
