"""One PostgreSQL for a run of these tests, and a database of its own for each test that asks."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from course_lib.services.postgres import Server, running_postgres

_numbers = count(1)


@pytest.fixture
def postgres_folder() -> Iterator[Path]:
    """A short folder that does not exist yet, for a server of this test's own."""
    parent = Path(tempfile.mkdtemp(prefix="pg"))
    parent.chmod(0o755)  # the tests may be root, and the server is then another user's
    yield parent / "s"
    shutil.rmtree(parent)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """The server of this run; tests that stop it start it again."""
    parent = Path(tempfile.mkdtemp(prefix="pg"))
    parent.chmod(0o755)
    patch = pytest.MonkeyPatch()
    patch.delenv("DATABASE_URL", raising=False)
    server = running_postgres(parent / "s")
    yield server
    server.remove()
    patch.undo()
    parent.rmdir()


@pytest.fixture
def database_url(postgres: Server) -> str:
    """The address of an empty database."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.url.replace("/postgres?", f"/{name}?")
