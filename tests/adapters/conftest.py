"""What tests of several adapters share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.web import ENDED


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    ENDED.clear()
    yield
    ENDED.set()
