"""promtool, which comes with Prometheus: it judges rules, and evaluates them over series of a check's own.

Main path: promtool("test", "rules", "tests.yml", about="the rules", remedy=..., tests=plan, rules=text).
Source: promtool 2.42; Prometheus 3 has the same.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from course_lib.exercises.engine.checks import CheckFailed, NotChecked

_LONGEST_S = 60.0


def promtool(*words: str, about: str, remedy: str, **files: str) -> subprocess.CompletedProcess[str]:
    """Run promtool in a folder with these files, each under its name and .yml.

    Raises:
        NotChecked: it is not installed; `remedy` says what to do.
        CheckFailed: it does not end with `about`.
    """
    found = shutil.which("promtool")
    if found is None:
        raise NotChecked(remedy)
    with tempfile.TemporaryDirectory(prefix="course-rules-") as folder:
        for name, text in files.items():
            Path(folder, f"{name}.yml").write_text(text, "utf-8")
        options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": _LONGEST_S}
        options["env"] = {"GOGC": "400", **os.environ}  # collecting garbage is a quarter of its work
        try:
            return subprocess.run([found, *words], cwd=folder, check=False, **options)  # noqa: S603
        except subprocess.TimeoutExpired:
            what, wanted = f"promtool's evaluation of {about}", f"an end within {_LONGEST_S:g} s"
            raise CheckFailed(what, observed="it goes on", expected=wanted) from None
