"""Keeps DSPy's warnings off the screen where the caller shows what they warn of.

Source: the logger `dspy`, which has a handler of its own (dspy/utils/logging_utils.py, DSPy 3.4.1).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_dspy() -> Iterator[None]:
    """Drop what DSPy logs during the block, below CRITICAL, in the whole process."""
    logger = logging.getLogger("dspy")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
