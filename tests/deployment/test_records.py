"""What the service writes to files says nothing of what a customer wrote, and goes when it has to."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import psycopg
import pytest

from course_lib.deployment import records, service
from course_lib.deployment.store import Store
from tests.deployment.serving import desk
from tests.deployment.test_service import ASKED, until
from tests.models import model  # noqa: F401  # fixture

pytestmark = pytest.mark.anyio

MINE = {**ASKED, "customer": "anna-0815"}


@pytest.fixture
def serving(service_url, tmp_path):
    @asynccontextmanager
    async def run(**settings):
        given = {"database_url": service_url, "records_folder": tmp_path, **settings}
        async with desk(**given) as served, served.client() as client:

            async def is_whole():
                return (await client.get("/health/ready")).json()["status"] == "ok"

            await until(is_whole)
            yield served.app.service, client

    return run


def lines(folder, name="requests.jsonl") -> list:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


async def test_a_request_is_a_line_in_the_elastic_schemas_names_and_a_span(serving, tmp_path, caplog):
    async with serving() as (service, client):
        await client.post("/v1/answers", json=MINE, headers={"X-Request-Id": "r-1"})
        await client.get("/v1/customers/anna-0815/export")
        await client.get("/health/live")
        (subject,) = await service.store.subjects("lantern", "anna-0815")

    asked, exported = lines(tmp_path)
    assert datetime.fromisoformat(asked.pop("@timestamp")).tzinfo is not None
    assert 0 < asked.pop("event.duration") < 60e9
    assert asked.pop("process.pid") > 0
    trace_id = asked.pop("trace.id")
    assert asked.pop("event.id") != exported["event.id"]
    assert asked == {
        "ecs.version": "8.17.0",
        "event.dataset": "desk.requests",
        "http.request.id": "r-1",
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "log.level": "info",
        "message": "POST /v1/answers 200",
        "organization.id": "lantern",
        "service.name": "desk",
        "url.path": "/v1/answers",
        "user.id": subject,
    }
    assert exported["url.path"] == "/v1/customers/{customer}/export"
    assert "not whole" not in caplog.text
    spans = lines(tmp_path, "spans.jsonl")
    (span,) = [span for span in spans if span["name"] == "POST /v1/answers"]
    assert span["attributes"]["user.id"] == subject
    assert span["context"]["trace_id"] == f"0x{trace_id}"
    assert len([each for each in spans if each["context"]["trace_id"] == span["context"]["trace_id"]]) > 1
    for path in tmp_path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert "anna-0815" not in path.read_text()
        assert "shipping cost" not in path.read_text()


async def test_of_a_trace_that_is_not_kept_the_log_has_the_id_and_what_became_of_it(
    serving, tmp_path, monkeypatch
):
    sent = f"00-{'ab' * 16}-{'cd' * 8}-0"
    async with serving(trace_share=0.0) as (service, client):
        await client.post("/v1/answers", json=MINE)
        monkeypatch.setattr(service.answering, "ask", None)  # a mistake in the program
        await client.post("/v1/answers", json={"question": "Why?"}, headers={"traceparent": f"{sent}0"})
        await client.post("/v1/answers", json={"question": "How?"}, headers={"traceparent": f"{sent}1"})

    answered, *failed = lines(tmp_path)
    assert int(answered["trace.id"], 16) > 0
    assert [(each["http.response.status_code"], each["trace.id"]) for each in failed] == [
        (500, "ab" * 16)
    ] * 2
    assert lines(tmp_path, "spans.jsonl") == []  # whatever flag a caller has sent


async def test_nothing_is_written_without_a_folder(serving, tmp_path):
    async with serving(records_folder=None) as (_, client):
        assert (await client.post("/v1/answers", json=MINE)).status_code == 200
    assert [*tmp_path.iterdir()] == []


async def test_what_is_written_after_its_customer_was_erased_goes_at_once(serving, tmp_path):
    async with serving() as (service, client):
        await client.post("/v1/answers", json=MINE)
        old = await service.store.subject("lantern", "anna-0815")
        await client.delete("/v1/customers/anna-0815")
        await client.post("/v1/answers", json={**MINE, "customer": "bert"})
        await client.post("/v1/answers", json=MINE)  # this process may not know of the erasure yet
        await service.records.write(service.store)
        await client.post("/v1/answers", json=MINE)

    text = "".join(path.read_text() for path in tmp_path.iterdir())
    assert old not in text
    assert len({line["user.id"] for line in lines(tmp_path) if "user.id" in line}) == 2


async def test_a_trace_that_callers_share_gives_nobody_anothers_spans(serving, tmp_path):
    shared = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
    async with serving() as (service, client):
        for customer in ("bert", "anna-0815"):
            asked = {"question": f"Where is the parcel of {customer}?", "customer": customer}
            await client.post("/v1/answers", json=asked, headers=shared)
        (anna,) = await service.store.subjects("lantern", "anna-0815")
        (bert,) = await service.store.subjects("lantern", "bert")
        await service.records.write(service.store)
        held = (await client.get("/v1/customers/bert/export")).json()["held"]
        await client.delete("/v1/customers/bert")

    assert bert in str(held["traces"])
    assert anna not in str(held["traces"])
    left = lines(tmp_path, "spans.jsonl")
    of_anna = [span for span in left if span["context"]["trace_id"] == f"0x{'ab' * 16}"]
    assert len(of_anna) == len(held["traces"]) > 1
    assert anna in str(of_anna)
    assert bert not in str(of_anna)


async def test_files_have_a_bound(serving, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MOST_BYTES", 5_000)
    async with serving() as (service, client):
        for number in range(100):
            await client.get("/v1/answers")
            if number % 10 == 0:
                await service.records.write(service.store)

    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert {*sizes} <= {f"{name}.jsonl{end}" for name in ("requests", "spans") for end in ("", ".1")}
    assert "requests.jsonl.1" in sizes
    assert max(sizes.values()) < 5_000 + 10 * 2_000


# Housekeeping


async def test_what_is_old_goes_and_an_erasure_goes_on_by_one_process_at_a_time(
    serving, service_url, tmp_path, monkeypatch
):
    monkeypatch.setattr(service, "_LATER_S", 0.05)
    path = tmp_path / "requests.jsonl"
    now = datetime.now(UTC).isoformat()
    path.write_text(f'{{"@timestamp": "2020-01-01T00:00:00+00:00"}}\n{{"@timestamp": "{now}"}}\n')
    async with Store(service_url, size=2, deadline_s=10) as store:
        subject = await store.subject("lantern", "anna-0815")
        answer = {"program": "answer", "version": "1", "question": "?", "answer": {}}
        await store.save_answer("lantern", **answer, subject=subject)
        old = await store.save_answer("lantern", **answer)
        with psycopg.connect(service_url) as connection:
            connection.execute("UPDATE answers SET created = '2020-01-01' WHERE id = %s", [old])
        await store.begin_erasure("lantern", "anna-0815")

        async def is_kept():
            left = [entry.id for entry in await store.history("lantern")]
            return old not in left and not await store.subjects("lantern", "anna-0815")

        async with store.alone("housekeeping") as is_alone, serving():
            assert is_alone
            await asyncio.sleep(0.3)  # that nothing happens cannot be waited for otherwise
            assert not await is_kept()
            assert await store.subjects("lantern", "anna-0815") == [subject]
        async with serving():
            await until(is_kept)

            async def is_dropped():
                return "2020" not in path.read_text()

            await until(is_dropped)
    assert now in path.read_text()


async def test_housekeeping_that_fails_is_tried_again(serving, monkeypatch, caplog):
    monkeypatch.setattr(service, "_LATER_S", 0.05)
    calls = []

    async def drop(_, days):
        calls.append(days)
        raise OSError("secret words")

    monkeypatch.setattr(Store, "drop_older_than", drop)
    async with serving(retention_days=7):

        async def is_tried_again():
            return len(calls) > 1

        await until(is_tried_again)
    assert {*calls} == {7}
    assert "housekeeping is tried again: OSError" in caplog.text
    assert "secret words" not in caplog.text
