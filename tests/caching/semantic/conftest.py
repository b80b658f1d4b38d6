"""What the tests of the semantic cache share: vectors by hand, a clock that stands still."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.caching.conftest import Clock

WORDS = ("norway", "shipping", "refund", "tent", "lamp", "password", "how", "long", "much")


def bag(texts: Sequence[str]) -> np.ndarray:
    """Embed by counting a few words, longer texts longer: quick, and not of unit length."""
    rows = [[text.lower().count(word) for word in WORDS] for text in texts]
    return np.array(rows, np.float32) * 3 + 0.01


@pytest.fixture
def clock() -> Clock:
    return Clock()
