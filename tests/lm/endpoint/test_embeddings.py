import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_lib.lm.endpoint.embeddings import DIMENSIONS, vector


def near(left: str, right: str) -> float:
    return sum(a * b for a, b in zip(vector(left), vector(right), strict=True))


@given(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1))
def test_vectors_have_unit_length(text: str) -> None:
    assert math.hypot(*vector(text)) == pytest.approx(1)
    assert len(vector(text)) == DIMENSIONS


def test_a_text_without_words_is_the_zero_vector() -> None:
    assert vector(" ?! ") == [0.0] * DIMENSIONS


def test_texts_that_share_words_and_word_parts_are_near() -> None:
    assert near("where is my parcel", "Where are my parcels?") > 0.5
    assert near("where is my parcel", "refund the lamp now") < 0.3


def test_vectors_are_the_same_on_every_machine() -> None:
    places = [at for at, value in enumerate(vector("tent")) if value]

    assert places == [20, 33, 35, 95, 181, 188, 195, 255]
