"""What is killed loses nothing and does nothing twice: workers at random moments, the queue under load."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from course_lib import lm
from course_lib.deployment.queue import JobQueue, QueueUnavailable
from course_lib.deployment.store import Store
from course_lib.services import QueueServer, running_queue
from tests.deployment.test_worker import comes
from tests.deployment.working import OFTEN, Seed, needs_rabbitmq, worker

pytestmark = pytest.mark.anyio

WRITTEN = """
CREATE TABLE written (job_id text, index integer);
GRANT INSERT ON written TO course_service;
CREATE FUNCTION write_down() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO written VALUES (NEW.job_id, NEW.index); RETURN NEW; END $$;
CREATE TRIGGER write_down AFTER INSERT OR UPDATE ON job_results FOR EACH ROW EXECUTE FUNCTION write_down();
"""
KILLED = """
import random, threading, signal
async def answer(tenant, customer, program, version, given):
    if given["dies"]:
        try:  # once in the life of this input
            os.close(os.open(os.path.join(os.environ["TEST_KILLS"], given["text"]), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:  # at any moment: before the answer, while it is saved, while it is acknowledged
            threading.Timer(random.uniform(0, 0.03), os.kill, (os.getpid(), signal.SIGKILL)).start()
    await asyncio.sleep(random.uniform(0, 0.02))
    return {"text": given["text"].upper()}
"""


@pytest.fixture(params=OFTEN)
def server(request, short_folder) -> AsyncIterator[QueueServer]:
    with running_queue(short_folder, kind=request.param) as own:
        yield own


async def is_done(store: Store, job_id: str) -> bool:
    job = await store.job("shop", job_id)
    return job is not None and job.status == "done"


async def loses_nothing(
    seed: Seed, server: QueueServer, database_url: str, folder: Path, *, jobs: int, kills: int
) -> None:
    async with await Store.open(database_url) as store, JobQueue(server.url) as queue:
        with psycopg.connect(database_url) as connection:
            connection.execute(WRITTEN)
        doomed, ids = {*random.sample(range(jobs), kills)}, []
        for number in range(jobs):
            inputs = [{"text": f"{number}-{part}", "dies": False} for part in range(3)]
            inputs[random.randrange(3)]["dies"] = number in doomed
            ids.append((await store.create_job("shop", "answer", "1", inputs)).id)
            await queue.send(ids[-1])
        options = "ack_s=1.0, most_attempts=99"
        with worker(
            seed, server.url, database_url, answer=KILLED, options=options, TEST_KILLS=str(folder)
        ) as process:
            started = 1

            async def all_are_done() -> bool:
                nonlocal started
                if not process.is_up():
                    started += 1
                    process.start()
                rows = await store.rows("shop", "SELECT count(*) FROM jobs WHERE status = 'done'", {})
                return bool(rows == [(jobs,)])

            assert await comes(all_are_done, within_s=600)
        assert len(os.listdir(folder)) == kills  # noqa: PTH208  (a small folder)
        assert started > kills / 4  # one kill may take several jobs that are under way
        for number, each in enumerate(ids):
            results = await store.results("shop", each)
            assert [one.result["text"] for one in results] == [f"{number}-{part}" for part in range(3)]
    with psycopg.connect(database_url) as connection:
        twice = "SELECT count(*), count(DISTINCT (job_id, index)) FROM written"
        assert connection.execute(twice).fetchone() == (3 * jobs, 3 * jobs)


async def test_20_of_100_jobs_whose_worker_is_killed_are_done_once(
    seed, server, database_url, tmp_path
) -> None:
    await loses_nothing(
        seed, server, database_url, tmp_path, jobs=100, kills=20
    )  # some 20 workers, one after the other


@pytest.mark.soak
@needs_rabbitmq
@pytest.mark.parametrize("server", ["rabbitmq"], indirect=True)
async def test_100_of_500_jobs_whose_worker_is_killed_are_done_once(
    seed, server, database_url, tmp_path
) -> None:
    await loses_nothing(seed, server, database_url, tmp_path, jobs=500, kills=100)


ECHO = """
async def answer(tenant, customer, program, version, given):
    await asyncio.sleep(0.05)
    return {"text": given["text"]}
"""


async def test_a_queue_that_is_killed_under_load_is_told_and_comes_back(seed, server, database_url) -> None:
    async with await Store.open(database_url) as store, JobQueue(server.url) as queue:

        async def send() -> str:
            job = await store.create_job("shop", "answer", "1", [{"text": "tent"}])
            await queue.send(job.id)
            return job.id

        async def can_send() -> bool:
            try:
                sent.append(await send())
            except QueueUnavailable:
                return False
            return True

        with worker(seed, server.url, database_url, answer=ECHO) as process:
            sent = [await send() for _ in range(20)]
            assert await comes(lambda: is_done(store, sent[0]))
            # RabbitMQ 3.10 writes the name of a new quorum queue to disk within half a second, without which
            # its messages are not found after a crash (ra pull request 443).
            await asyncio.sleep(1)
            sent += [await send() for _ in range(20)]
            server.kill()
            with pytest.raises(QueueUnavailable, match=r"could not take job job_.*start the server"):
                await send()
            server.start()
            assert await comes(can_send)
            sent += [await send() for _ in range(20)]

            for each in sent:
                assert await comes(lambda each=each: is_done(store, each))
            assert process.is_up()  # the same worker: it was not started again


PAYS = """
import os, signal
import dspy
from course_lib import desk, lm
from course_lib.caching import CacheManager, CachedLM, scope
manager = CacheManager(redis_url=os.environ["TEST_REDIS"], memory_bytes=1 << 20)
manager.__enter__()
dspy.configure(lm=lm.connect())
triage = desk.Triage()
async def answer(tenant, customer, program, version, given):
    with scope(tenant=tenant, version=version):
        said = await triage.acall(ticket=given["text"])
    path = os.path.join(os.environ["TEST_KILLS"], "killed")
    if given["dies"] and not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)  # answered and paid for, and not saved
    return {"category": said.category}
"""


async def test_a_job_delivered_again_pays_only_for_what_was_not_answered(
    seed, database_url, redis_url, tmp_path
) -> None:
    model = {"COURSE_LM_URL": lm.url(), "COURSE_LM_KEY": lm.key()}
    before = lm.ledger().requests
    server = running_queue(kind="nats")
    async with await Store.open(database_url) as store, JobQueue(server.url, name="pays") as queue:
        inputs = [{"text": f"My tent number {number} leaks", "dies": number == 3} for number in range(5)]
        job = await store.create_job("shop", "triage", "1", inputs)
        await queue.send(job.id)
        told = {"options": "inputs_at_once=1, ack_s=1.0, name='pays'", "TEST_REDIS": redis_url, **model}
        with worker(seed, server.url, database_url, answer=PAYS, TEST_KILLS=str(tmp_path), **told) as process:
            assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
            assert [each.index for each in await store.results("shop", job.id)] == [0, 1, 2]
            assert lm.ledger(since=before).requests == 4
            process.start()
            assert await comes(lambda: is_done(store, job.id))
    assert lm.ledger(since=before).requests == 5
