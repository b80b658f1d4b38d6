"""The variables under which a notebook or an exercise is tried without touching anything of the reader's.

Main path: isolated(scratch) -> the environment of a process that keeps all it writes below `scratch`.
"""

from __future__ import annotations

import os
from pathlib import Path

CHOICES = (
    "COURSE_LM",
    "COURSE_LM_URL",
    "COURSE_LM_KEY",
    "COURSE_LM_CAP_USD",
    "DATABASE_URL",
    "REDIS_URL",
)
"""What a reader may have set to choose a model or a server; a trial runs on the course's own."""


def isolated(scratch: Path) -> dict[str, str]:
    """Return this process's environment: files below `scratch`, the default model and servers."""
    kept = {name: value for name, value in os.environ.items() if name not in CHOICES}
    return {
        **kept,
        "COURSE_WORK": str(scratch / "work"),
        "DSPY_CACHEDIR": str(scratch / "dspy_cache"),
        "IPYTHONDIR": str(scratch / "ipython"),
    }
