"""The notebooks that the course ships, for tests to run over."""

from __future__ import annotations

from pathlib import Path

from course_lib.authoring.regions import learner, solved
from course_lib.paths import NOTEBOOKS, ROOT, SOLUTIONS

LEARNER = sorted(NOTEBOOKS.glob("*.ipynb"))
SOLVED = sorted(SOLUTIONS.glob("*.ipynb"))


def name(path: Path) -> str:
    """Return the short name under which a test shows a notebook."""
    return str(path.relative_to(ROOT))


def solution_lines(source: str) -> list[str]:
    """Return the lines that only the solution may show, stripped, without blanks and lines of the stub."""
    lines, shown = ({line.strip(): None for line in of(source).split("\n")} for of in (solved, learner))
    return [line for line in lines if line and line not in shown]
