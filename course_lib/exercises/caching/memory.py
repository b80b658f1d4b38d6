"""What a learner's object keeps of what is over, in whichever structure it keeps it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

from course_lib.exercises.engine.checks import expect

_EARLY, _ALL = 100, 1000
_LIMIT_BYTES = 40 * (_ALL - _EARLY)  # less than a number for each


def _used_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def expect_nothing_kept(use: Callable[[range], object], what: str, *, hint: str) -> None:
    """Fail the check if memory grows with each number that `use` is called for, after a first hundred.

    Raises:
        CheckFailed: it grows.
    """
    was_tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        use(range(_EARLY))
        before = _used_bytes()
        use(range(_EARLY, _ALL))
        kept = _used_bytes() - before
    finally:
        if not was_tracing:
            tracemalloc.stop()
    expect(
        kept < _LIMIT_BYTES,
        f"nothing is kept of {what}",
        observed=f"{kept:,} bytes more after {_ALL - _EARLY} more of them",
        expected=f"less than {_LIMIT_BYTES:,}",
        hint=hint,
    )
