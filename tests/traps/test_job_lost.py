"""A worker that says *received* before the work is done takes its job with it when it is killed."""

# Each worker is a process of its own, which takes two seconds to start.

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import nats
import pytest

from course_lib.deployment import JobQueue, Store
from course_lib.services import running_queue
from tests.deployment.conftest import seed  # noqa: F401  # a fixture
from tests.deployment.working import worker
from tests.services.processes import running

pytestmark = pytest.mark.anyio

LIBRARY = """
import asyncio, sys
from taskiq.receiver import Receiver
from taskiq_nats import PullBasedJetStreamBroker

broker = PullBasedJetStreamBroker(sys.argv[1], subject="trap", stream_name="trap", durable="trap")

@broker.task(task_name="job", ack_type="when_received")
async def job():
    print("begun", flush=True)
    await asyncio.sleep(600)

async def main():
    broker.is_worker_process = True
    await broker.startup()
    await job.kiq()
    await Receiver(broker, run_startup=False).listen(asyncio.Event())

asyncio.run(main())
"""
SLOW = """
async def answer(tenant, customer, program, version, given):
    await asyncio.sleep(600)
"""


async def test_a_library_that_acknowledges_at_once_has_lost_the_job():
    url = running_queue(kind="nats").url
    command = [sys.executable, "-c", LIBRARY, url]
    client = await nats.connect(url)
    with running(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "begun\n"
        async with asyncio.timeout(60):
            while (await client.jetstream().consumer_info("trap", "trap")).num_ack_pending:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    left = await client.jetstream().consumer_info("trap", "trap")
    await client.close()
    assert left.num_pending + left.num_ack_pending == 0, "the job is still in the queue"


async def test_ours_gives_the_job_to_the_next_worker(seed, database_url):  # noqa: F811
    url = running_queue(kind="nats").url
    async with await Store.open(database_url) as store, JobQueue(url) as queue:
        job = await store.create_job("shop", "answer", "1", [{"text": "tent"}])
        async with asyncio.timeout(60):
            with worker(seed, url, database_url, answer=SLOW) as process:
                await queue.send(job.id)
                while (await store.job("shop", job.id)).status != "running":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                process.send_signal(signal.SIGKILL)
            with worker(seed, url, database_url):
                while not (results := await store.results("shop", job.id)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    assert [each.result for each in results] == [{"text": "TENT"}]
