"""The notebooks that the course ships, for tests to run over."""

from __future__ import annotations

from pathlib import Path

from course_lib.paths import NOTEBOOKS, ROOT, SOLUTIONS

LEARNER = sorted(NOTEBOOKS.glob("*.ipynb"))
SOLVED = sorted(SOLUTIONS.glob("*.ipynb"))


def name(path: Path) -> str:
    """Return the short name under which a test shows a notebook."""
    return str(path.relative_to(ROOT))
