import pytest

from course_lib.lm.prices import ASSUMED, PRICES, cost_usd, price


def test_the_small_model_is_cheaper_and_local_is_free() -> None:
    assert cost_usd("sim-small", 1000, 1000) < cost_usd("sim-large", 1000, 1000) / 10
    assert cost_usd("local", 1000, 1000) == 0


def test_hosted_prices_come_from_the_shipped_list() -> None:
    assert price("openai/gpt-4o-mini").prompt_usd == pytest.approx(0.15)
    assert "openai/gpt-4o-mini" not in PRICES
    assert price("openai/gpt-4o-mini").cached_usd == pytest.approx(0.15 / 2)


def test_an_unlisted_model_is_assumed_to_be_dear_also_for_cached_tokens() -> None:
    assert price("openai/no-such-model") == ASSUMED
    assert cost_usd("openai/x", 2000, 0, 1024) == cost_usd("openai/x", 2000, 0)
