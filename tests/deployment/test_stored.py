"""What the service keeps: the history, feedback, jobs, keys, the audit log; each tenant's own, and erased."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from contextlib import asynccontextmanager

import psycopg
import pytest
import redis.asyncio

from course_lib import lm
from course_lib.deployment.answering import Answering
from course_lib.deployment.customers import Cache, Customers
from course_lib.deployment.database import StoreUnavailable
from course_lib.deployment.queue import QueueUnavailable
from course_lib.services import running_queue
from tests.deployment.serving import QUESTION, desk
from tests.deployment.test_audit import change
from tests.deployment.test_service import ASKED, assert_problem, longest_pause_s, until
from tests.models import model  # noqa: F401  # fixture

pytestmark = pytest.mark.anyio


@pytest.fixture
def serving(redis_url, service_url):
    @asynccontextmanager
    async def run(redis_url=redis_url, **settings):
        async with desk(redis_url, database_url=service_url, **settings) as served:
            service = served.app.service

            async def is_whole():
                return service.store is not None and (service.queue or not service.config.queue_url)

            await until(is_whole)
            yield served

    return run


async def history_of(client, count: int) -> list:
    """Wait until so many answers are in a tenant's history, and return them."""
    found = []

    async def has():
        found[:] = (await client.get("/v1/answers")).json()["answers"]
        return len(found) >= count

    await until(has)
    return found


async def test_answers_are_kept_redacted_and_take_feedback(serving):
    async with serving() as served, served.client() as client:
        asked = {"question": f"I am anna@example.com. {QUESTION}"}
        answered = (await client.post("/v1/answers", json=asked)).json()
        (kept,) = await history_of(client, 1)
        given = {"answer_id": answered["id"], "score": 2, "comment": "mail bob@example.com"}
        reply = await client.post("/v1/feedback", json=given)
        (scored,) = await history_of(client, 1)

    assert kept["id"] == answered["id"]
    assert QUESTION in kept["question"]
    assert "anna@example.com" not in kept["question"]
    assert (reply.status_code, scored["score"]) == (201, 2)
    assert "bob@example.com" not in scored["comment"]


async def test_feedback_that_is_there_before_its_answer_is_saved_lets_it_be_saved(serving, monkeypatch):
    async with serving() as served, served.client() as client:
        store, is_there = served.app.service.store, asyncio.Event()
        save_answer, feedback = store.save_answer, store.feedback

        async def save_later(*given, **more):
            await is_there.wait()
            return await save_answer(*given, **more)

        async def look(*given):
            found = await feedback(*given)
            is_there.set()
            return found

        monkeypatch.setattr(store, "save_answer", save_later)
        monkeypatch.setattr(store, "feedback", look)
        answered = (await client.post("/v1/answers", json=ASKED)).json()
        reply = await client.post("/v1/feedback", json={"answer_id": answered["id"], "score": 2})

    assert reply.status_code == 201, reply.text


async def test_feedback_waits_a_moment_for_an_answer_that_another_replica_saves(serving, monkeypatch):
    async with serving() as served, served.client() as client:
        store, told = served.app.service.store, {"program": "answer", "version": "1", "question": QUESTION}
        feedback = store.feedback

        async def look(*given):
            found = await feedback(*given)
            await store.save_answer("lantern", **told, answer={}, answer_id="ans_1")
            return found

        monkeypatch.setattr(store, "feedback", look)
        reply = await client.post("/v1/feedback", json={"answer_id": "ans_1", "score": 2})

    assert reply.status_code == 201, reply.text


async def test_no_tenant_sees_or_touches_what_is_anothers(serving):
    async with serving() as served, served.client() as client, served.client("other") as other:
        answered = (await client.post("/v1/answers", json={**ASKED, "customer": "c-1"})).json()
        await history_of(client, 1)
        job = await served.app.service.store.create_job("lantern", "answer", "1", [{"question": QUESTION}])
        await client.get("/v1/audit")

        assert (await other.get("/v1/answers")).json()["answers"] == []
        assert_problem(await other.get(f"/v1/jobs/{job.id}"), 404, "not_found")
        given = {"answer_id": answered["id"], "score": 1}
        assert_problem(await other.post("/v1/feedback", json=given), 404, "not_found")
        export = await other.get("/v1/customers/c-1/export")
        assert not any(export.json()["held"]["database"].values())
        await other.delete("/v1/customers/c-1")
        assert len((await client.get("/v1/answers")).json()["answers"]) == 1
        assert answered["id"] not in (await other.get("/v1/audit")).text


async def test_a_request_with_a_key_is_done_once(serving):
    lm.profile("service-second", ttft_p50_ms=400)
    async with serving(model="sim-large@service-second") as served, served.client() as client:
        headers = {"Idempotency-Key": "k-1"}
        first = asyncio.create_task(client.post("/v1/answers", json=ASKED, headers=headers))

        async def is_under_way():
            return lm.ledger().most_at_once or first.done()

        await until(is_under_way)
        meanwhile = await client.post("/v1/answers", json=ASKED, headers=headers)
        done = await first
        again = await client.post("/v1/answers", json=ASKED, headers=headers)
        another = await client.post("/v1/answers", json={"question": "Else?"}, headers=headers)

    assert_problem(meanwhile, 409, "running")
    assert again.json() == done.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert_problem(another, 422, "key_reused")
    assert lm.ledger().requests == 1


async def test_a_key_is_kept_for_a_request_as_long_as_its_deadline_allows(serving, service_url):
    lm.profile("service-minutes", ttft_p50_ms=60_000)
    settings = {"model": "sim-large@service-minutes", "gateway_deadline_s": 120, "drain_s": 120}
    async with serving(**settings, deadline_s=120) as served, served.client() as client:
        headers = {"Idempotency-Key": "k-1"}
        first = asyncio.create_task(client.post("/v1/answers", json=ASKED, headers=headers))

        async def is_under_way():
            return lm.ledger().most_at_once or first.done()

        await until(is_under_way)
        change(service_url, "UPDATE idempotency_keys SET created = created - interval '62 s'")
        again = asyncio.create_task(client.post("/v1/answers", json=ASKED, headers=headers))
        await asyncio.wait([again], timeout=10)
        first.cancel()

        assert_problem(await again, 409, "running")


async def test_a_key_of_a_request_that_failed_can_be_used_again(serving):
    lm.profile("service-once", first=("unavailable",) * 3)
    settings = {"model": "sim-large@service-once", "deadline_s": 5.0}
    async with serving(**settings) as served, served.client() as client:
        headers = {"Idempotency-Key": "k-1"}
        failed = await client.post("/v1/answers", json=ASKED, headers=headers)
        again = await client.post("/v1/answers", json=ASKED, headers=headers)

    assert_problem(failed, 503, "model_down")
    assert again.status_code == 200


async def test_what_a_caller_may_not_do_is_in_the_audit_log_once_a_second(serving):
    async with serving() as served, served.client() as client, served.client("asker") as asker:
        for _ in range(5):
            assert_problem(await asker.delete("/v1/customers/c-1"), 403, "forbidden")
        found = []

        async def are_noted():
            found[:] = (await client.get("/v1/audit")).json()["entries"]
            return sum(each["detail"]["count"] for each in found) == 5

        await until(are_noted)

    assert len(found) <= 2
    assert {(each["actor"], each["action"], each["target"]) for each in found} == {
        ("asker", "forbidden", "/v1/customers")
    }


async def test_what_was_done_is_in_the_audit_log_which_verifies(serving):
    async with serving() as served, served.client() as client:
        answered = (await client.post("/v1/answers", json={**ASKED, "customer": "anna-1"})).json()
        await client.post("/v1/answers", json={**ASKED, "customer": "anna-1"})
        await served.app.service.audit.flush()
        log = await client.get("/v1/audit")
        verified = await client.post("/v1/audit/verify")

    actions = {(each["action"], each["target"], each["actor"]) for each in log.json()["entries"]}
    assert ("answer", answered["id"], "lantern") in actions
    assert "anna-1" not in log.text
    assert verified.json()["status"] == "verified"


async def test_what_is_done_before_the_database_is_there_waits_for_it_and_is_in_the_audit_log(
    redis_url, service_url, postgres
):
    postgres.kill()
    async with (
        desk(redis_url, database_url=service_url) as served,
        served.client() as client,
        served.client("asker") as asker,
    ):
        answered = (await client.post("/v1/answers", json=ASKED)).json()
        metrics = (await client.get("/metrics")).text
        assert_problem(await asker.get("/v1/audit"), 403, "forbidden")
        postgres.start()

        async def are_noted():
            entries = (await client.get("/v1/audit")).json().get("entries", [])
            found = {(each["action"], each["target"]) for each in entries}
            return found >= {("answer", answered["id"]), ("forbidden", "/v1/audit")}

        await until(are_noted)
    assert "service_audit_waiting 1.0" in metrics


async def test_a_record_that_was_forged_is_shown_and_told_and_no_failure(serving, service_url):
    async with serving() as served, served.client() as client:
        await client.get("/v1/customers/c-1/export")
        for detail in ("no JSON", "[1]", '{"a": "\\ud800"}'):
            change(service_url, f"UPDATE audit SET detail = '{detail}', at = 'infinity'")
            (entry,) = (await client.get("/v1/audit")).json()["entries"]
            assert "was changed" in entry["detail"]["problem"]
        assert (await client.post("/v1/audit/verify")).json()["status"] == "broken at record 1"


async def test_a_log_whose_head_is_gone_is_not_called_verified_and_nothing_more(serving, redis_url):
    async with serving() as served, served.client() as client:
        await client.get("/v1/customers/c-1/export")
        async with redis.asyncio.Redis.from_url(redis_url) as in_redis:
            await in_redis.set("service:audit-head", "junk")
        known = await client.post("/v1/audit/verify")
    async with serving() as served, served.client() as client:
        gone = await client.post("/v1/audit/verify")
        await client.get("/v1/customers/c-1/export")
        later = await client.post("/v1/audit/verify")

    assert known.json()["status"] == "verified"  # the process that wrote it knows it
    assert "there is no head" in gone.json()["status"]
    assert "the head was gone before record 2" in later.json()["status"]


async def test_a_customer_is_not_touched_while_the_log_takes_no_more(serving, monkeypatch):
    async with serving() as served, served.client() as client:
        monkeypatch.setattr("course_lib.deployment.audit.MOST_WAITING", 0)

        assert_problem(await client.get("/v1/customers/c-1/export"), 503, "dependency")
        assert_problem(await client.delete("/v1/customers/c-1"), 503, "dependency")


async def test_a_redis_that_hangs_is_told_to_who_verifies(serving, own_redis):
    """Takes some seconds: each call waits half a second for a Redis that hangs."""
    async with serving(own_redis.url) as served, served.client() as client:
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            reply = await client.post("/v1/audit/verify")
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
    assert_problem(reply, 503, "dependency")


async def test_a_customer_is_exported_and_erased_from_history_and_cache(serving):
    async with serving() as served, served.client() as client:
        mine = {**ASKED, "customer": "c-1"}
        for asked in (mine, {**ASKED, "customer": "c-2"}):
            await client.post("/v1/answers", json=asked)
        await history_of(client, 2)
        export = (await client.get("/v1/customers/c-1/export")).json()["held"]
        erased = await client.delete("/v1/customers/c-1")
        calls = lm.ledger().requests
        after = await client.post("/v1/answers", json=mine)
        other = await client.post("/v1/answers", json={**ASKED, "customer": "c-2"})

        assert QUESTION in str(export)
        assert erased.status_code == 200
        assert not after.json()["cached"]
        assert other.json()["cached"]
        assert lm.ledger().requests == calls + 1
        assert len(await history_of(client, 2)) == 2


async def test_an_answer_that_is_given_again_after_another_replica_erased_its_customer_is_kept(serving):
    async with serving() as served, served.client() as client:
        mine, service = {**ASKED, "customer": "c-1"}, served.app.service
        await client.post("/v1/answers", json=mine)
        await history_of(client, 1)
        other = Answering(service.config)
        places = [Cache(other.forget)]
        await Customers(service.store, service.audit, places).erase("lantern", "c-1", actor="lantern")
        other.cache.close()

        async def is_kept_again():
            await client.post("/v1/answers", json=mine)
            return (await client.get("/v1/customers/c-1/export")).json()["held"]["database"]["answers"]

        await until(is_kept_again)


@pytest.mark.parametrize("step", ["_keep", "subject"], ids=["about to be kept", "half kept"])
async def test_an_answer_that_is_being_kept_while_its_customer_is_erased_is_gone(serving, monkeypatch, step):
    async with serving() as served, served.client() as client:
        service = served.app.service
        owner = service.answering if step == "_keep" else service.store
        begun, goes_on, real = asyncio.Event(), asyncio.Event(), getattr(owner, step)

        async def slow(*given):
            found = await real(*given) if step == "subject" else None
            begun.set()
            await goes_on.wait()
            return found or await real(*given)

        monkeypatch.setattr(owner, step, slow)
        await client.post("/v1/answers", json={**ASKED, "customer": "c-1"})
        await begun.wait()
        erased = await client.delete("/v1/customers/c-1")
        goes_on.set()
        await client.post("/v1/answers", json=ASKED)  # is kept after the other
        await history_of(client, 1)

        assert erased.status_code == 200
        assert (await client.get("/v1/answers", params={"customer": "c-1"})).json()["answers"] == []
        assert await service.store.subjects("lantern", "c-1") == []


async def test_a_customer_is_not_called_erased_while_redis_is_away(serving, own_redis):
    """Takes some seconds: a Redis that was away is left alone for a moment."""
    async with serving(own_redis.url) as served, served.client() as client:
        await client.post("/v1/answers", json={**ASKED, "customer": "c-1"})
        await history_of(client, 1)
        own_redis.kill()
        away = await client.delete("/v1/customers/c-1")
        own_redis.start()

        async def is_erased():
            return (await client.delete("/v1/customers/c-1")).status_code == 200

        await until(is_erased)
        assert await served.app.service.store.subjects("lantern", "c-1") == []

    assert_problem(away, 503, "dependency")
    assert "cache" in away.json()["detail"]


async def test_a_job_is_queued_and_its_location_tells_how_far_it_is(serving):
    queue = running_queue(kind="nats")
    async with serving(queue_url=queue.url) as served, served.client() as client:
        asked = {"program": "triage", "inputs": ["The stove leaks gas!", "Where is my order?"]}
        reply = await client.post("/v1/jobs", json=asked)
        told = (await client.get(reply.headers["location"])).json()

    assert reply.status_code == 202
    assert (told["status"], told["inputs"], told["results"]) == ("queued", 2, [])


async def test_a_job_that_is_posted_again_is_told_where_it_is_too(serving):
    queue, headers = running_queue(kind="nats"), {"Idempotency-Key": "k-1"}
    async with serving(queue_url=queue.url) as served, served.client() as client:
        first, again = [await client.post("/v1/jobs", json=JOB, headers=headers) for _ in range(2)]

    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
async def test_what_is_not_plain_utf_8_is_refused_everywhere_alike(serving, encoding):
    async with serving() as served, served.client() as client:
        for path, asked in (
            ("/v1/answers", ASKED),
            ("/v1/answers/stream", ASKED),
            ("/v1/jobs", JOB),
            ("/v1/feedback", {"answer_id": "answer_1", "score": 1}),
        ):
            given = {"content": json.dumps(asked).encode(encoding)}
            reply = await client.post(path, **given, headers={"Content-Type": "application/json"})
            assert_problem(reply, 422, "invalid")


async def test_a_database_that_is_away_is_told_where_it_is_needed_and_missed_nowhere_else(
    serving, monkeypatch
):
    async with serving() as served, served.client() as client:

        async def away(*_, **__):
            raise StoreUnavailable("it is at postgresql://bob:hunter2@db")

        monkeypatch.setattr(served.app.service.store, "run", away)
        monkeypatch.setattr(served.app.service.store, "rows", away)
        for path in ("/v1/answers", "/v1/jobs/job_1", "/v1/audit", "/v1/customers/c/export"):
            reply = await client.get(path)
            assert_problem(reply, 503, "dependency")
            assert "hunter2" not in reply.text
        assert (await client.post("/v1/answers", json=ASKED)).status_code == 200
        monkeypatch.undo()
        await history_of(client, 1)


JOB = {"program": "triage", "inputs": ["The stove leaks gas!"]}


async def test_a_key_whose_job_was_not_queued_is_free_for_another_one(serving, monkeypatch):
    queue = running_queue(kind="nats")
    async with serving(queue_url=queue.url) as served, served.client() as client:
        headers, other = {"Idempotency-Key": "k-1"}, {**JOB, "inputs": ["Where is my order?"] * 2}

        async def away(*_, **__):
            raise QueueUnavailable("it is down")

        monkeypatch.setattr(served.app.service.queue, "send", away)
        failed = await client.post("/v1/jobs", json=JOB, headers=headers)
        monkeypatch.undo()
        another = await client.post("/v1/jobs", json=other, headers=headers)
        reused = await client.post("/v1/jobs", json=JOB, headers=headers)

    assert_problem(failed, 503, "dependency")
    assert (another.status_code, another.json()["inputs"]) == (202, 2)
    assert_problem(reused, 422, "key_reused")


UNREADABLE = ["5", "null", '["x"]', '{"n": 1' + "0" * 400 + "}"]


async def test_a_job_that_somebody_else_has_written_is_told_as_unreadable(serving, service_url):
    async with serving() as served, served.client() as client:
        store = served.app.service.store
        job = await store.create_job("lantern", "answer", "1", [{}] * len(UNREADABLE))
        with psycopg.connect(service_url) as line:
            for number, each in enumerate(UNREADABLE):
                values = [job.id, number, each]
                line.execute("INSERT INTO job_results VALUES ('lantern', %s, %s, %s)", values)
            line.execute("UPDATE jobs SET inputs = '7'")
        reply = await client.get(f"/v1/jobs/{job.id}")

    assert (reply.status_code, reply.json()["inputs"]) == (200, 0)
    assert [each["error"] for each in reply.json()["results"]] == ["unreadable"] * len(UNREADABLE)


def let_write(url: str, *, is_off: bool) -> None:
    """Set whether the database takes writes, and end its connections, which would not notice."""
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    with psycopg.connect(url, autocommit=True) as line:
        line.execute("SET default_transaction_read_only = off")
        line.execute(f"ALTER DATABASE service SET default_transaction_read_only = {is_off}")
        line.execute(f"{others} AND datname = current_database()")


async def test_a_database_that_takes_no_writes_is_a_part_that_does_not_answer(serving, service_url):
    queue = running_queue(kind="nats")
    async with serving(queue_url=queue.url) as served, served.client() as client:

        async def is_told():
            return served.app.service.parts()["database"] == told

        let_write(service_url, is_off=True)
        try:
            assert_problem(await client.post("/v1/jobs", json=JOB), 503, "dependency")
            told = "does not answer"
            await until(is_told)
        finally:
            let_write(service_url, is_off=False)
        told = "ok"
        await until(is_told)
        assert (await client.post("/v1/jobs", json=JOB)).status_code == 202


async def test_a_batch_that_takes_long_to_redact_holds_up_nobody_else(serving):
    queue = running_queue(kind="nats")
    async with serving(queue_url=queue.url) as served, served.client() as client:
        inputs = [f"{number} {'1-' * 150}" for number in range(50)]  # half a second's work
        begun_s = time.perf_counter()
        posted = asyncio.create_task(client.post("/v1/jobs", json={"program": "answer", "inputs": inputs}))
        longest_s = await longest_pause_s(posted)
        took_s = time.perf_counter() - begun_s

    assert posted.result().status_code == 202
    assert longest_s < took_s / 3


async def test_a_tenant_with_too_many_jobs_is_told_to_come_back_and_another_one_is_served(serving):
    queue = running_queue(kind="nats")
    settings = {"queue_url": queue.url, "max_waiting_jobs": 2}
    async with serving(**settings) as served, served.client() as client, served.client("other") as other:
        replies = [await client.post("/v1/jobs", json=JOB) for _ in range(3)]
        others = await other.post("/v1/jobs", json=JOB)

    assert [reply.status_code for reply in [*replies, others]] == [202, 202, 429, 202]
    assert_problem(replies[-1], 429, "quota")
    assert int(replies[-1].headers["retry-after"]) >= 10


async def test_a_spent_budget_takes_no_job(serving):
    queue = running_queue(kind="nats")
    async with serving(queue_url=queue.url, tokens_per_day=1) as served, served.client() as client:
        await client.post("/v1/answers", json=ASKED)

        assert_problem(await client.post("/v1/jobs", json=JOB), 429, "quota")
