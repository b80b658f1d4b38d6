"""Exercise 3.5, an adaptive limiter: find the rate that a server allows, and find it again when it moves.

Main path: EXERCISE -> engine.registry; the checks play a minute in simulated time (hidden_limit).
"""

from __future__ import annotations

import random
from typing import Any

from course_lib.exercises.concurrency.hidden_limit import Limits, against
from course_lib.exercises.engine.checks import expect, expect_equal
from course_lib.exercises.engine.registry import Exercise

_USED, _REFUSED, _SETTLES_S, _LOWEST_PER_S = 0.85, 0.05, 20.0, 0.1


def _expect_found(limiter_class: Any, limits: Limits, first_per_s: float, hint: str) -> None:
    """Fail the check unless the limit is found, each time after it was set."""
    ends_s = [from_s for from_s, _ in limits[1:]] + [limits[-1][0] + 50.0]
    run = against(limiter_class(first_per_s), limits, ends_s[-1], begins_at_s=random.uniform(1e3, 1e6))
    for (from_s, limit), end_s in zip(limits, ends_s, strict=True):
        used, refused = run.shares(from_s + _SETTLES_S, end_s)
        then = f"a limit of {limit:.3g} per s, {from_s:.0f} s after the start, first_per_s={first_per_s:.3g}"
        observed = f"{used:.1%} of the limit used, {refused:.1%} of the requests refused"
        wanted = f"at least {_USED:.0%} used, less than {_REFUSED:.0%} refused, from {_SETTLES_S:.0f} s on"
        is_found = used >= _USED and refused < _REFUSED
        expect(is_found, f"what is made of {then}", observed=observed, expected=wanted, hint=hint)


def finds_limit(limiter_class: Any) -> None:
    """After 20 seconds at least 85 % of the limit is used and less than 5 % of the requests are refused."""
    hint = "A step that is the same for all is too small for a large limit and too large for a small one."
    for low, high in ((10, 12), (30, 180), (190, 200)):
        for first_per_s in (random.uniform(0.5, 5), random.uniform(50, 500)):
            _expect_found(limiter_class, [(0.0, random.uniform(low, high))], first_per_s, hint)


def finds_again(limiter_class: Any) -> None:
    """When the limit has doubled or halved, the same holds again after 20 seconds."""
    hint = "The rate goes on growing for as long as no refusal comes, however long ago the last one was."
    for low, high in ((10, 100), (90, 100)):
        limit = random.uniform(low, high)
        _expect_found(limiter_class, [(0.0, limit), (50.0, 2 * limit)], 2.0, hint)
        _expect_found(limiter_class, [(0.0, 2 * limit), (50.0, limit)], 2.0, hint)


def _tried(limiter_class: Any) -> tuple[Any, float]:
    """Return a limiter that has found something, and the time on its clock."""
    limiter, begins_at_s = limiter_class(8.0), random.uniform(1e3, 1e6)
    against(limiter, [(0.0, random.uniform(20, 30))], 30.0, begins_at_s=begins_at_s)
    return limiter, begins_at_s + 40


def keeps_unused(limiter_class: Any) -> None:
    """A success that nobody waited for changes no rate, before the first refusal and after it."""
    hint = "The server took what came. That it would take more, nobody has tried."
    for limiter, now_s in ((limiter_class(5.0), 1e3), _tried(limiter_class)):
        before = limiter.rate_per_s
        for number in range(300):
            limiter.success(now_s + number / 5, waited=False)
        expect_equal(limiter.rate_per_s, before, "rate after 300 successes that nobody waited for", hint=hint)


def counts_pause_once(limiter_class: Any) -> None:
    """Refusals within the second after one that was counted change nothing; the rate stays 0.1 or more."""
    hint = "Write down until when callers wait, and let a refusal before that moment pass."
    tried, begins_at_s = _tried(limiter_class), random.choice((0.0, random.random()))
    for pause, (limiter, now_s) in enumerate([tried, tried, tried, (limiter_class(8.0), begins_at_s)]):
        at_s, before = now_s + 1.1 * (pause % 3), limiter.rate_per_s
        limiter.refusal(at_s)
        once = limiter.rate_per_s
        what, wanted = f"a refusal at second {at_s:.3g} lowers the rate", f"less than {before:.3g}"
        expect(0 < once < before, what, observed=once, expected=wanted)
        for part in sorted(random.uniform(0, 0.95) for _ in range(4)):
            limiter.refusal(at_s + part)
        what = "rate after four more refusals in the same pause"
        expect_equal(limiter.rate_per_s, once, what, hint=hint)
    for second in range(10, 600, 2):
        limiter.refusal(now_s + second)
    lowest, hint = limiter.rate_per_s, "0.8 times 0.8 times ... comes to nothing; max(...) sets a floor."
    what, wanted = "rate after ten minutes with a refusal every other second", f"{_LOWEST_PER_S} or more"
    expect(lowest >= _LOWEST_PER_S, what, observed=lowest, expected=wanted, hint=hint)


def keeps_course(limiter_class: Any) -> None:
    """What changes nothing changes no later rate either."""
    for event in ("success that nobody waited for", "refusal in the pause of another"):
        plain, told, now_s = limiter_class(8.0), limiter_class(8.0), random.uniform(1e3, 1e6)
        for number in range(100):
            now_s, kind = now_s + (0.3 if number % 25 else 1.2), "refusal" if number % 25 == 24 else "success"
            for limiter, times in ((plain, 1), (told, 1 + event.startswith(kind))):
                for waited in (True, False)[:times]:  # the second at the same moment: no time went by
                    limiter.refusal(now_s) if kind == "refusal" else limiter.success(now_s, waited)
        what, got, want = f"the later rate, also told of each {event}", told.rate_per_s, plain.rate_per_s
        expect(abs(got - want) <= 0.05 * want, what, observed=got, expected=f"about {want:.4g}")


def shares_nothing(limiter_class: Any) -> None:
    """Two limiters share nothing, and each begins at its first_per_s."""
    hint = "What stands in the class body belongs to all objects; __init__ makes each its own."
    first_per_s, rates = random.uniform(2, 9), [random.uniform(0.5, 1), random.uniform(400, 500)]
    got = [limiter_class(each).rate_per_s for each in rates]
    expect_equal(got, rates, "rates of new limiters", hint="first_per_s is the first rate, small or large.")
    calm, (other, now_s) = limiter_class(first_per_s), _tried(limiter_class)
    alone = limiter_class(first_per_s)
    rates = [calm.rate_per_s, alone.rate_per_s]
    expect_equal(rates, [first_per_s] * 2, "rate of a new limiter, when another one is used", hint=hint)
    for number in range(20):
        calm.success(now_s + number / 3, waited=True)
        other.refusal(now_s + number / 3)
    for number in range(20):
        alone.success(now_s + number / 3, waited=True)
    what = "rate of a limiter that had only successes, beside one that was refused"
    expect_equal(calm.rate_per_s, alone.rate_per_s, what, hint=hint)


EXERCISE = Exercise(
    title="An adaptive limiter",
    minutes=12,
    difficulty="hard",
    hints=(
        "AIMD: at a refusal `rate_per_s *= 0.8`; while callers wait and none is refused, it grows by a step.",
        "Let it double each second until the first refusal. After it, grow each second by 5 % of what it was "
        "lowered to: a step that fits small and large limits. `now_s` tells how much of a second has passed.",
        "At a refusal, write down `self.last_s = now_s + 1.0`. What comes before that moment, success or "
        "refusal, belongs to calls that were sent at the old rate: return at once.",
    ),
    checks=(finds_limit, finds_again, keeps_unused, counts_pause_once, keeps_course, shares_nothing),
    deadline_s=60.0,
    why="Doubling finds the order of magnitude in a few seconds; small steps then stay near the limit, and a "
    "cut by a fifth pays for a refusal. The library's AdaptiveLimiter lets the steps grow, which finds "
    "a doubled limit sooner.",
)
