"""Exercise 2.5: the library's own cache passes, and what it protects against does not."""

from __future__ import annotations

import pytest

from course_lib.caching.semantic import SemanticCache
from course_lib.exercises.caching.semantic import EXERCISE, PAIRS
from course_lib.exercises.engine.checking import judge


def built(*, leaks: bool = False, **options: object) -> type:
    """Return the library's cache in the form that the exercise asks for."""

    class OfTheLibrary:
        def __init__(self, embed):
            self.cache = SemanticCache(embed, **({"threshold": 0.6} | options))

        def put(self, tenant, question, answer):
            self.cache.put(question, answer, tenant="all" if leaks else tenant)

        def get(self, tenant, question):
            hit = self.cache.get(question, tenant="all" if leaks else tenant)
            return hit.answer if hit else None

        def refuses(self, asked, cached):
            return any(guard(asked, cached) for guard in self.cache.guards)

    return OfTheLibrary


WRONG = {
    "no guard": ({"guards": ()}, "no given near-miss is served"),
    "high threshold, no guard": ({"guards": (), "threshold": 0.9}, "no given near-miss is served"),
    "one cache for all": ({"leaks": True}, "a tenant that has put nothing gets nothing"),
    "refuses all but the same": (
        {"guards": (lambda asked, cached: "" if "reset" in asked.lower() else "no",)},
        "at least 60 % of the paraphrases are served",
    ),
    "any topic": ({"guards": (), "threshold": 0.01}, "a long question on another topic gets no answer"),
}


def test_the_library_s_cache_passes():
    result = judge(EXERCISE, built())

    assert result.outcome == "passed", result.message


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_each_mistake_has_a_message_of_its_own(options, message):
    result = judge(EXERCISE, built(**options))

    assert result.outcome == "failed"
    assert result.message.startswith(message)


def test_the_given_pairs_are_of_the_half_for_tuning_and_no_threshold_parts_them():
    from course_lib.caching.semantic import measured

    rows = measured(PAIRS)

    assert {pair.split for pair in PAIRS} == {"calibrate"}
    nearest_wrong = max(row.similarity for row in rows if not row.pair.is_same)
    assert nearest_wrong > max(row.similarity for row in rows if row.pair.is_same)
