"""Exercise 2.5, a semantic cache: other words are served, nearly the same words are not, tenants stay apart.

Main path: EXERCISE -> engine.registry; the checks fill a learner's cache and ask it the given pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from course_lib.caching.semantic import Pair, labelled_pairs
from course_lib.exercises.engine.checks import expect, expect_equal
from course_lib.exercises.engine.registry import Exercise, stub_methods

HIT_SHARE = 0.6
"""Of the given paraphrases, so many must be served."""

_IDS = """
P-001 P-002 N-001 N-003 P-007 P-008 N-010 N-012 P-019 P-020 N-028 N-029 N-030 P-041 P-042 N-062 P-049 P-050
N-074 N-075 P-101 P-102 N-151 P-115 P-116 N-172 N-173 P-123 P-124 N-184 N-186 P-125 P-126 N-187 N-189 P-129
P-130 N-194 N-195 P-149 P-150 N-223 N-225 P-151 P-152 N-226 N-228 P-165 P-166 N-247 P-169 P-170 N-253
"""
_BY_ID = {pair.id: pair for pair in labelled_pairs("calibrate")}
PAIRS: tuple[Pair, ...] = tuple(_BY_ID[each] for each in _IDS.split())
"""The given pairs: each has `asked`, `cached`, and whether the cached answer is right, `is_same`."""

CacheClass = Callable[[Any], Any]
_AGAIN = "How do I reset my password?"
_LONG = (
    "How do I keep my children warm when we walk from hut to hut for nine days in July, and how do I dry our "
    "sleeping bags on the way, if it rains as much as it did last year when we had to give up?"
)


def embed(texts: Sequence[str]) -> Any:
    """Embed texts by MiniLM, as a service might: one row each, longer for a longer text."""
    import numpy as np

    from course_lib.caching.semantic import shared

    lengths = np.array([[1 + len(text.split()) / 4] for text in texts], np.float32)
    return shared()(list(texts)) * lengths


def _answer(pair: Pair) -> str:
    return f"(the answer to {pair.cached!r})"


def _filled(cache_class: CacheClass, *pairs: Pair) -> Any:
    """Return a cache that holds the cached question of each pair, once, and nothing else."""
    cache = cache_class(embed)
    for question, answer in {pair.cached: _answer(pair) for pair in pairs}.items():
        cache.put("lantern", question, answer)
    return cache


def _listed(pairs: Sequence[tuple[Pair, Any]]) -> str:
    shown = "; ".join(f"{pair.asked!r} got {answer}" for pair, answer in pairs[:2])
    return f"{len(pairs)}, for instance {shown}"


def serves_the_same_again(cache_class: CacheClass) -> None:
    """A question asked again is served, also with a greeting and in other letters."""
    cache = cache_class(embed)
    cache.put("lantern", _AGAIN, "the link on the login page")
    for asked in (_AGAIN, _AGAIN.upper(), f"Hello, {_AGAIN.lower()} Thanks"):
        expect_equal(
            cache.get("lantern", asked),
            "the link on the login page",
            f"the answer to {asked!r} after {_AGAIN!r} was put",
            hint="Which part said no, the threshold or your guard? Print both for this question.",
        )


def is_silent_on_other_topics(cache_class: CacheClass) -> None:
    """A long question on another topic gets no answer."""
    cache = cache_class(embed)
    cache.put("lantern", _AGAIN, "the link on the login page")
    expect_equal(
        cache.get("lantern", _LONG),
        None,
        f"a long question on another topic gets no answer ({_LONG!r:.60}...)",
        hint="The vectors of `embed` are longer for longer texts, and a dot product grows with them. A "
        "cosine is the dot product divided by both lengths; on other topics it stays under about 0.4.",
    )


def keeps_tenants_apart(cache_class: CacheClass) -> None:
    """Each tenant gets its own answers, and nothing of another's."""
    cache = cache_class(embed)
    cache.put("lantern", _AGAIN, "Lantern's answer")
    hint = "Choose the tenant's own entries first, and only then compare vectors."
    expect_equal(cache.get("summit", _AGAIN), None, "a tenant that has put nothing gets nothing", hint=hint)
    cache.put("summit", _AGAIN, "Summit's answer")
    for tenant, own in (("lantern", "Lantern's answer"), ("summit", "Summit's answer")):
        expect_equal(cache.get(tenant, _AGAIN), own, f"the answer for tenant {tenant!r}")


def serves_no_near_miss(cache_class: CacheClass) -> None:
    """No given near-miss is served."""
    embed([text for pair in PAIRS for text in (pair.cached, pair.asked)])  # at once: half the time
    near_misses = [pair for pair in PAIRS if not pair.is_same]
    asked = [(pair, _filled(cache_class, pair).get("lantern", pair.asked)) for pair in near_misses]
    served = [(pair, answer) for pair, answer in asked if answer is not None]
    expect(
        not served,
        observed=_listed(served),
        expected=f"0 of {len(near_misses)}",
        hint="No threshold tells these from paraphrases: their vectors are as near. Which words decide? A "
        "guard can compare those.",
    )


def serves_most_paraphrases(cache_class: CacheClass) -> None:
    """At least 60 % of the paraphrases are served, each with the right answer."""
    cache = _filled(cache_class, *PAIRS)
    asked = [(pair, cache.get("lantern", pair.asked)) for pair in PAIRS if pair.is_same]
    wrong = [(pair, answer) for pair, answer in asked if answer not in (None, _answer(pair))]
    expect(
        not wrong,
        "a paraphrase gets its own question's answer",
        observed=_listed(wrong),
        expected="the answer of the nearest question that is not refused",
        hint="Of several that are near enough, take the nearest.",
    )
    hits = sum(answer is not None for _, answer in asked)
    expect(
        hits >= HIT_SHARE * len(asked),
        observed=f"{hits} of {len(asked)}; not served: {next((p.asked for p, a in asked if not a), '')!r}",
        expected=f"at least {HIT_SHARE * len(asked):.0f} of {len(asked)}",
        hint="A cache that says no to everything is safe and of no use. What did the guard or the threshold "
        "have against this one?",
    )


EXERCISE = Exercise(
    id="2.5",
    title="A semantic cache",
    lesson="02_caching",
    minutes=20,
    difficulty="medium",
    concepts=("embeddings", "cosine", "threshold", "guards", "tenants"),
    hints=(
        "Start with one dict of entries per tenant. get() embeds the question, goes through the tenant's own "
        "entries, and takes the nearest whose cosine is over the threshold and that refuses() lets through.",
        "cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b)). Print the cosines of PAIRS: paraphrases "
        "need a threshold of about 0.6, and there most near-misses pass. So refuses() has to do the rest.",
        "Two rules are enough. Other numbers: re.findall(r'\\d+', text). And groups of words of which one "
        "excludes the other, such as countries, goods, before and after: refuse where each question has a "
        "word of the group that the other has not.",
    ),
    checks=(
        serves_the_same_again,
        is_silent_on_other_topics,
        keeps_tenants_apart,
        serves_no_near_miss,
        serves_most_paraphrases,
    ),
    deadline_s=30.0,
    is_stub=stub_methods("put", "get", "refuses"),
    why="The wall between tenants is a key, not a distance. The threshold decides what is on one topic, "
    "which is all that a vector knows. What decides within the topic is a word, so words are compared. The "
    "groups were written for these pairs, so zero false hits here says nothing about tomorrow's questions: "
    "that is what the held-out half is for.",
)
