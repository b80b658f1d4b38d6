"""Exercise 2.1: each guess and each repair is judged by what DSPy's own cache really does."""

from __future__ import annotations

import dspy
import pytest

from course_lib.exercises.caching import misses
from course_lib.exercises.caching.misses import EXERCISE, REASONS, Colleague, requests_of_pair
from course_lib.exercises.engine.checking import judge


class Again(Colleague):
    async def a(self, sort, ticket):
        return sort(ticket=ticket), await dspy.asyncify(sort)(ticket=ticket)

    def b(self, sort, ticket):
        return sort(ticket=ticket), sort(ticket=ticket)

    c = b

    def d(self, sort, ticket):
        config = {"temperature": 1.0, "rollout_id": 7}
        return sort(ticket=ticket, config=config), sort(ticket=ticket, config=config)

    def e(self, sort, ticket):
        config = {"stop": ["<end>", "###"]}
        return sort(ticket=ticket, config=config), sort(ticket=ticket, config=config)


@pytest.mark.parametrize("letter", REASONS)
def test_each_pair_pays_twice_and_each_wrong_reason_and_each_pair_left_is_told_apart(letter):
    wrong = next(reason for other, reason in REASONS.items() if other != letter)
    left = type("Left", (Again,), {letter: getattr(Colleague, letter)})

    assert judge(EXERCISE, REASONS, Again).outcome == "passed"
    assert requests_of_pair(getattr(Colleague(), letter)) == 2
    assert f"pair {letter} misses for the reason" in judge(EXERCISE, REASONS | {letter: wrong}, Again).message
    assert f"requests of pair {letter}" in judge(EXERCISE, REASONS, left).message


@pytest.mark.parametrize("letter", REASONS)
def test_each_reason_is_what_differs_between_the_two_requests(letter):
    with misses._watching() as asked:
        misses._answers(getattr(Colleague(), letter), "Where is my parcel?")
    (first, _), (second, _) = asked

    different = {name for name in first if first[name] != second.get(name)}
    if not different:
        with pytest.raises(TypeError):
            dspy.cache.cache_key(first)

    assert (different or {"no key"}) == {REASONS[letter]}


def without_the_ticket(self, sort, ticket):
    return sort(ticket="any"), sort(ticket="any")


def asked_once(self, sort, ticket):
    answer = sort(ticket=ticket)
    return answer, answer


def without_a_cache(self, sort, ticket):
    return sort(ticket=ticket), sort(ticket=ticket, config={"cache": False})


@pytest.mark.parametrize(
    ("letter", "pair", "message"),
    [
        ("a", Again.b, "leaves the service's event loop free"),
        ("b", without_a_cache, "calls of pair b that ask the cache"),
        ("c", without_the_ticket, "still asks about the ticket"),
        ("c", asked_once, "calls of pair c that ask the cache"),
        ("d", Again.b, "a sample of its own"),
        ("e", Again.b, "stops at both marks"),
    ],
)
def test_a_repair_that_defeats_the_purpose_is_refused(letter, pair, message):
    result = judge(EXERCISE, REASONS, type("Bad", (Again,), {letter: pair}))

    assert (result.outcome, message in result.message) == ("failed", True), result.text


def test_what_was_given_is_not_an_attempt():
    given = type("Again", (Colleague,), {})

    assert judge(EXERCISE, {}, given).outcome == "not attempted"
    assert "part 2 of 2" in judge(EXERCISE, REASONS, given).message


def test_dspys_cache_is_as_before_after_a_check_that_fails_in_the_middle():
    former = vars(dspy).get("cache")

    class Broken(Again):
        def b(self, sort, ticket):
            raise ZeroDivisionError

    assert judge(EXERCISE, REASONS, Broken).outcome == "crashed"
    assert vars(dspy).get("cache") is former
