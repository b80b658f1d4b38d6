"""What a process that only serves does without: some 15 MB of modules that its libraries import if they can.

Main path: leave_out(), then import course_lib.deployment.replica; once it answers, settle().
"""

from __future__ import annotations

import ctypes
import gc
import sys

LEFT_OUT = ("IPython", "PIL", "gepa", "isoduration", "tornado")
"""Notebooks, pictures, an optimizer, JSON Schema's durations, another event loop: importers go on without."""


def leave_out() -> None:
    """Let imports of these fail in this process, as if they were not installed."""
    for name in LEFT_OUT:
        sys.modules[name] = None  # type: ignore[assignment]


def settle() -> None:
    """Give back what only the start needed, and look no more through what stays: a third of the time."""
    gc.collect()
    gc.freeze()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):  # glibc has it
        trim(0)
