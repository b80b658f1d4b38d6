"""What a process that only serves does without: some 15 MB of modules that its libraries import if they can.

Main path: leave_out(), then import course_lib.deployment.replica; once it answers, settle().
"""

from __future__ import annotations

import ctypes
import gc
import sys
import warnings

LEFT_OUT = ("IPython", "PIL", "gepa", "isoduration", "tornado", "charset_normalizer", "chardet")
"""Notebooks, pictures, an optimizer, JSON Schema's durations, another event loop, guesses at what text is
written in: who imports them goes on without."""


def leave_out() -> None:
    """Let imports of these fail in this process, as if they were not installed."""
    warnings.filterwarnings("ignore", "Unable to find acceptable character detection")  # says requests
    for name in LEFT_OUT:
        sys.modules[name] = None  # type: ignore[assignment]


def settle() -> None:
    """Give back what only the start needed, and look no more through what stays: a third of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 1)  # a request's spans are circles that die old: looked for ten times as often
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):  # glibc has it
        trim(0)
