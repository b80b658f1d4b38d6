"""A clock for each test."""

from __future__ import annotations

import pytest

from tests.resilience.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
