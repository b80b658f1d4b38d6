"""A small course to build: one lesson with one exercise, in a folder of the test's own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"
collect_ignore_glob = ["data/*"]
SAMPLE = DATA / "lessons" / "00_sample.py"


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A checkout that holds the sample lesson and nothing built from it."""
    shutil.copytree(DATA / "lessons", tmp_path / "course" / "lessons")
    return tmp_path / "course"
