import pytest

from course_lib import adapters


@pytest.mark.parametrize("name", adapters.__all__)
def test_every_public_name_is_where_the_table_says(name):
    assert getattr(adapters, name).__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Morse'"):
        adapters.Morse  # noqa: B018  # looking is the test
    assert set(adapters.__all__) <= set(dir(adapters))
