"""What tests of several adapters share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from course_lib.adapters.data import api
from tests.adapters.web import ENDED


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(api, "FIRST_WAIT_S", 0.01)
    ENDED.clear()
    yield
    ENDED.set()
