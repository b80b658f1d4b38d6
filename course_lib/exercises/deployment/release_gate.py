"""Exercise 5.7, a release gate for few samples: how often it errs, and what it lets through.

Main path: EXERCISE -> engine.registry; each check draws scores of its own, and counts what the gate says.
The draws are the same each time, and the more of them the faster the gate is: their number sets the limit.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from course_lib.exercises.engine.checks import expect, expect_one_of, without_error
from course_lib.exercises.engine.registry import Exercise

Gate = Callable[[list[float], list[float]], str]
Draw = Callable[[Any, int], tuple[Any, Any]]

_WORDS = "promote", "refuse", "undecided"
_ONE_IN, _ONE_IN_OF_FEW, _ONE_IN_OF_WORSE, _AT_LEAST = 20, 10, 40, 0.8
_LEAST_TIMES, _MOST_TIMES, _TIMES_BETTER = 40, 1_000, 50
_SCENE_S, _LARGE_S, _LARGE = 0.2, 0.7, 100
"""How long a gate is asked of one kind of pairs, beyond the least number of times; of equal ones of so many
examples it is longer: it takes some hundreds to tell a tenth from a twentieth."""


def _said(gate: Gate, live: Any, candidate: Any) -> str:
    """Return the gate's word for copies of these scores; it leaves the lists as they were."""
    what, given = f"gate on {len(live)} examples", (list(live), list(candidate))
    said = without_error(lambda: gate(*given), what, expected="one of three words")
    expect_one_of(said, _WORDS, f"what the {what} returns")
    left = given == (list(live), list(candidate))
    observed = f"{given[0]!s:.60} and {given[1]!s:.60}"
    expected = f"{live!s:.60} and {candidate!s:.60}"
    expect(left, f"the lists are left as they were, by {what}", observed=observed, expected=expected)
    return said


def _words(
    gate: Gate, draw: Draw, examples: int, least: int, most: int, scene_s: float = _SCENE_S
) -> Counter[str]:
    """Return how often the gate says what of `least` pairs of versions, up to `most` while there is time."""
    random, ends_s = np.random.default_rng([7, examples]), time.monotonic() + scene_s
    said = Counter[str]()
    while said.total() < least or (said.total() < most and time.monotonic() < ends_s):
        live, candidate = draw(random, examples)
        said[_said(gate, live.tolist(), candidate.tolist())] += 1
    return said


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


def _worse_fractions(random: Any, examples: int) -> tuple[Any, Any]:
    """Thirds, the candidate some 20 points worse."""
    easy = random.uniform(0.3, 0.9, examples)
    return random.binomial(3, easy) / 3, random.binomial(3, easy - 0.2) / 3


def _losses(random: Any, places: Any) -> tuple[Any, Any]:
    """The candidate 80 points worse on 15 % of these places, five better elsewhere: 8 worse in the mean."""
    live, gain = random.uniform(0.82, 0.9, len(places)), random.uniform(0.03, 0.07, len(places))
    return live, np.where(places >= 0.85 * len(places), live - 0.8, live + gain)


def _rare_losses(random: Any, examples: int) -> tuple[Any, Any]:
    return _losses(random, random.permutation(examples))


def _late_losses(random: Any, examples: int) -> tuple[Any, Any]:
    return _losses(random, np.arange(examples))


def _much_better(random: Any, examples: int) -> tuple[Any, Any]:
    """Right or wrong, as numbers or as booleans, the candidate some 35 points better."""
    live = random.random(examples) < 0.5
    better = np.where(live, random.random(examples) < 0.96, random.random(examples) < 0.74)
    kind = bool if random.random() < 0.5 else int
    return live.astype(kind), better.astype(kind)


def _better_on_each(random: Any, examples: int) -> tuple[Any, Any]:
    """Fractions all over the scale, the candidate some ten points better on each."""
    live = np.where(random.random(examples) < 0.5, 0.02, 0.8) + random.uniform(0, 0.04, examples)
    return live, live + random.uniform(0.05, 0.15, examples)


_EQUAL: tuple[tuple[Draw, int, int], ...] = (
    *((_apart, 10, _ONE_IN), (_alike, 30, _ONE_IN), (_apart, 100, _ONE_IN)),
    *((_fractions, 12, _ONE_IN), (_fractions, 100, _ONE_IN)),
    *((_apart, 6, _ONE_IN_OF_FEW), (_fractions, 8, _ONE_IN_OF_FEW)),
)
_WORSE: tuple[tuple[Draw, int, str], ...] = (
    *((_worse, 40, "15 points worse"), (_worse, 100, "15 points worse")),
    (_worse_fractions, 100, "20 points worse, in fractions"),
    *(
        (_rare_losses, 40, "worse in the mean by rare losses"),
        (_rare_losses, 100, "worse in the mean by rare losses"),
        (_late_losses, 100, "worse in the mean by losses on the last examples"),
    ),
)


# -- checks ----------------------------------------------------------------------------------------------


def errs_seldom(gate: Any) -> None:
    """A candidate that is only as good in the mean is promoted once in twenty at most, or refused."""
    hint = "Few samples differ by chance. How large a difference would chance alone make?"
    told, allowed = Counter[str](), 0.0
    for draw, examples, one_in in _EQUAL:
        scene_s = _LARGE_S if examples == _LARGE else _SCENE_S
        said = _words(gate, draw, examples, _LEAST_TIMES, _MOST_TIMES, scene_s)
        if examples == _LARGE:
            told, allowed = told + said, allowed + 2 * said.total() / one_in
        times = said.total()
        most = times / one_in + 3.5 * math.sqrt(times / one_in)
        for word in ("promote", "refuse"):
            expect(
                said[word] <= most,
                f"how often it says {word!r} of {times} candidates that are as good, {examples} examples",
                observed=f"{said[word]} times",
                expected=f"once in {one_in}: {times // one_in} times, and by chance {int(most)} at most",
                hint=hint,
            )
    most, decided = allowed + 3.5 * math.sqrt(allowed), told["promote"] + told["refuse"]
    what = f"how often it decides, of {told.total()} candidates that are as good, {_LARGE} examples"
    wanted = f"{allowed:.0f} times, and by chance {int(most)} at most"
    expect(decided <= most, what, observed=f"{decided} times", expected=wanted, hint=hint)


def keeps_worse_out(gate: Any) -> None:
    """A candidate that is worse in the mean is promoted more seldom still."""
    for draw, examples, told in _WORSE:
        said = _words(gate, draw, examples, _LEAST_TIMES, _MOST_TIMES // 2)
        most = said.total() // _ONE_IN_OF_WORSE
        expect(
            said["promote"] <= most,
            f"how often it promotes a candidate that is {told}, of {said.total()}, {examples} examples",
            observed=f"{said['promote']} times",
            expected=f"hardly ever: {most} times at most",
            hint="What chance would not make may be for the worse; and a rare loss weighs as much as it is.",
        )


def weighs_every_example(gate: Any) -> None:
    """A few losses of a whole point, wherever they stand, outweigh small gains on all the others."""
    examples, random = np.arange(_LARGE), np.random.default_rng(7)
    for losses, gain in ((5, 0.04), (10, 0.1), (15, 0.17)):
        starts = {"first": 0, "middle": (_LARGE - losses) // 2, "last": _LARGE - losses}
        for where, start in starts.items():
            is_loss = (examples >= start) & (examples < start + losses)
            live = np.where(is_loss, 1.0, random.uniform(0.3, 0.7, _LARGE))
            candidate = np.where(is_loss, 0.0, live + random.uniform(gain - 0.02, gain + 0.02, _LARGE))
            said = _said(gate, live.tolist(), candidate.tolist())
            expect(
                said != "promote",
                f"gate on {_LARGE} examples, some {gain} better each but the {losses} {where} a point worse",
                observed=said,
                expected="not 'promote', since the mean is lower",
                hint="Every example weighs the same, and a loss weighs as much as it is.",
            )


def _expect_seen(gate: Gate, draw: Draw, examples: int, told: str, hint: str) -> None:
    for word, pair in (("promote", draw), ("refuse", lambda *given: draw(*given)[::-1])):
        said = _words(gate, pair, examples, _TIMES_BETTER, _TIMES_BETTER)[word]
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
    """Three examples or fewer decide nothing, nor do scores that are all the same."""
    for live, candidate in (
        ([], []),
        ([0], [1]),
        ([0, 0, 0], [1, 1, 1]),
        ([0.2, 0.3], [0.9, 1.0]),
        ([0.5] * 3, [0.7] * 3),
        ([0.1, 0.2, 0.1], [0.9, 0.95, 0.85]),
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
    for same in ([0.0, 1.0, 1.0, 0.5] * 5, [1] * 30, [0] * 30):
        said = _said(gate, same, same)
        what = f"gate of the same scores, {same!s:.20}..."
        expect(said == "undecided", what, observed=said, expected="undecided")


EXERCISE = Exercise(
    title="A gate for few samples",
    minutes=20,
    difficulty="medium",
    hints=(
        "Begin with the difference on each example. If both versions were as good, each difference would be "
        "for the one or for the other by chance alone: how often would chance give as much as this?",
        "Ways that work: draw the differences again and again (a bootstrap) and look at the lowest and "
        "highest means; throw their signs again (a permutation test); Student's t. Who only counts wins and "
        "losses, or ranks them, does not see how large a loss is.",
        "Draw weights with Dirichlet's distribution, for the differences and for one value more, the worst "
        "there could have been (-1): the mean that 2.5 % of the draws are under is the lower bound. Promote "
        "when it is above 0. The upper bound has +1 instead.",
    ),
    checks=(
        *(sees_what_is_plain, compares_pairs),  # first: they ask fewest times
        *(errs_seldom, keeps_worse_out, weighs_every_example, waits_for_four),
    ),
    deadline_s=60.0,
    why="The one value more stands for what a few samples have not shown. With many it weighs nothing; of "
    "four it is a quarter, and nothing is decided. For right and wrong answers this is the sign test, "
    "exactly; for fractions it sees how large a win or a loss was, too, which a sign test does not. "
    "compare() does the same, and says how many more samples it would take.",
)
