"""Where the course keeps its files: the checkout, and the learner's own folder beside it.

Main path: ROOT for what is shipped; work_dir() for what is the learner's; cache_dir() for what may be lost.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LESSONS = ROOT / "lessons"
NOTEBOOKS = ROOT / "notebooks"
SOLUTIONS = ROOT / "solutions"


def work_dir() -> Path:
    """Return the learner's own folder: `COURSE_WORK`, else `work/` in the checkout. It may not exist yet."""
    return Path(os.environ.get("COURSE_WORK") or ROOT / "work").expanduser().absolute()


def cache_dir() -> Path:
    """Return the folder of what is kept to save time: `COURSE_CACHE`, else the user's. It may not exist."""
    return Path(os.environ.get("COURSE_CACHE") or "~/.cache/advanced-dspy").expanduser().absolute()
