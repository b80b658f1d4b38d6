"""Another cache under DSPy for the length of a check: what exercises 2.1 and 2.3 share.

Main path: with under_dspy(cache): ... -> dspy.cache is as before afterwards, also after an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def under_dspy(cache: Any) -> Iterator[None]:
    """Have DSPy use `cache` in this block."""
    import dspy

    former = vars(dspy).get("cache")
    dspy.cache = cache
    try:
        yield
    finally:
        if former is None:
            del dspy.cache
        else:
            dspy.cache = former
