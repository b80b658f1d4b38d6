"""The faces of the room: each public name is there, loaded when it is used, and said in the map."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

FACES = [f"course_lib.adapters{name}" for name in ("", ".prompt", ".tools", ".data")]


@pytest.mark.parametrize("face", FACES)
def test_every_public_name_is_there(face):
    module = import_module(face)

    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))


def test_the_faces_load_nothing_before_a_name_is_used():
    script = f"import sys, {', '.join(FACES)}; print('dspy' in sys.modules, 'psycopg' in sys.modules)"

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout.split() == ["False", "False"]
