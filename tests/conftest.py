"""Isolation for every test: own caches, own progress, no network beyond loopback."""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from course_lib.authoring.isolation import CHOICES

# Read by DSPy and LiteLLM at import or first use, so set before any test module is imported.
_SCRATCH = Path(tempfile.mkdtemp(prefix="course-tests-"))
os.environ["DSPY_CACHEDIR"] = str(_SCRATCH / "dspy_cache")
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
os.environ["COURSE_WORK"] = str(_SCRATCH / "work")
for name in CHOICES:
    os.environ.pop(name, None)

_connect = socket.socket.connect


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):
        return True  # a unix socket
    try:
        return ipaddress.ip_address(address[0]).is_loopback
    except ValueError:
        return address[0] == "localhost"


def _guarded_connect(self: socket.socket, address: object) -> None:
    if not _is_local(address):
        raise AssertionError(f"a test tried to reach {address!r}; only loopback is allowed")
    _connect(self, address)  # type: ignore[arg-type]


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> object:
    patch = pytest.MonkeyPatch()
    patch.setattr(socket.socket, "connect", _guarded_connect)
    yield
    patch.undo()


def pytest_unconfigure() -> None:
    """Leave nothing in the temporary folder."""
    if postgres := sys.modules.get("course_lib.services.postgres"):
        shutil.rmtree(postgres.default_folder(), ignore_errors=True)
    shutil.rmtree(_SCRATCH, ignore_errors=True)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty learner's folder of this test's own."""
    folder = tmp_path / "work"
    monkeypatch.setenv("COURSE_WORK", str(folder))
    return folder
