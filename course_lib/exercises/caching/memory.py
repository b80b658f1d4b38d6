"""What a learner's object keeps of what is over, in whichever structure it keeps it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

from course_lib.exercises.engine.checks import expect

_ROUND = 300
_LIMIT_BYTES = 6 * _ROUND  # less than a place in a list for each


def expect_nothing_kept(use: Callable[[range], object], what: str, *, hint: str) -> None:
    """Fail the check if memory grows with the numbers that `use` is called for, each time after the first.

    Raises:
        CheckFailed: it grows.
    """
    was_tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    used = []
    try:
        for first in range(0, 3 * _ROUND, _ROUND):
            use(range(first, first + _ROUND))
            gc.collect()
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        if not was_tracing:
            tracemalloc.stop()
    kept = min(used[1] - used[0], used[2] - used[1])
    expect(
        kept < _LIMIT_BYTES,
        f"nothing is kept of {what}",
        observed=f"{kept:,} bytes more after {_ROUND} more of them",
        expected=f"less than {_LIMIT_BYTES:,}",
        hint=hint,
    )
