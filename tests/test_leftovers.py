"""A run of tests that leaves a file or a process behind is red."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import leftovers


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run of this test's own."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    for name in ("TMPDIR", leftovers.RUN):
        monkeypatch.setenv(name, os.environ[name])
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(leftovers, "PATIENCE_S", 1.0)
    return leftovers.begin()


def test_a_clean_run_leaves_nothing_not_even_its_folder(run: Path):
    with tempfile.TemporaryDirectory() as folder:
        assert Path(folder).parent == run

    assert leftovers.end(run) == []
    assert not run.exists()


def test_a_file_and_a_process_left_are_named_though_the_parent_is_gone(run: Path):
    Path(tempfile.mkdtemp(prefix="course-left-")).joinpath("file").touch()
    child = "import time; time.sleep(60)"
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {child!r}], stdout=2).pid)"
    pid = int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout)

    process, file = leftovers.end(run)

    os.kill(pid, 9)
    assert process.startswith(f"process {pid}: ")
    assert file.startswith("file course-left-")
    assert not run.exists()
