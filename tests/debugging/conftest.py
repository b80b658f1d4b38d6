"""A model with an empty ledger and a cache of the test's own; nothing blocks an event loop here, too."""

from __future__ import annotations

import logging

import pytest

from tests.concurrency.conftest import _catalogues, _nothing_blocks, left_tasks  # noqa: F401
from tests.models import model  # noqa: F401


@pytest.fixture(autouse=True)
def _no_callback_fails():
    """Fail if DSPy has swallowed what a callback raised."""
    failed: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: failed.append(record.getMessage())
    logger = logging.getLogger("dspy.utils.callback")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    assert failed == []
