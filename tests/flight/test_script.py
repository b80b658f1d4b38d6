"""The script of a flight: the same for the same seed, and each scene does what it tells."""

from __future__ import annotations

import pytest

from course_lib.flight.parts import Job, Request
from course_lib.flight.script import KNOWN, NAMES, SCENES, ScriptError, plan
from course_lib.flight.system import Poisoned, check
from course_lib.redaction import redact


def test_a_seed_writes_the_same_script_again_and_another_one_another():
    assert plan(7) == plan(7)
    assert plan(7).sent != plan(8).sent


def test_the_scenes_follow_one_another_for_ninety_seconds():
    scenes = plan(7).scenes

    assert [each.ends_s for each in scenes[:-1]] == [each.begins_s for each in scenes[1:]]
    assert scenes[-1].ends_s == 90.0
    assert [each.name for each in scenes] == list(NAMES)


def test_a_short_flight_is_a_short_calm_and_the_scenes_named():
    scenes = plan(7, ("outage",)).scenes

    assert [(each.name, each.begins_s) for each in scenes] == [("calm", 0.0), ("outage", 4.0)]


def test_a_scene_that_there_is_not_is_named_with_those_that_there_are():
    with pytest.raises(ScriptError, match=r"no scene 'hail'; there are calm, peak"):
        plan(7, ("hail",))


def test_what_is_sent_lies_in_its_scene():
    flight = plan(7)
    times = {each.name: (each.begins_s, each.ends_s) for each in flight.scenes}

    assert all(times[each.scene][0] <= each.at_s < times[each.scene][1] for each in flight.sent)
    assert {each.scene for each in flight.sent if isinstance(each.what, Job)} == {
        each.name for each in SCENES if each.jobs_per_s
    }


def test_the_guard_refuses_exactly_what_is_poisoned():
    asked = [each for each in plan(7).sent if isinstance(each.what, Request)]

    refused = []
    for each in asked:
        try:
            check(each.what.text)
        except Poisoned:
            refused.append(each)

    assert refused == [each for each in asked if each.article is None] != []


def test_what_is_planted_is_sent_and_is_what_redaction_takes_out():
    flight = plan(7)
    sent = "\n".join(each.what.text for each in flight.sent)
    redacted = "\n".join(redact(each.what.text) for each in flight.sent)

    assert len(flight.secrets) > 50
    assert all(secret in sent and secret not in redacted for secret in flight.secrets)


def test_the_known_questions_are_enough_and_no_two_the_same():
    assert len(KNOWN) == len(set(KNOWN)) >= 30
