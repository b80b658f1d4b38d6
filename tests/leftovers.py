"""A run of tests has a temporary folder of its own, and leaves nothing in it and no process behind.

Main path: folder = begin(); ... ; left = end(folder), which is empty after a clean run.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

RUN = "COURSE_TEST_RUN"
"""The variable by which every process of a run is known, however it was started."""
OURS = ("scratch-*", "tmp_path", "inline-snapshot-*")
"""What conftest, pytest and its plugins keep in the folder until the run has ended."""
PATIENCE_S = 20.0
"""A server whose process was killed ends by itself within this time."""


def begin() -> Path:
    """Make this run's folder and let all temporary files go there; in a worker, return the run's."""
    if "PYTEST_XDIST_WORKER" in os.environ and RUN in os.environ:
        return Path(os.environ[RUN])
    parent = "/tmp" if sys.platform == "darwin" else None  # the path of a socket has 104 bytes there
    folder = Path(tempfile.mkdtemp(prefix="ct-", dir=parent))
    folder.chmod(0o711)  # root's PostgreSQL runs as nobody, who must get through
    os.environ.update({RUN: str(folder), "TMPDIR": str(folder)})
    tempfile.tempdir = None
    return folder


def end(folder: Path) -> list[str]:
    """Wait for the run's processes, remove its folder, and return what was left of both."""
    deadline = time.monotonic() + PATIENCE_S
    while (left := list(_processes(folder))) and time.monotonic() < deadline:
        time.sleep(0.1)
    paths = [
        path
        for path in sorted(folder.iterdir())
        if not any(fnmatch.fnmatch(path.name, ours) for ours in OURS)
    ]
    left += [f"file {path.name} {sorted(inside.name for inside in path.glob('*'))[:5]}" for path in paths]
    shutil.rmtree(folder, ignore_errors=True)
    return left


def _processes(folder: Path) -> Iterator[str]:
    """Yield the run's processes, but for those that this process itself has started and ends with it."""
    own = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    for process in psutil.process_iter():
        try:
            is_of_this_run = process.environ().get(RUN) == str(folder)
            if is_of_this_run and process.pid not in own and process.status() != psutil.STATUS_ZOMBIE:
                yield f"process {process.pid}: {' '.join(process.cmdline())[:150]}"
        except psutil.Error:
            continue  # ended meanwhile, or another user's
