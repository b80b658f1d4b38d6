"""Jobs on both queues: done once whatever is killed, tried again, given up, sent again by an operator."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import psutil
import psycopg
import pytest
from taskiq import BrokerMessage

from course_lib.deployment.queue import JobQueue, QueueUnavailable
from course_lib.deployment.store import Store
from course_lib.paths import ROOT
from course_lib.services import QueueServer, running_queue
from tests.deployment.working import OFTEN, OPTIONS, needs_rabbitmq, worker

BOTH = ["nats", pytest.param("rabbitmq", marks=needs_rabbitmq)]  # a start of RabbitMQ takes four seconds
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=OFTEN)
def server(request) -> QueueServer:
    return running_queue(kind=request.param)


@pytest.fixture
async def store(database_url) -> AsyncIterator[Store]:
    async with await Store.open(database_url, deadline_s=10) as opened:  # a busy machine is slow
        yield opened


@pytest.fixture
async def queue(server) -> AsyncIterator[JobQueue]:
    async with JobQueue(server.url) as opened:
        yield opened


async def comes(look: Callable[[], Awaitable[object]], within_s: float = 60.0) -> bool:
    """Wait for what is to come; the limit is for a failure to be told."""
    async with asyncio.timeout(within_s):
        while not await look():  # noqa: ASYNC110  (it happens in another process)
            await asyncio.sleep(0.05)
    return True


async def sent(store: Store, queue: JobQueue, *inputs: dict[str, object]) -> str:
    job = await store.create_job("shop", "answer", "1", list(inputs))
    await queue.send(job.id)
    return job.id


async def reaches(store: Store, job_id: str, status: str) -> bool:
    async def look() -> bool:
        job = await store.job("shop", job_id)
        return job is not None and job.status == status

    return await comes(look)


async def texts(store: Store, job_id: str) -> list[str]:
    return [each.result["text"] for each in await store.results("shop", job_id)]


@pytest.mark.parametrize("server", BOTH, indirect=True)
async def test_a_job_is_answered_input_by_input_and_done(server, store, queue, database_url, seed) -> None:
    with worker(seed, server.url, database_url):
        job_id = await sent(store, queue, {"text": "tent"}, {"text": "lamp"})

        assert await reaches(store, job_id, "done")
    assert await texts(store, job_id) == ["TENT", "LAMP"]


@pytest.mark.parametrize("server", ["nats"], indirect=True)  # which shows what it holds; both take the same
async def test_a_message_holds_the_id_and_nothing_that_a_customer_wrote(server, store, queue) -> None:
    job_id = await sent(store, queue, {"text": "my parcel"})

    message = await queue.broker.js.get_last_msg("course_jobs", "course.jobs")

    assert job_id.encode() in message.data
    assert b"parcel" not in message.data


@pytest.mark.parametrize("server", BOTH, indirect=True)
async def test_a_server_that_hangs_or_was_killed_does_not_answer_a_ping_and_does_when_it_is_back(
    server, queue
) -> None:
    async def answers() -> bool:
        try:
            await asyncio.wait_for(queue.ping(), 1.0)
        except (QueueUnavailable, TimeoutError):
            return False
        return True

    async def is_lost() -> bool:
        return not await answers()

    main = psutil.Process(server.pid)
    processes = [main, *main.children(recursive=True)]
    await queue.ping()
    for each in processes:
        each.suspend()
    try:
        assert await comes(is_lost)
    finally:
        for each in processes:
            each.resume()
    assert await comes(answers)
    server.kill()
    assert await comes(is_lost)
    server.start()
    assert await comes(answers)


MESSAGE = {"task_id": "x", "task_name": "run_job", "labels": {"ack_type": "manual"}, "labels_types": None}
FOREIGN: list[dict[str, object]] = [
    {"args": [], "kwargs": {}},
    {"args": ["job_1", "often"], "kwargs": {}},
    {"args": ["job\0", 0], "kwargs": {}},
    {"args": ["job_1", 0], "kwargs": {"job_id": "job_2"}},
    {"args": ["job_1", 0], "kwargs": {}, "labels": {"ack_type": "never"}},
    {"args": ["job_1", 0], "kwargs": {}, "labels": {"ack_type": "manual", "timeout": "0"}},
]


@pytest.mark.parametrize("server", BOTH, indirect=True)
async def test_messages_that_are_no_jobs_are_dropped_and_stop_nothing(
    server, store, queue, database_url, seed
) -> None:
    for each in [b"{", *(json.dumps({**MESSAGE, **each}).encode() for each in FOREIGN * 2)]:
        await queue.broker.kick(BrokerMessage(task_id="x", task_name="run_job", message=each, labels={}))

    with worker(seed, server.url, database_url):  # hands over 8 messages that are not acknowledged, at most
        job_id = await sent(store, queue, {"text": "tent"})

        assert await reaches(store, job_id, "done")


@pytest.mark.parametrize("server", ["nats"], indirect=True)  # the database fails, not the queue
async def test_a_job_waits_while_the_database_answers_with_an_error(
    server, store, queue, database_url, seed
) -> None:
    async def is_held() -> bool:
        info = await queue.broker.js.consumer_info("course_jobs", "course_workers")
        return bool(info.num_ack_pending)

    with worker(seed, server.url, database_url), psycopg.connect(database_url, autocommit=True) as line:
        job_id = await sent(store, queue, {"text": "sent while it works"})
        assert await reaches(store, job_id, "done")
        job = await store.create_job("shop", "answer", "1", [{"text": "tent"}])
        line.execute("ALTER TABLE jobs RENAME TO jobs_away")
        await queue.send(job.id)
        assert await comes(is_held)
        await asyncio.sleep(0.3)  # it is told nowhere that the claim has failed
        line.execute("ALTER TABLE jobs_away RENAME TO jobs")

        assert await reaches(store, job.id, "done")


@pytest.mark.parametrize("server", ["nats"], indirect=True)  # the worker sends it, not the queue
async def test_a_job_that_the_queue_has_lost_is_sent_again(server, store, queue, database_url, seed) -> None:
    never = await store.create_job("shop", "answer", "1", [{"text": "never sent"}])
    begun = await store.create_job("shop", "answer", "1", [{"text": "begun"}])
    await store.claim_job(begun.id)

    with worker(seed, server.url, database_url, options=f"{OPTIONS}, lost_after_s=0.5"):
        assert await reaches(store, never.id, "done")
        assert await reaches(store, begun.id, "done")

        await queue.broker.js.delete_stream("course_jobs")  # as a server that comes back without its data
        lost = await store.create_job("shop", "answer", "1", [{"text": "lost"}])
        assert await reaches(store, lost.id, "done")
    assert await store.lost_jobs(0.0) == []


async def test_a_job_that_always_fails_is_given_up_and_the_others_go_on(
    server, store, queue, database_url, seed
) -> None:
    with worker(seed, server.url, database_url):
        poison = await sent(store, queue, {"text": "a"}, {"text": "b", "poison": True}, {"text": "c"})
        others = [await sent(store, queue, {"text": "tent"}) for _ in range(5)]
        assert all([await reaches(store, each, "done") for each in others])
        assert await reaches(store, poison, "dead")

        job = await store.job("shop", poison)
        assert job is not None
        assert (job.attempts, job.error) == (3, "ValueError")
        assert await texts(store, poison) == ["A", "C"]  # what could be answered is kept

        assert await store.revive_jobs() == [poison]
        assert await store.revive_jobs() == []
        await queue.send(poison)
        assert await reaches(store, poison, "dead")


LACKS = """
from course_lib.deployment.worker import NotServed
async def answer(*_):
    with open(os.environ["TEST_SEEN"], "a") as seen:
        seen.write("x")
    raise NotServed
"""


@pytest.mark.parametrize("server", ["nats"], indirect=True)  # the worker gives it back, not the queue
async def test_a_job_of_a_version_that_a_worker_lacks_is_done_by_one_that_has_it(
    server, store, queue, database_url, seed, tmp_path
) -> None:
    async def is_begun_often() -> bool:
        return seen.exists() and len(seen.read_text()) > 4

    seen, options = tmp_path / "seen", "waits_s=(0.1,), most_attempts=2"
    with worker(seed, server.url, database_url, answer=LACKS, options=options, TEST_SEEN=str(seen)):
        job_id = await sent(store, queue, {"text": "tent"})
        assert await comes(is_begun_often)

    with worker(seed, server.url, database_url):
        assert await reaches(store, job_id, "done")
    job = await store.job("shop", job_id)
    assert job is not None
    assert job.attempts <= 2  # the first one may have been killed at one


@pytest.mark.parametrize("server", ["nats"], indirect=True)  # the worker counts, not the queue
async def test_a_job_that_kills_its_worker_is_given_up_too(server, store, queue, database_url, seed) -> None:
    options = "most_attempts=2, ack_s=1.0"
    job_id = await sent(store, queue, {"text": "a", "kills": True})
    for _ in range(2):
        with worker(seed, server.url, database_url, options=options) as process:
            assert await asyncio.to_thread(process.wait) == 9

    with worker(seed, server.url, database_url, options=options):
        assert await reaches(store, job_id, "dead")
    job = await store.job("shop", job_id)
    assert job is not None
    assert job.error == "TooManyAttempts"


@pytest.mark.parametrize("server", ["nats"], indirect=True)  # the worker finishes, not the queue
async def test_told_to_stop_it_finishes_what_it_has_and_leaves_the_rest(
    server, store, queue, database_url, seed
) -> None:
    with worker(seed, server.url, database_url, options="jobs_at_once=1") as process:
        begun = await sent(store, queue, {"text": "begun", "wait_s": 1.0})
        assert await reaches(store, begun, "running")
        waiting = await sent(store, queue, {"text": "waiting"})
        process.send_signal(signal.SIGTERM)

        assert await asyncio.to_thread(process.wait) == 0
    job, other = await store.job("shop", begun), await store.job("shop", waiting)
    assert job is not None
    assert other is not None
    assert job.status == "done"
    with worker(seed, server.url, database_url):
        assert await reaches(store, waiting, "done")


async def test_told_to_stop_it_gives_back_what_takes_too_long(
    server, store, queue, database_url, seed
) -> None:
    with worker(seed, server.url, database_url, options="drain_s=0.1, ack_s=60.0") as process:
        job_id = await sent(store, queue, {"text": "quick"}, {"text": "slow", "wait_s": 600.0})
        assert await comes(lambda: store.results("shop", job_id))
        process.send_signal(signal.SIGTERM)

        assert await asyncio.to_thread(process.wait) == 0
    echo = 'async def answer(t, c, p, v, given): return {"text": given["text"].upper()}'
    with worker(seed, server.url, database_url, answer=echo):
        assert await reaches(store, job_id, "done")
    assert await texts(store, job_id) == ["QUICK", "SLOW"]


async def test_an_address_of_another_kind_and_a_server_that_is_not_there_are_told_without_the_password() -> (
    None
):
    with pytest.raises(QueueUnavailable, match=r"amqp:// or nats://"):
        JobQueue("redis://me:hunter2@127.0.0.1:1")
    for scheme in ("nats", "amqp"):
        with pytest.raises(QueueUnavailable, match=r"127.0.0.1:1 could not be reached") as told:
            await JobQueue(f"{scheme}://me:hunter2@127.0.0.1:1").open()
        assert "hunter2" not in str(told.value)


async def test_course_worker_answers_with_the_desk_while_tokens_are_left_and_ends_at_sigterm(
    store, database_url, redis_url
) -> None:
    server = running_queue(kind="nats")
    urls = {"AMQP_URL": server.url, "DATABASE_URL": database_url, "REDIS_URL": redis_url}
    budget = {"COURSE_SERVICE_TOKENS_PER_DAY": "1"}
    command = [sys.executable, "-m", "course_lib.cli", "worker"]  # it imports DSPy, which takes seconds
    async with JobQueue(server.url) as queue:
        job = await store.create_job(
            "shop", "triage", "1", [{"ticket": "My tent leaks. I want my money back."}]
        )
        await queue.send(job.id)
        with subprocess.Popen(command, env={**os.environ, **urls, **budget}, cwd=ROOT) as process:  # noqa: ASYNC220
            try:
                assert await reaches(store, job.id, "done")
                late = await sent(store, queue, {"question": "Where is my order?"})
                assert await reaches(store, late, "done")
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 60) == 0
            finally:
                process.kill()
    assert [set(each.result) for each in await store.results("shop", job.id)] == [{"category", "urgency"}]
    assert [each.result for each in await store.results("shop", late)] == [{"error": "quota"}]
