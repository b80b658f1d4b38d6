"""Runs nbval over every notebook and solution, as `make test` does.

python -m tests.notebooks.nbval             all of them
python -m tests.notebooks.nbval NOTEBOOK    some
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from course_lib.authoring import kernel
from course_lib.paths import NOTEBOOKS, ROOT, SOLUTIONS

CELL_DEADLINE_S = 120
NOT_THE_TESTS = ("COURSE_LM", "COURSE_LM_URL", "COURSE_LM_KEY", "COURSE_LM_CAP_USD")


def command(*notebooks: str) -> list[str]:
    """Return the command line; it needs the variables of `environment`."""
    return [
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"),
        *("--nbval-lax", "--nbval-kernel-name", kernel.NAME, "--nbval-cell-timeout", str(CELL_DEADLINE_S)),
        *(notebooks or (str(NOTEBOOKS), str(SOLUTIONS))),
    ]


def environment(scratch: Path) -> dict[str, str]:
    """Return the variables under which the notebooks' kernels keep progress and caches below `scratch`."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_THE_TESTS}
    return {
        **kept,
        "COURSE_WORK": str(scratch / "work"),
        "DSPY_CACHEDIR": str(scratch / "dspy_cache"),
        "IPYTHONDIR": str(scratch / "ipython"),
    }


def main() -> int:
    """Run nbval and return its exit code."""
    kernel.install()
    with tempfile.TemporaryDirectory(prefix="course-nbval-") as scratch:
        return subprocess.run(
            command(*sys.argv[1:]), cwd=ROOT, env=environment(Path(scratch)), check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
