"""The set-up cell of a notebook, as its lesson has it, against a bare `import dspy`; in fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.ratio import paired, report
from course_lib.authoring.reading import read
from course_lib.paths import LESSONS

ROUNDS = 9
AT_MOST = 1.3

BARE = "import dspy"


def seconds(code: str) -> float:
    """Run `code` in a fresh process and return how long the code itself took there."""
    timed = f"import time; begun = time.perf_counter()\n{code}\nprint(time.perf_counter() - begun)"
    said = subprocess.check_output([sys.executable, "-c", timed], text=True, env=_environment())
    time.sleep(0.1)  # let the endpoint of the last run be gone
    return float(said.splitlines()[-1])


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("COURSE_LM")}


def _set_up_cell() -> str:
    lesson = read(LESSONS / "00_start_here.py")
    return next(cell.source for cell in lesson.cells if cell.name == "setup")


def main() -> bool:
    cell = _set_up_cell()
    ratio = paired(lambda: seconds(cell), lambda: seconds(BARE), rounds=ROUNDS)
    return report("set-up cell to bare import dspy", ratio, unit="s", at_most=AT_MOST)
