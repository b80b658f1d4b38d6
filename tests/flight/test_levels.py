"""Each level holds up to its bar and fails beyond it, and tells what each scene took."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from typing import Any

import pytest

from course_lib.flight.levels import COST_USD, MECHANISMS, MOST_AT_ONCE, P99_S, Observed, judged
from course_lib.flight.parts import Reply, Request
from course_lib.flight.recording import levels_of
from course_lib.flight.result import Flown, Level, Seen
from course_lib.flight.script import plan
from course_lib.lm.calls import Call

PLAN = plan(7, ("outage", "poisoned"))
METRICS = '# TYPE desk_requests counter\ndesk_requests_total{outcome="answered"} %d\n'


def call(**values: Any) -> Call:
    empty = {"str": "", "int": 0, "float": 0.0, "bool": False}
    plain = {each.name: empty.get(str(each.type)) for each in fields(Call)}
    return Call(**plain | values)


def asked(count: int, scene: str = "calm", **values: Any) -> list[Seen]:
    one = Seen(1.0, 0.2, scene, "question", "answered", is_right=True)
    return [replace(one, **values)] * count


def level(name: str, seen: list[Seen], **observed: Any) -> Level:
    flown = Flown(7, "", {}, {}, [], seen, judged(Observed(PLAN, seen, **observed)))
    return levels_of(flown)[name]


SHARES = {
    "availability": ("outage", {"outcome": "degraded"}, 96),
    "correctness": ("bad version", {"is_right": False}, 85),
}


@pytest.mark.parametrize(("name", "scene", "bad", "bar"), [(name, *each) for name, each in SHARES.items()])
def test_a_share_holds_at_its_bar_and_not_below(name, scene, bad, bar):
    at = level(name, asked(bar, scene) + asked(100 - bar, scene, **bad))
    below = level(name, asked(bar - 1, scene) + asked(101 - bar, scene, **bad))

    assert (at.holds, at.advice) == (True, "")
    assert not below.holds
    assert below.by_scene == {scene: pytest.approx(101 - bar)}
    assert below.advice == next(
        f"{each.part}: {each.advice}"
        for each in MECHANISMS.values()
        if (each.scene, each.level) == (scene, name)
    )


def test_whoever_is_refused_was_not_to_be_answered():
    assert level("availability", asked(10) + asked(10, outcome="refused", is_right=None)).holds


def test_a_version_that_is_never_taken_back_fails_in_its_scene_though_not_in_the_whole():
    seen = asked(900) + asked(75, "bad version") + asked(25, "bad version", is_right=False)
    correctness = level("correctness", seen)

    assert correctness.seen == "97.5%, within the scene 75.0%"
    assert not correctness.holds
    assert correctness.advice.startswith("canary: ")


def test_a_part_that_raised_is_blamed_for_the_level_that_it_is_for():
    raised: Any = Counter({("cache", "OSError"): 3, ("runner", "TypeError"): 2})
    errors: Any = Counter({("monitor", "KeyError"): 4})
    bad = asked(10, outcome="degraded")
    calls = [("calm", call(cost_usd=1.0))]
    told = {
        name: level(name, bad, calls=calls, raised=raised, errors=errors).advice
        for name in ("availability", "cost per answer", "observability")
    }

    assert (
        told["availability"] == "monitor: it raised KeyError, 4 times; runner: it raised TypeError, 2 times"
    )
    assert told["cost per answer"] == "cache: it raised OSError, 3 times"
    assert told["observability"].startswith("monitor, tracer: count")


def test_a_level_is_judged_by_what_was_seen_and_a_part_that_raised_is_named_where_it_fails():
    raised: Any = Counter({("canary", "OSError"): 1})
    told = [level("correctness", asked(9) + asked(wrong, is_right=False), raised=raised) for wrong in (0, 9)]

    assert [(each.holds, each.advice) for each in told] == [
        (True, ""),
        (False, "canary: it raised OSError, once"),
    ]


def test_one_slow_answer_in_a_hundred_is_no_matter_and_three_are():
    slow = {"took_s": P99_S + 1, "scene": "slow"}

    assert level("99th percentile", asked(199) + asked(1, **slow)).holds
    assert not level("99th percentile", asked(97) + asked(3, **slow)).holds


def test_the_cost_is_that_of_all_calls_over_all_answers():
    calls = [("calm", call(cost_usd=4 * COST_USD))]

    assert level("cost per answer", asked(5, outcome="cached"), calls=calls).holds
    assert not level("cost per answer", asked(3) + asked(5, outcome="degraded"), calls=calls).holds


def test_calls_are_at_once_that_overlap():
    at_once = [("peak", call(at_s=1.0, duration_ms=500)) for _ in range(MOST_AT_ONCE)]
    later = [("peak", call(at_s=1.5, duration_ms=500))]
    meanwhile = [("peak", call(at_s=1.4, duration_ms=500))]

    assert level("load on the models", asked(1), calls=at_once + later).holds
    assert level("load on the models", asked(1), calls=at_once + meanwhile).by_scene == {
        "peak": MOST_AT_ONCE + 1
    }


@pytest.mark.parametrize("outcome", ["lost", "twice"])
def test_one_job_that_is_lost_or_done_twice_is_one_too_many(outcome):
    job = Seen(1.0, 0.0, "worker killed", "job", outcome)

    assert level("jobs", [replace(job, outcome="done")]).holds
    assert level("jobs", [job]).by_scene == {"worker killed": 1}
    words = {"lost": "acknowledge a job when it is done", "twice": "the handler is not idempotent"}
    assert words[outcome] in level("jobs", [job]).advice


def test_poison_that_is_answered_and_a_question_that_is_refused_are_both_told():
    sent = [each for each in PLAN.sent if isinstance(each.what, Request)]
    right = {each.what.id: Reply("answered" if each.article else "refused") for each in sent}
    wrong = {
        name: Reply("refused" if reply.outcome == "answered" else "answered") for name, reply in right.items()
    }
    poisoned = sum(each.article is None for each in sent)

    assert level("poisoned input", [], replies=right).holds
    seen = level("poisoned input", [], replies=wrong).seen
    assert seen == f"{poisoned} sent, {poisoned} let through, {len(sent) - poisoned} others refused"


def test_what_was_planted_and_is_found_is_told_by_place_and_by_the_scene_in_which_it_was_sent():
    secret, scene = next(iter(PLAN.secrets.items()))
    observed = Observed(PLAN, [])
    observed.search("Redis", f"... {secret} ...")
    found = next(each for each in judged(observed) if each.name == "privacy")

    assert (found.holds, found.seen, found.by_scene) == (False, "1 in Redis", {scene: 1})


def test_metrics_and_spans_that_have_each_request_hold():
    seen = asked(3)

    assert level("observability", seen, metrics=METRICS % 3, spans=3).holds
    for metrics, spans in ((METRICS % 2, 3), (METRICS % 3, 4), ("", 3)):
        assert not level("observability", seen, metrics=metrics, spans=spans).holds
