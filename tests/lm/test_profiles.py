import json

import pytest

from course_lib.lm.profiles import PROFILES, Profile, ProfileError, as_values, build, split_model


def test_the_shipped_profiles_are_five_and_calm_is_perfect() -> None:
    assert list(PROFILES) == ["calm", "busy", "storm", "outage", "sloppy"]
    assert PROFILES["calm"] == Profile("calm")


@pytest.mark.parametrize("profile", [*PROFILES.values(), build("mine", {"first": ["ok", "stall"]})])
def test_a_profile_survives_the_way_over_json(profile: Profile) -> None:
    assert build(profile.name, json.loads(json.dumps(as_values(profile)))) == profile


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"eror_rate": 0.3}, "unknown field 'eror_rate'; known: broken_chunk_rate"),
        ({"error_rate": 1.3}, "error_rate is a share from 0 to 1, not 1.3"),
        ({"error_rate": -0.1}, "error_rate is 0, or a number from 1e-06 to 1e.09, not -0.1"),
        ({"error_rate": "0.3"}, "not '0.3'"),
        ({"error_rate": True}, "not True"),
        ({"ttft_p50_ms": float("nan")}, "not nan"),
        ({"error_rate": 0.6, "hang_rate": 0.6}, "the rates sum to 1.2, above 1"),
        ({"ttft_p50_ms": 100, "ttft_p99_ms": 50}, r"ttft_p99_ms \(50.0\) is below ttft_p50_ms \(100.0\)"),
        ({"speed_p99_tokens_per_s": 50}, "speed_p99_tokens_per_s is set, but not speed_p50_tokens_per_s"),
        ({"seed": 1.5}, "seed is a whole number of up to 63 bits, not 1.5"),
        ({"timeline": [(5, 2, {})]}, "ends .* before it begins"),
        ({"timeline": [(1, 2, {"rate": 1})]}, "unknown field 'rate' in the timeline"),
        ({"timeline": [(1, 2, {"first": ["error"]})]}, "give it beside the timeline"),
        ({"first": ["ok", "eror"]}, "unknown kind 'eror' in first; known: ok, rate_limited, error"),
        ({"first": "error"}, "first is a list of up to 100 kinds, not 'error'"),
        ({"first": ["ok"] * 101}, "first is a list of up to 100 kinds"),
        ({"timeline": [(1, 2)]}, "a timeline entry is"),
        ({"error_rate": 0.5, "timeline": [(1, 2, {"hang_rate": 0.8})]}, "the rates sum to 1.3"),
    ],
)
def test_a_profile_that_cannot_be_is_refused_with_the_reason(values: dict[str, object], said: str) -> None:
    with pytest.raises(ProfileError, match=said):
        build("mine", values)


@pytest.mark.parametrize("name", ["", "Mine", "a b", "x@y", "1st", "x" * 50])
def test_a_name_must_fit_behind_an_at_sign(name: str) -> None:
    with pytest.raises(ProfileError, match="not usable after an @"):
        build(name, {})


def test_the_timeline_says_what_holds_when() -> None:
    profile = build(
        "mine", {"error_rate": 0.1, "timeline": [(2, 4, {"error_rate": 0.9}), (3, 5, {"hang_rate": 0.5})]}
    )

    rates = [(profile.at(t).error_rate, profile.at(t).hang_rate) for t in (0, 2, 3.5, 4.9, 5)]

    assert rates == [(0.1, 0), (0.9, 0), (0.1, 0.5), (0.1, 0.5), (0.1, 0)]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("sim-large", ("sim-large", "calm")),
        ("sim-large@storm", ("sim-large", "storm")),
        ("openai/gpt-4o-mini@busy", ("openai/gpt-4o-mini", "busy")),
        ("vertex_ai/claude@20240229", ("vertex_ai/claude@20240229", "calm")),
        ("vertex_ai/claude@20240229@busy", ("vertex_ai/claude@20240229", "busy")),
        ("@storm", ("@storm", "calm")),
    ],
)
def test_the_model_string_is_model_at_profile(model: str, expected: tuple[str, str]) -> None:
    assert split_model(model) == expected
