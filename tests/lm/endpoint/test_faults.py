import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.lm.endpoint.faults import Bucket, draw, spoil
from course_lib.lm.profiles import FAULTS, MALFORMED, PROFILES, build

DRAWS = 20_000


@pytest.mark.parametrize("name", ["storm", "sloppy"])
def test_every_kind_of_fault_comes_at_its_rate(name: str) -> None:
    profile = PROFILES[name]

    drawn = [draw(profile, "sim-large", n).fault for n in range(DRAWS)]

    for kind in FAULTS:
        rate = getattr(profile, f"{kind}_rate")
        error = 4 * math.sqrt(rate * (1 - rate) / DRAWS)
        assert drawn.count(kind) / DRAWS == pytest.approx(rate, abs=error), kind


@pytest.mark.parametrize("kind", FAULTS)
def test_a_rate_of_one_strikes_always(kind: str) -> None:
    profile = build("always", {f"{kind}_rate": 1})

    assert {draw(profile, "sim-large", n).fault for n in range(500)} == {kind}


def test_the_same_seed_repeats_and_another_does_not() -> None:
    def sequence(seed: int, model: str) -> list[object]:
        return [draw(build("mine", {"error_rate": 0.5, "seed": seed}), model, n) for n in range(50)]

    assert sequence(0, "sim-large") == sequence(0, "sim-large")
    assert sequence(0, "sim-large") != sequence(1, "sim-large")
    assert sequence(0, "sim-large") != sequence(0, "sim-small")


def test_the_sequence_is_the_same_on_every_machine() -> None:
    drawn = [draw(PROFILES["storm"], "sim-large", n) for n in range(40)]

    struck = [(n, plan.fault) for n, plan in enumerate(drawn) if plan.fault]
    assert struck == STORM_BEGINS
    assert drawn[1].ttft_s == pytest.approx(0.13092885882483443)


def test_latencies_hold_the_percentiles_of_the_profile() -> None:
    plans = [draw(PROFILES["storm"], "sim-large", n) for n in range(DRAWS)]

    ttft_ms = sorted(plan.ttft_s * 1000 for plan in plans)
    speed = sorted(plan.tokens_per_s for plan in plans)

    assert ttft_ms[DRAWS // 2] == pytest.approx(PROFILES["storm"].ttft_p50_ms, rel=0.1)
    assert ttft_ms[DRAWS * 99 // 100] == pytest.approx(PROFILES["storm"].ttft_p99_ms, rel=0.1)
    assert speed[DRAWS // 2] == pytest.approx(PROFILES["storm"].speed_p50_tokens_per_s, rel=0.1)
    assert speed[DRAWS * 99 // 100] == pytest.approx(PROFILES["storm"].speed_p99_tokens_per_s, rel=0.1)


def test_a_bucket_lets_one_seconds_worth_through_then_the_rate() -> None:
    bucket = Bucket(4, now_s=0.0)
    waits = []

    for _ in range(6):
        waits.append(bucket.wait_s(0.0))
        if not waits[-1]:
            bucket.take(1)

    assert waits == [0, 0, 0, 0, 0.25, 0.25]
    assert bucket.wait_s(0.25) == 0


def test_a_bucket_overdrawn_waits_until_it_has_filled_again() -> None:
    bucket = Bucket(10, now_s=0.0)

    bucket.take(30)

    assert bucket.wait_s(0.0) == pytest.approx(2.1)


STORM_BEGINS = [
    (0, "unavailable"),
    (3, "unavailable"),
    (13, "unavailable"),
    (15, "unavailable"),
    (17, "unavailable"),
    (23, "unavailable"),
    (24, "cut_before"),
    (31, "unavailable"),
    (32, "cut_midway"),
]

ANSWERS = {
    "chat": "[[ ## reasoning ## ]]\nBecause.\n\n[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]\n",
    "json": '{"reasoning": "Because \\"it\\" is.", "answer": {"city": "Paris", "n": [1, 2]}}',
    "fenced": '```json\n{"reasoning": "Because.", "answer": "Paris"}\n```',
    "xml": "<reasoning>\nBecause.\n</reasoning>\n<answer>\nParis\n</answer>",
    "labels": "Reasoning: Because.\nAnswer: Paris",
}


@pytest.mark.parametrize("form", ANSWERS)
def test_a_missing_field_is_the_last_one_and_only_that(form: str) -> None:
    spoiled = spoil(ANSWERS[form], "missing_field", 0.5)

    assert "Because" in spoiled
    assert "Paris" not in spoiled
    assert "nswer" not in spoiled


def test_a_missing_field_leaves_json_well_formed() -> None:
    assert json.loads(spoil(ANSWERS["json"], "missing_field", 0.5)) == {"reasoning": 'Because "it" is.'}
    assert json.loads(spoil('{"only": 1}', "missing_field", 0.5)) == {}


def test_broken_json_ends_in_the_last_key() -> None:
    assert spoil(ANSWERS["json"], "broken_json", 0.5) == '{"reasoning": "Because \\"it\\" is.", "ans'


@pytest.mark.parametrize("form", ["chat", "xml", "labels"])
def test_broken_json_damages_a_mark_in_other_formats(form: str) -> None:
    spoiled = spoil(ANSWERS[form], "broken_json", 0.5)

    assert "Paris" in spoiled
    assert len(spoiled) < len(ANSWERS[form])


def test_prose_around_keeps_the_answer_whole() -> None:
    spoiled = spoil(ANSWERS["json"], "prose_around", 0.5)

    assert spoiled.startswith("Sure!")
    assert ANSWERS["json"] in spoiled


def test_cut_by_length_keeps_a_share_from_the_beginning() -> None:
    assert spoil("one two three four", "cut_by_length", 0.5) == "one two"


@given(st.text(min_size=1), st.sampled_from(sorted(MALFORMED)), st.floats(0.2, 0.8))
def test_any_text_can_be_malformed_and_is_never_left_as_it_was(text: str, kind: str, spot: float) -> None:
    assert spoil(text, kind, spot) != text
