"""`make quick` leaves out files that are there."""

from __future__ import annotations

import pytest

from tests.conftest import FIRST, NOT_QUICK, TESTS

FILES = [str(path.relative_to(TESTS)) for path in TESTS.glob("**/test_*.py")]


@pytest.mark.parametrize("prefix", [*FIRST, *NOT_QUICK])
def test_every_prefix_is_that_of_a_file(prefix):
    assert any(file.startswith(prefix) for file in FILES), (
        f"no file begins with {prefix!r}: see tests/conftest.py"
    )
