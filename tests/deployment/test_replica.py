"""The processes of the service: what a replica imports, and what a worker does when versions come and go."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dspy
import pytest

from course_lib import lm
from course_lib.deployment import DeploymentConfig, Registry
from course_lib.deployment.answering import Answering
from course_lib.deployment.programs import SERVED
from course_lib.deployment.queue import JobQueue
from course_lib.deployment.replica import revive, work
from course_lib.deployment.store import Store
from course_lib.notes import listen
from course_lib.services import running_postgres, running_queue
from tests.deployment.test_worker import comes, reaches

WITHOUT = ("numpy", "pandas", "IPython", "matplotlib", "jupyter_client")


def test_a_replica_has_nothing_of_notebooks_and_reports_in_memory() -> None:
    code = f"import sys, course_lib.deployment.replica; print(*sys.modules.keys() & set({WITHOUT}))"
    code = f"from course_lib.deployment.lean import leave_out; leave_out(); {code}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() in ([], ["IPython"])  # left out: there as nothing


@pytest.mark.anyio
async def test_dspy_has_its_own_cache_again_after_a_worker(monkeypatch) -> None:
    monkeypatch.delattr(dspy, "cache", raising=False)  # as before it was first asked for
    async with Answering(DeploymentConfig()):
        pass
    assert dspy.cache is not None


@pytest.fixture
async def queue() -> AsyncIterator[JobQueue]:
    async with JobQueue(running_queue(kind="nats").url) as opened:
        yield opened


@asynccontextmanager
async def working(database_url: str, **settings: Any) -> AsyncIterator[None]:
    """Have a worker in this process until the end of the block."""
    settings = {"queue_url": running_queue(kind="nats").url, **settings}
    task = asyncio.create_task(work(DeploymentConfig(database_url=database_url, **settings)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def sent(store: Store, queue: JobQueue, ticket: str, version: str = "1") -> str:
    job = await store.create_job("shop", "triage", version, [{"ticket": ticket}])
    await queue.send(job.id)
    return job.id


async def answered(store: Store, job_id: str) -> bool:
    assert await reaches(store, job_id, "done")
    return [set(each.result) for each in await store.results("shop", job_id)] == [{"category", "urgency"}]


@pytest.mark.anyio
async def test_a_worker_answers_with_versions_that_came_or_were_retired_since_its_start(
    store, service_url, queue, tmp_path
) -> None:
    registry, program = Registry(tmp_path), SERVED["triage"].make()
    registry.register("triage", program, "1")
    registry.promote("triage", "1")
    async with working(service_url, programs_folder=tmp_path):
        assert await answered(store, await sent(store, queue, "My tent leaks."))
        registry.register("triage", program, "2", parent="1")
        unknown = await sent(store, queue, "It will be registered one day.", "3")

        assert await answered(store, await sent(store, queue, "My stove leaks.", "2"))
        registry.retire("triage", "2")
    async with working(service_url, programs_folder=tmp_path):
        assert await answered(store, await sent(store, queue, "My lamp leaks.", "2"))

        async def waits() -> bool:
            job = await store.job("shop", unknown)
            return job is not None and (job.status, job.attempts) == ("queued", 0)

        assert await comes(waits)


async def waits_for(part: str, caplog: pytest.LogCaptureFixture) -> bool:
    async def is_told() -> bool:
        return f"a part is not there yet: {part}" in caplog.text

    return await comes(is_told)


@pytest.mark.anyio
async def test_a_worker_waits_for_a_queue_that_is_not_there_yet(store, service_url, short_folder, caplog):
    # Five seconds: so long it tries to reach it before it says so.
    with running_queue(short_folder, kind="nats") as server:
        server.stop()
        async with working(service_url, queue_url=server.url):
            assert await waits_for("the queue", caplog)
            server.start()
            async with JobQueue(server.url) as queue:
                assert await answered(store, await sent(store, queue, "My mat leaks."))


@pytest.mark.soak  # 30 seconds: so long it tries to reach it before it says so
@pytest.mark.anyio
async def test_a_worker_waits_for_a_database_that_is_not_there_yet(queue, caplog):
    with running_postgres(Path(tempfile.gettempdir())) as server:
        server.stop()
        async with working(server.url):
            assert await waits_for("PostgreSQL", caplog)
            server.start()
            async with await Store.open(server.url) as store:
                assert await answered(store, await sent(store, queue, "My tarp leaks."))


@pytest.mark.anyio
async def test_while_the_model_is_away_a_job_waits_and_no_attempt_counts(store, service_url, queue) -> None:
    class Heard:
        def __call__(self, name: str, facts: Any) -> None:
            self.waits += name in ("job.waits", "job.failed")

        waits = 0

    async def has_waited() -> bool:
        return heard.waits >= 3

    heard = Heard()  # it waits for a second each time
    listen(heard.__call__)
    async with working(service_url):
        assert await answered(store, await sent(store, queue, "My tent leaks."))
        lm.stop()
        job_id = await sent(store, queue, "My stove leaks, and nobody has asked about it.")
        assert await comes(has_waited)
        lm.url()  # at the address that it had

        assert await answered(store, job_id)
    job = await store.job("shop", job_id)
    assert job is not None
    assert job.attempts == 1


@pytest.mark.anyio
async def test_jobs_that_were_given_up_are_sent_again(store, service_url, queue) -> None:
    job_id = await sent(store, queue, "My lamp leaks.")
    await store.claim_job(job_id)
    await store.end_job("shop", job_id, "dead", "ValueError")

    config = DeploymentConfig(database_url=service_url, queue_url=running_queue(kind="nats").url)
    assert await revive(config) == 1
    async with working(service_url):
        assert await answered(store, job_id)
    assert await revive(config) == 0
