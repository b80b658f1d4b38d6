"""One Redis for a run of these tests, emptied for each that asks, and servers of a test's own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from course_lib.services.redis import Server, running_redis


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="r"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_redis(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server for a test that stops it, kills it or fills it."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    with running_redis(short_folder / "own") as server:
        yield server


@pytest.fixture(scope="session")
def _redis_of_this_run() -> Iterator[Server]:
    parent = Path(tempfile.mkdtemp(prefix="r"))
    with running_redis(parent / "run") as server:
        yield server
    parent.rmdir()


@pytest.fixture
def redis_url(_redis_of_this_run: Server) -> str:
    """The address of an empty Redis; a test that uses it must not stop it."""
    with redis.Redis.from_url(_redis_of_this_run.url) as client:
        client.flushall()
    return _redis_of_this_run.url
