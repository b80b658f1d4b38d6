"""Exercise 2.5, a semantic cache: other words are served, nearly the same words are not, tenants stay apart.

Main path: EXERCISE -> engine.registry; the checks fill a learner's cache and ask it the given pairs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from course_lib.caching.semantic import Pair, labelled_pairs, shared
from course_lib.exercises.engine.checks import expect, expect_equal
from course_lib.exercises.engine.registry import Exercise

_IDS = """
P-001 P-002 N-001 N-003 P-007 P-008 N-010 N-012 P-019 P-020 N-028 N-029 N-030 P-041 P-042 N-062 P-049 P-050
N-074 N-075 P-101 P-102 N-151 P-115 P-116 N-172 N-173 P-123 P-124 N-184 N-186 P-125 P-126 N-187 N-189 P-129
P-130 N-194 N-195 P-149 P-150 N-223 N-225 P-151 P-152 N-226 N-228 P-165 P-166 N-247 P-169 P-170 N-253
"""
_BY_ID = {pair.id: pair for pair in labelled_pairs("calibrate")}
PAIRS: tuple[Pair, ...] = tuple(_BY_ID[each] for each in _IDS.split())
"""The given pairs: each has `asked`, `cached`, and whether the cached answer is right, `is_same`."""

_answer = "(the answer to {!r})".format
_AGAIN = "How do I reset my password?"
_LONG = "How do I keep the children warm when we walk from hut to hut for nine days in the rain of July? " * 2
_OTHER_NUMBERS = "How much is 700 points worth?", "How much is 200 points worth?"


def _other_numbers() -> list[tuple[str, str]]:
    """Draw questions that differ in nothing but their numbers: one of two, their order, their digits."""
    a, b, c, year = (random.randint(10**n, 10 ** (n + 1) - 2) for n in range(4))
    one, two = "How much are my points of {} worth?", "Do I get {} points for {} orders?"
    numbers = ((a, b), (a, c)), ((b, a), (c, a)), ((a, b), (b, a)), ((c, b + 1), (c + 1, b))
    drawn = [*numbers, ((a, f"{a}{b}"), (f"{a}{a}", b))]  # the same digits, if they are joined
    of_one = (one.format(year), one.format(year + 1)), (one.format(c), "How much are my points worth?")
    return [*of_one, *((two.format(*asked), two.format(*cached)) for asked, cached in drawn)]


def embed(texts: Sequence[str]) -> Any:
    """Embed texts by MiniLM, as a service might: one row each, longer for a longer text."""
    lengths = np.array([[1 + len(text.split()) / 4] for text in texts], np.float32)
    return shared()(list(texts)) * lengths


def _by_stutter(texts: Sequence[str]) -> Any:
    """Embed texts as arrows in a plane: 8 degrees for each "my", and four of them make a long one."""
    counts = np.array([text.lower().split().count("my") for text in texts])
    return (np.where(counts > 3, 9, 1) * [np.cos(counts * 0.14), np.sin(counts * 0.14)]).T


def _holding(cache_class: Any, *questions: str, by: Callable[[Sequence[str]], Any] = embed) -> Any:
    """Return a cache that holds an answer to each question, for one tenant."""
    cache = cache_class(by)
    for question in questions:
        cache.put("lantern", question, _answer(question))
    return cache


def takes_the_nearest(cache_class: Any) -> None:
    """A question gets the answer put last for the nearest question, and None on another topic."""
    cache = _holding(cache_class, _AGAIN)
    hint = "What stands in the class body belongs to all objects; __init__ makes each its own."
    expect_equal(cache_class(embed).get("lantern", _AGAIN), None, "what another object gets", hint=hint)
    hint = "Which part said no, the threshold or your guard? Print both for this question."
    for asked in (_AGAIN, _AGAIN.upper()):
        what = f"the answer to {asked!r} after {_AGAIN!r} was put"
        expect_equal(cache.get("lantern", asked), _answer(_AGAIN), what, hint=hint)
    by_lengths = "A cosine is the dot product divided by both lengths; on other topics it is under about 0.4."
    what = f"a long question on another topic gets no answer ({_LONG!r:.60}...)"
    expect_equal(cache.get("lantern", _LONG), None, what, hint=by_lengths)
    near, asked_near, asked_far, far = (_AGAIN.replace("my", " ".join(["my"] * n)) for n in (1, 2, 3, 4))
    cache = _holding(cache_class, near, far, by=_by_stutter)
    hint = "Of several that are near enough, take the nearest: the one with the largest cosine."
    for asked, cached in ((asked_near, near), (asked_far, far)):
        what = f"the answer to {asked!r}, which is nearer to {cached!r}"
        expect_equal(cache.get("lantern", asked), _answer(cached), what, hint=hint)
    hint = "A question that is put again takes the place of its old entry; an empty text is an answer too."
    for new in ("! a new answer", ""):
        cache.put("lantern", near, new)
        expect_equal(cache.get("lantern", near), new, "the answer to a question put again", hint=hint)
    distant = _AGAIN.replace("my", "my " * 10)
    for asked, cached in ((near, distant), (distant, near)):
        what = f"the answer to {asked!r} after {cached!r}, whose cosine is 0.3"
        cache = _holding(cache_class, cached, by=_by_stutter)
        expect_equal(cache.get("lantern", asked), None, what, hint=by_lengths)


def looks_at_the_next(cache_class: Any) -> None:
    """When the nearest are refused, the nearest one that is let through is served, however old it is."""
    own, *others = random.sample(range(2, 4000), 101)
    cached = f"How much are my {own} points worth?"
    nearer = [f"How much are my my {number} points worth?" for number in others]
    cache = _holding(cache_class, cached, *nearer, by=_by_stutter)
    asked = nearer[0].replace(str(others[0]), str(own))
    what = f"the answer to {asked!r} after {cached!r} and 100 nearer ones with other numbers"
    hint = "Refuse first, and take the nearest of what is left. And nothing says that old entries leave."
    expect_equal(cache.get("lantern", asked), _answer(cached), what, hint=hint)


def parts_tenants(cache_class: Any) -> None:
    """Each tenant gets its own answers, and nothing of another's."""
    long = "lantern" * random.randint(2, 20)
    names = ["lantern", "summit", "lantern-2", "lan", "Lantern", "lantern "]
    tenants = [*names, f"{long}-north", f"{long}-south"]
    cache = cache_class(embed)
    cache.put(tenants[0], _AGAIN, "the answer of 'lantern'")
    hint = "Choose the tenant's own entries first, by equality, and only then compare vectors."
    for other in tenants[1:]:
        what = f"what tenant {other!r}, which has put nothing, gets after 'lantern' put an answer"
        expect_equal(cache.get(other, _AGAIN), None, what, hint=hint)
    answers = {tenant: f"the answer of {tenant!r}" for tenant in tenants}
    for tenant, answer in answers.items():
        cache.put(tenant, _AGAIN, answer)
    for tenant, answer in answers.items():
        expect_equal(cache.get(tenant, _AGAIN), answer, f"the answer for tenant {tenant!r}", hint=hint)


def serves_no_near_miss(cache_class: Any) -> None:
    """No given near-miss is served, whichever of the two was asked first, nor one with other numbers."""
    near_misses = [(pair.asked, pair.cached) for pair in PAIRS if not pair.is_same]
    greeted = [(f"Hello! {asked}", f"Hello! {cached}") for asked, cached in random.sample(near_misses, 5)]
    near_misses += [(cached, asked) for asked, cached in near_misses]
    near_misses += [_OTHER_NUMBERS, *_other_numbers(), *greeted]
    embed([text for both in near_misses for text in both])
    served = [
        f"{asked!r} got the answer to {cached!r}"
        for asked, cached in near_misses
        if _holding(cache_class, cached).get("lantern", asked) is not None
    ]
    observed = f"{len(served)} served, for instance {'; '.join(served[:2])}"
    hint = "No threshold tells these from paraphrases: their vectors are as near. Which words decide?"
    expect(not served, observed=observed, expected=f"0 of {len(near_misses)}", hint=hint)


def serves_paraphrases(cache_class: Any) -> None:
    """At least 60 % of the given paraphrases are served with the right answer, and 40 % of others."""
    same = [pair for pair in labelled_pairs("calibrate") if pair.is_same]
    given, others = (pair for pair in same if pair in PAIRS), [pair for pair in same if pair not in PAIRS]
    for name, share, pairs in (("given", 0.6, [*given]), ("other", 0.4, others[::4])):
        embed([text for pair in pairs for text in (pair.asked, pair.cached)])  # at once: half the time
        cache = _holding(cache_class, *dict.fromkeys(pair.cached for pair in pairs))
        right = [cache.get("lantern", pair.asked) == _answer(pair.cached) for pair in pairs]
        missed = next((pair.asked for pair, is_right in zip(pairs, right, strict=True) if not is_right), "")
        what, wanted = f"at least {share:.0%} of the {name} paraphrases are served", share * len(pairs)
        seen = f"{sum(right)} of {len(pairs)}; not served, or wrongly: {missed!r}"
        hint = "What did the guard or the threshold have against this one?"
        expect(sum(right) >= wanted, what, observed=seen, expected=f"at least {wanted:.0f}", hint=hint)


EXERCISE = Exercise(
    title="A semantic cache",
    minutes=12,
    difficulty="medium",
    hints=(
        "One dict of entries per tenant; take the nearest over the threshold that refuses() lets through.",
        "Paraphrases need a cosine of about 0.6, where most near-misses pass too: refuses() does the rest.",
        "Two rules are enough: other numbers (re.findall(r'\\d+', text)), and groups of words that exclude "
        "each other, such as countries or goods, where each question has one that the other has not.",
    ),
    checks=(takes_the_nearest, parts_tenants, serves_no_near_miss, serves_paraphrases, looks_at_the_next),
    deadline_s=30.0,
    why="The wall between tenants is a key, not a distance. The groups were written for these pairs, so zero "
    "false hits here say nothing about tomorrow's questions: the held-out half does.",
)
