import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.lm import tokens


@given(st.text())
def test_the_pieces_that_are_counted_concatenate_back_to_the_text(text: str) -> None:
    assert "".join(tokens.split(text)) == text
    assert tokens.count(text) == len(tokens.split(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("Where is my parcel?", 5), ("it's", 2), ("1234567", 3), ("[[ ## completed ## ]]", 5)],
)
def test_counts_are_near_those_of_real_encoders(text: str, expected: int) -> None:
    assert tokens.count(text) == expected
