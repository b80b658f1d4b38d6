"""Fixtures of the service's tests: a store, empty, in a database that they share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest

from course_lib.deployment.store import Store
from course_lib.services import Server
from tests.deployment.working import Seed

_EMPTY = """
SET session_replication_role = replica;  -- the audit log lets nobody else empty it
TRUNCATE subjects, answers, feedback, jobs, job_results, idempotency_keys, audit;
"""


@pytest.fixture(scope="session")
def _database_of_this_run(postgres: Server) -> str:
    """A migrated database: making one for each test takes most of a second."""
    url = postgres.url.replace("/postgres?", "/service?")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'service'").fetchone()
        if not known:  # tests/deploy has this fixture too, maybe in the same process
            connection.execute("CREATE DATABASE service")

    async def migrate() -> None:
        await (await Store.open(url, deadline_s=20)).close()

    asyncio.run(migrate())
    return url


@pytest.fixture
def service_url(_database_of_this_run: str) -> str:
    """The address of a database with the service's tables, all of them empty."""
    with psycopg.connect(_database_of_this_run) as connection:
        connection.execute(_EMPTY)
    return _database_of_this_run


@pytest.fixture
async def store(service_url: str) -> AsyncIterator[Store]:
    """An empty store."""
    async with Store(service_url, size=8, deadline_s=10) as opened:  # a busy machine is slow
        yield opened


@pytest.fixture(scope="session")
def seed() -> Iterator[Seed]:
    """What workers are copied from: to import all that they need takes two seconds."""
    made = Seed()
    yield made
    made.close()
