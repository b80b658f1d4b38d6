import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.lm import tokens


@given(st.text())
def test_the_pieces_that_are_counted_concatenate_back_to_the_text(text: str) -> None:
    assert "".join(tokens.split(text)) == text
    assert tokens.count(text) == len(tokens.split(text))


@pytest.mark.parametrize("part", ["1+", "word ", "x'r", "\u0915\u093f", " ", "abcdefghijklm"])
@pytest.mark.parametrize("most", [0, 20_000, 40_000])
def test_a_long_text_is_counted_exactly_up_to_a_limit_and_not_to_its_end(part: str, most: int) -> None:
    for text in (part * 30_000, part * (most + 1), part * (most // 2) + "e"):
        exact = len(tokens.split(text))
        found = tokens.count(text, most=most)
        assert found == exact if exact <= most else most < found <= exact

    assert tokens.count("1+" * 480_000, most=most) < 100_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("Where is my parcel?", 5), ("it's", 2), ("1234567", 3), ("[[ ## completed ## ]]", 5)],
)
def test_counts_are_near_those_of_real_encoders(text: str, expected: int) -> None:
    assert tokens.count(text) == expected


@pytest.mark.parametrize("cached", [None, {}, {"cached_tokens": None}, {"cached_tokens": -(10**9)}])
def test_what_a_server_reports_is_never_below_zero(cached: object) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": -5, "prompt_tokens_details": cached}

    assert tokens.reported(usage) == (10, 0, 0)


@pytest.mark.parametrize(
    ("told", "expected"),
    [(1e30, 1_000_000), (float("inf"), 1_000_000), (float("nan"), 0), (7.5, 7), ("many", 0), (None, 0)],
)
def test_what_a_server_reports_is_a_whole_number_and_no_more_than_a_reply_can_have(told, expected) -> None:
    assert tokens.reported({"prompt_tokens": told, "completion_tokens": told}) == (expected, expected, 0)
