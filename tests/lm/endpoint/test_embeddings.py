import math

import pytest

from course_lib.lm.endpoint.embeddings import DIMENSIONS, vector


def near(left: str, right: str, dimensions: int = DIMENSIONS) -> float:
    return sum(a * b for a, b in zip(vector(left, dimensions), vector(right, dimensions), strict=True))


@pytest.mark.parametrize("dimensions", [1, 100, DIMENSIONS])
@pytest.mark.parametrize("text", ["tent", "", "?!", "Zelt " * 400])
def test_vectors_have_the_dimensions_asked_for_and_unit_length(text: str, dimensions: int) -> None:
    assert len(vector(text, dimensions)) == dimensions
    assert math.hypot(*vector(text, dimensions)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("dimensions", [128, DIMENSIONS])
def test_texts_of_near_meaning_are_near_also_in_other_words(dimensions: int) -> None:
    late = "my parcel is late"

    assert (
        near(late, "the package has not arrived", dimensions)
        > near(late, "change my password", dimensions) + 0.2
    )
