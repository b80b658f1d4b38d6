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
from course_lib.authoring.isolation import isolated
from course_lib.paths import NOTEBOOKS, ROOT, SOLUTIONS

CELL_DEADLINE_S = 120


def command(*notebooks: str) -> list[str]:
    """Return the command line; it needs the variables of `isolated`."""
    return [
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"),
        *("--nbval-lax", "--nbval-kernel-name", kernel.NAME, "--nbval-cell-timeout", str(CELL_DEADLINE_S)),
        *(notebooks or (str(NOTEBOOKS), str(SOLUTIONS))),
    ]


def main() -> int:
    """Run nbval and return its exit code."""
    kernel.install()
    with tempfile.TemporaryDirectory(prefix="course-nbval-") as scratch:
        return subprocess.run(
            command(*sys.argv[1:]), cwd=ROOT, env=isolated(Path(scratch)), check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
