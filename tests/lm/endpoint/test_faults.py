import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.lm.endpoint.faults import corrupt, draw
from course_lib.lm.profiles import FAULTS, MALFORMED, PROFILES, as_values, build

DRAWS = 20_000


@pytest.mark.parametrize("name", ["storm", "sloppy"])
def test_every_kind_of_fault_comes_at_its_rate(name: str) -> None:
    profile = PROFILES[name]

    drawn = [draw(profile, "sim-large", n).fault for n in range(DRAWS)]

    for kind in FAULTS:
        rate = getattr(profile, f"{kind}_rate")
        error = 4 * math.sqrt(rate * (1 - rate) / DRAWS)
        assert drawn.count(kind) / DRAWS == pytest.approx(rate, abs=error), kind


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

    storm, p50, p99 = PROFILES["storm"], DRAWS // 2, DRAWS * 99 // 100
    assert [ttft_ms[p50], ttft_ms[p99]] == pytest.approx([storm.ttft_p50_ms, storm.ttft_p99_ms], rel=0.1)
    expected = [storm.speed_p50_tokens_per_s, storm.speed_p99_tokens_per_s]
    assert [speed[p50], speed[p99]] == pytest.approx(expected, rel=0.1)


def test_what_befalls_the_first_requests_is_said_and_the_draws_behind_them_stay_where_they_were() -> None:
    first = build("mine", {**as_values(PROFILES["storm"]), "first": ["ok", "rate_limited", "stall"]})

    drawn = [draw(first, "sim-large", n) for n in range(40)]

    assert [plan.fault for plan in drawn[:3]] == [None, "rate_limited", "stall"]
    assert drawn[3:] == [draw(PROFILES["storm"], "sim-large", n) for n in range(3, 40)]


STORM_BEGINS = [(at, "unavailable") for at in (0, 3, 13, 15, 17, 23)]
STORM_BEGINS += [(24, "cut_before"), (31, "unavailable"), (32, "cut_midway")]

ANSWERS = {
    "chat": "[[ ## reasoning ## ]]\nBecause.\n\n[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]\n",
    "json": '{"reasoning": "Because \\"it\\" is.", "answer": {"city": "Paris", "n": [1, 2]}}',
    "fenced": '```json\n{"reasoning": "Because.", "answer": "Paris"}\n```',
    "xml": "<reasoning>\nBecause.\n</reasoning>\n<answer>\nParis\n</answer>",
    "labels": "Reasoning: Because.\nAnswer: Paris",
}


@pytest.mark.parametrize("form", ANSWERS)
def test_in_every_format_the_last_field_is_missing_or_a_mark_is_damaged(form: str) -> None:
    missing, broken = (corrupt(ANSWERS[form], kind, 0.5) for kind in ("missing_field", "broken_json"))

    assert "Because" in missing
    assert "Paris" not in missing
    assert "nswer" not in missing
    assert len(broken) < len(ANSWERS[form])
    assert ("Paris" in broken) == (form in ("chat", "xml", "labels"))


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        (ANSWERS["json"], "missing_field", '{"reasoning": "Because \\"it\\" is."}'),  # still JSON
        ('{"only": 1}', "missing_field", "{}"),
        (ANSWERS["json"], "broken_json", '{"reasoning": "Because \\"it\\" is.", "ans'),
        ("one two three four", "cut_by_length", "one two"),
    ],
)
def test_a_fault_of_the_text_does_what_its_name_says(text: str, kind: str, expected: str) -> None:
    assert corrupt(text, kind, 0.5) == expected


@given(st.text(min_size=1), st.sampled_from(sorted(MALFORMED)), st.floats(0.2, 0.8))
def test_any_text_can_be_malformed_and_is_never_left_as_it_was(text: str, kind: str, spot: float) -> None:
    assert corrupt(text, kind, spot) != text
