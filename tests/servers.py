"""Fixtures for all tests that need a real server: one for the whole run, or one of a test's own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from course_lib.services import Server, running_postgres, running_redis

_numbers = count(1)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name is short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="r"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def own_redis(short_folder: Path) -> Iterator[Server]:
    """A server for a test that stops it, kills it or fills it."""
    with running_redis(short_folder / "own") as server:
        yield server


@pytest.fixture(scope="session")
def _redis_of_this_run() -> Iterator[Server]:
    parent = Path(tempfile.mkdtemp(prefix="r"))
    with running_redis(parent) as server:
        yield server
    parent.rmdir()


@pytest.fixture
def redis_url(_redis_of_this_run: Server) -> str:
    """The address of an empty Redis; a test that uses it must not stop it."""
    import redis

    with redis.Redis.from_url(_redis_of_this_run.url) as client:
        client.flushall()
    return _redis_of_this_run.url


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The PostgreSQL of this run; tests that stop it start it again."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def database_url(postgres: Server) -> str:
    """The address of an empty database."""
    import psycopg

    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.url.replace("/postgres?", f"/{name}?")
