"""The set-up cell of a notebook against a bare `import dspy`, in fresh processes of this environment."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.ratio import paired, report

ROUNDS = 9
AT_MOST = 1.3

SETUP = "from course_lib import lm; model = lm.connect(); import dspy; dspy.configure(lm=model)"
BARE = "import dspy"


def seconds(code: str) -> float:
    """Run `code` in a fresh process and return how long the code itself took there."""
    timed = f"import time; begun = time.perf_counter(); {code}; print(time.perf_counter() - begun)"
    said = subprocess.check_output([sys.executable, "-c", timed], text=True, env=_environment())
    time.sleep(0.1)  # let the endpoint of the last run be gone
    return float(said)


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("COURSE_LM")}


def main() -> bool:
    ratio = paired(lambda: seconds(SETUP), lambda: seconds(BARE), rounds=ROUNDS)
    return report("set-up cell to bare import dspy", ratio, unit="s", at_most=AT_MOST)
