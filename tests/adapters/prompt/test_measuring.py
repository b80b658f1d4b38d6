import itertools

import dspy

from course_lib.adapters import CustomAdapter, ReAsk, measure
from course_lib.adapters.prompt.measuring import ADAPTERS, SIGNATURES


def test_a_good_model_is_read_at_once_and_only_two_steps_cost_two_calls():
    rows = measure(models=["sim-large"], n=3)

    assert [(row.signature, row.adapter) for row in rows] == list(itertools.product(SIGNATURES, ADAPTERS))
    for row in rows:
        assert (row.first_read_share, row.answered_share) == (1, 1), row
        assert row.calls_per_answer == (2 if row.adapter == "TwoStep" else 1), row
        assert row.latency_p50_ms > 0


def test_on_a_sloppy_model_second_requests_are_what_fallbacks_and_re_asking_cost():
    adapters = {"Chat": dspy.ChatAdapter(), "Custom": CustomAdapter(), "ReAsk": ReAsk(CustomAdapter())}
    flat = {"flat": SIGNATURES["flat"]}
    chat, custom, again = measure(adapters, flat, ["sim-small@sloppy"], n=40)

    assert custom.calls_per_answer == 1
    assert custom.answered_share == custom.first_read_share < 1
    for row in (chat, again):
        assert round(row.calls_per_answer - 1, 2) >= round(1 - row.first_read_share, 2) - 0.03
        assert row.answered_share >= row.first_read_share
    assert again.answered_share > custom.answered_share
    assert custom.prompt_tokens < chat.prompt_tokens
