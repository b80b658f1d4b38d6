"""The faces of the room load nothing before a name is used, and then all that they name."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

FACES = [f"course_lib.adapters{name}" for name in ("", ".prompt", ".tools", ".data")]


def test_a_name_is_loaded_when_it_is_used():
    script = f"import sys, {', '.join(FACES)}; print('dspy' in sys.modules, 'psycopg' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout.split() == ["False", "False"]
    for face in map(import_module, FACES):
        assert [name for name in face.__all__ if not hasattr(face, name)] == []
