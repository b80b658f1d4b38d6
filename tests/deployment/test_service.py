"""What callers of the service see: answers, the right error for everything else, nothing of one another."""

from __future__ import annotations

import asyncio
import json
import time
import timeit

import httpx
import pytest

from course_lib import lm
from course_lib.deployment import guard
from course_lib.deployment.guard import OPEN, ROLES, _family
from course_lib.deployment.problems import KINDS, Problem
from course_lib.redaction import redact
from tests.deployment.serving import QUESTION, desk
from tests.models import model  # noqa: F401  # fixture

pytestmark = pytest.mark.anyio

ASKED = {"question": QUESTION}


async def until(holds, within_s: float = 10.0) -> None:
    """Wait until an async function returns something true."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110  (what is waited for is another process's)
            await asyncio.sleep(0.02)


def assert_problem(reply: httpx.Response, status: int, code: str) -> None:
    told = reply.json()
    assert (reply.status_code, told["code"], told["status"]) == (status, code, status), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert told["request_id"] == reply.headers["x-request-id"]
    assert told["title"] == KINDS[code][1]


async def test_a_question_is_answered_and_costs_one_call_however_often_it_is_asked():
    async with desk() as served, served.client() as client:
        first = await client.post("/v1/answers", json=ASKED)

        async def is_repeated():
            again = await client.post("/v1/answers", json=ASKED)
            return again.json()["cached"] and again

        await until(is_repeated)

        told = first.json()
        assert first.status_code == 200
        assert told["answer"].startswith("Standard shipping")
        assert (told["citations"], told["version"], told["cached"]) == (["shipping-costs"], "1", False)
        assert (await is_repeated()).json()["id"] == told["id"]
    assert lm.ledger().requests == 1


async def test_a_ticket_is_sorted():
    async with desk() as served, served.client() as client:
        reply = await client.post("/v1/triage", json={"ticket": "The stove leaks gas!"})

    assert {"category", "urgency", "id"} <= reply.json().keys()


LARGE = {"question": "x" * 3_000, "customer": "y" * 63_000}
JSON = {"content-type": "application/json"}
CHUNKED = {**JSON, "transfer-encoding": "chunked"}
REFUSED = {
    "no key": ({"json": ASKED, "headers": {"X-API-Key": ""}}, 401, "unauthorized"),
    "wrong key": ({"json": ASKED, "headers": {"X-API-Key": "sk_a_b"}}, 401, "unauthorized"),
    "no such path": ({"url": "/v1/nothing", "method": "GET"}, 404, "not_found"),
    "method": ({"json": ASKED, "method": "PUT"}, 405, "method_not_allowed"),
    "too large": ({"json": LARGE}, 413, "too_large"),
    "too large in parts": ({"content": b"x" * 70_000, "headers": CHUNKED}, 413, "too_large"),
    "not JSON": ({"content": "question=x"}, 415, "unsupported_media_type"),
    "broken JSON": ({"content": "{", "headers": JSON}, 422, "invalid"),
    "a list": ({"json": [QUESTION]}, 422, "invalid"),
    "nothing": ({"json": {}}, 422, "invalid"),
    "no body": ({}, 422, "invalid"),
    "blank": ({"json": {"question": "  "}}, 422, "invalid"),
    "a number": ({"json": {"question": 7}}, 422, "invalid"),
    "too long": ({"json": {"question": "x" * 4_001}}, 422, "invalid"),
    "half a character": ({"content": '{"question": "\\ud800"}', "headers": JSON}, 422, "invalid"),
    "more fields": ({"json": {**ASKED, "model": "x"}}, 422, "invalid"),
    "customer": ({"json": {**ASKED, "customer": "a b"}}, 422, "invalid"),
    "version": ({"json": ASKED, "headers": {"X-Program-Version": "9"}}, 404, "not_found"),
    "stream": ({"url": "/v1/answers/stream", "json": {"question": ""}}, 422, "invalid"),
    "no database": ({"url": "/v1/jobs", "json": {"program": "answer", "inputs": ["x"]}}, 503, "dependency"),
    "limit": ({"url": "/v1/answers?limit=0", "method": "GET"}, 422, "invalid"),
    "score": ({"url": "/v1/feedback", "json": {"answer_id": "a", "score": 6}}, 422, "invalid"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_wrong_is_refused_with_its_code_and_says_nothing_of_the_input(name):
    options, status, code = REFUSED[name]
    async with desk() as served, served.client() as client:
        reply = await client.request(**{"method": "POST", "url": "/v1/answers", **options})

    assert_problem(reply, status, code)
    assert "xxxx" not in reply.text
    assert lm.ledger().requests == 0


@pytest.mark.parametrize("sent", [[], [b'{"question"']], ids=["nothing", "half"])
async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch, sent):
    monkeypatch.setattr(guard, "BODY_WITHIN_S", 0.05)

    async def stops():
        for piece in sent:
            yield piece
        await asyncio.Event().wait()

    async with desk() as served, served.client() as client, asyncio.timeout(10):
        reply = await client.post("/v1/answers", content=stops(), headers=JSON)

    assert_problem(reply, 408, "too_slow")


@pytest.mark.parametrize("values", [["1"], ["1", ""], [""]], ids=str)
async def test_who_may_only_ask_cannot_choose_the_version(values):
    headers = [("X-Program-Version", value) for value in values]
    async with desk() as served, served.client("asker") as client:
        reply = await client.post("/v1/answers", json=ASKED, headers=headers)

    assert_problem(reply, 403, "forbidden")


async def test_a_version_that_is_named_twice_is_refused_since_the_gateway_may_take_either():
    headers = [("X-Program-Version", value) for value in ("2", "1")]
    async with desk() as served, served.client() as client:
        reply = await client.post("/v1/answers", json=ASKED, headers=headers)

    assert_problem(reply, 422, "invalid")


FAULTS = {
    "503": ({"unavailable_rate": 1.0}, 503, "model_down"),
    "500": ({"error_rate": 1.0}, 503, "model_down"),
    "cut": ({"cut_before_rate": 1.0}, 503, "model_down"),
    "429 for 100 s": ({"first": ("rate_limited",) * 9, "retry_after_s": 100.0}, 503, "model_busy"),
    "nonsense": ({"missing_field_rate": 1.0}, 502, "bad_answer"),
    "silence": ({"hang_rate": 1.0}, 504, "deadline"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_model_that_fails_is_told_within_the_deadline(name):
    fields, status, code = FAULTS[name]
    lm.profile("service-fault", **fields)
    async with desk(model="sim-large@service-fault", deadline_s=1.5) as served, served.client() as client:
        begun_s = time.monotonic()
        reply = await client.post("/v1/answers", json=ASKED)
        took_s = time.monotonic() - begun_s

    assert_problem(reply, status, code)
    assert took_s < 3.0  # the deadline, on a busy machine
    if status == 503:
        assert int(reply.headers["retry-after"]) >= (100 if "100" in name else 1)


async def test_no_more_is_asked_of_a_model_that_fails_again_and_again_and_readiness_says_so():
    lm.profile("service-down", unavailable_rate=1.0)
    async with desk(model="sim-large@service-down", deadline_s=2.0) as served, served.client() as client:
        for number in range(6):
            await client.post("/v1/answers", json={"question": f"{QUESTION} {number}"})
        asked = lm.ledger().requests
        reply = await client.post("/v1/answers", json=ASKED)
        served.app.service.is_starting = False
        ready = await client.get("/health/ready")

    assert_problem(reply, 503, "model_down")
    assert lm.ledger().requests == asked
    assert ready.json()["parts"]["model"] == "its breaker is open"


async def test_different_questions_to_a_slow_model_are_answered_at_the_same_time():
    lm.profile("service-slow", ttft_p50_ms=500)
    async with desk(model="sim-large@service-slow") as served, served.client() as client:
        begun_s = time.monotonic()
        asked = (client.post("/v1/answers", json={"question": f"{QUESTION} ({n})"}) for n in range(16))
        replies = await asyncio.gather(*asked)

    assert {reply.status_code for reply in replies} == {200}
    assert time.monotonic() - begun_s < 16 * 0.5 / 2


async def test_the_model_sees_no_personal_data():
    async with desk() as served, served.client() as client:
        await client.post("/v1/answers", json={"question": "I am anna@example.com. What does shipping cost?"})

    sent = str([call.messages for call in lm.ledger().calls])
    assert "shipping" in sent
    assert "anna@example.com" not in sent


async def test_tenants_and_customers_do_not_share_answers():
    async with desk() as served, served.client() as client, served.client("other") as other:
        ids = [
            (await each.post("/v1/answers", json={**ASKED, **more})).json()["id"]
            for each in (client, other)
            for more in ({}, {"customer": "c-1"}, {"customer": "c-2"})
        ]

    assert len(set(ids)) == 6
    assert lm.ledger().requests == 6


def events_of(text: str) -> list[tuple[str, dict]]:
    blocks = [dict(line.split(": ", 1) for line in block.split("\n")) for block in text.strip().split("\n\n")]
    return [(each["event"], json.loads(each["data"])) for each in blocks]


async def test_a_stream_shows_the_answer_while_it_is_written_and_ends_with_its_id():
    async with desk() as served, served.client() as client:
        reply = await client.post("/v1/answers/stream", json=ASKED)
        plain = await client.post("/v1/answers", json=ASKED)

    events = events_of(reply.text)
    text = "".join(data["text"] for kind, data in events if kind == "token")
    (final,) = (data for kind, data in events if kind == "final")
    assert text == final["fields"]["answer"] == plain.json()["answer"]
    assert final["id"] == plain.json()["id"]
    assert ("citation", {"source": "shipping-costs", "number": 1}) in events
    assert events[-1][0] == "done"
    assert lm.ledger().requests == 1


async def test_a_stream_that_breaks_ends_with_an_error_and_is_counted_as_a_failure():
    lm.profile("service-cut", cut_midway_rate=1.0)
    async with desk(model="sim-large@service-cut", deadline_s=2.0) as served, served.client() as client:
        reply = await client.post("/v1/answers/stream", json=ASKED)
        metrics = (await client.get("/metrics")).text

    kinds = [kind for kind, _ in events_of(reply.text)]
    assert kinds[-2:] == ["error", "done"]
    assert 'service_requests_total{route="/v1/answers/stream",status="502"} 1.0' in metrics


async def test_a_stream_that_fails_after_its_answer_is_counted_as_a_failure(monkeypatch):
    async with desk() as served, served.client() as client:

        async def full(*_, **__):
            raise Problem("dependency")

        monkeypatch.setattr(served.app.service, "record", full)
        with pytest.raises(RuntimeError):  # breaks the connection
            await client.post("/v1/answers/stream", json=ASKED)
        metrics = (await client.get("/metrics")).text

    assert 'service_requests_total{route="/v1/answers/stream",status="500"} 1.0' in metrics


async def test_a_stream_that_stops_without_a_reason_ends_with_an_error_wherever_it_stops():
    lm.profile("service-ends", no_finish_rate=1.0)
    async with desk(model="sim-large@service-ends", deadline_s=5.0) as served, served.client() as client:
        questions = [{"question": f"{QUESTION} ({number})"} for number in range(20)]
        asked = (client.post("/v1/answers/stream", json=each) for each in questions)
        replies = await asyncio.gather(*asked)

    ends = [[kind for kind, _ in events_of(reply.text)][-2:] for reply in replies]
    assert ends == [["error", "done"]] * 20


async def test_the_names_of_keys_are_told_to_their_own_tenant():
    async with desk() as served, served.client() as client, served.client("other") as other:
        told, others = [(await each.get("/v1/admin/status")).json() for each in (client, other)]

    assert (told["settings"]["api_keys"], others["settings"]["api_keys"]) == ("lantern,asker", "other")


async def test_each_route_is_open_to_all_or_needs_a_role_that_the_caller_has():
    async with desk() as served, served.client("asker") as asker:
        document = served.app.api.openapi()
        for path, operations in document["paths"].items():
            family = _family(path)
            assert path in OPEN or family in ROLES
            if ROLES.get(family, "ask") != "ask":
                for method in operations:
                    reply = await asker.request(method, path.replace("{customer}", "c-1"))
                    assert_problem(reply, 403, "forbidden")


async def test_a_tenant_that_asks_too_often_is_told_when_to_come_back():
    async with (
        desk(requests_per_minute=3) as served,
        served.client() as client,
        served.client("other") as other,
    ):
        replies = [await client.post("/v1/triage", json={}) for _ in range(4)]
        others = await other.post("/v1/triage", json={})

    assert [reply.status_code for reply in replies] == [422, 422, 422, 429]
    assert_problem(replies[-1], 429, "quota")
    assert int(replies[-1].headers["retry-after"]) >= 1
    assert others.status_code == 422


async def test_monitoring_has_a_quota_of_its_own_which_no_caller_without_the_role_can_use():
    async with (
        desk(requests_per_minute=3) as served,
        served.client() as client,
        served.client("asker") as asker,
    ):
        refused = [(await asker.get("/metrics")).status_code for _ in range(4)]
        watched = [(await client.get("/metrics")).status_code for _ in range(4)]

        assert refused == [403, 403, 403, 429]
        assert watched == [200, 200, 200, 429]
        assert (await client.get("/v1/audit")).status_code == 503  # by its own quota; here is no database


async def test_a_request_id_is_taken_if_it_is_one():
    async with desk() as served, served.client() as client:
        given = await client.get("/health/live", headers={"X-Request-Id": "abc-1"})
        forged = await client.get("/health/live", headers={"X-Request-Id": 'a"; forged'})

    assert given.headers["x-request-id"] == "abc-1"
    assert "forged" not in forged.headers["x-request-id"]


async def test_a_replica_that_is_about_to_end_says_so_and_goes_on():
    async with desk() as served, served.client() as client:

        async def is_ready():
            return (await client.get("/health/ready")).status_code == 200

        await until(is_ready)
        served.app.service.is_draining = True

        assert_problem(await client.get("/health/ready"), 503, "draining")
        assert (await client.post("/v1/answers", json=ASKED)).status_code == 200


async def test_metrics_count_requests_by_route_and_name_nobody():
    async with desk() as served, served.client() as client:
        for _ in range(3):
            await client.post("/v1/answers", json={**ASKED, "customer": "anna"})
        await client.get("/v1/anna/secret")
        await client.get("/v1/answers")
        await client.post("/v1/answers", json=ASKED, headers={"X-API-Key": "nobody's"})
        text = (await client.get("/metrics")).text

    assert 'service_requests_total{route="/v1/answers",status="200"} 3.0' in text
    assert 'service_repeated_total{program="answer"} 2.0' in text
    assert 'service_requests_total{route="/v1/answers",status="401"} 1.0' in text
    assert 'service_requests_total{route="/v1/feedback",status="504"} 0.0' in text  # so its first is a rise
    assert 'service_request_seconds_count{route="/v1/answers"} 3.0' in text  # a refusal takes no time
    assert 'service_requests_total{route="/v1/history",status="503"} 1.0' in text  # here is no database
    assert 'dspy_requests_total{error="",program="Answer"} 1.0' in text
    assert "anna" not in text


SLOW = "1-" * 1_900  # what takes longest to redact: some 80 ms


async def longest_pause_s(task: asyncio.Task) -> float:
    """Return how much work the event loop did at once, at most, until the task was done.

    In processor time of its thread, which other processes and threads do not change.
    """
    longest_s = 0.0
    while not task.done():
        begun_s = time.thread_time()
        await asyncio.sleep(0)
        longest_s = max(longest_s, time.thread_time() - begun_s)
    return longest_s


@pytest.mark.parametrize("path", ["/v1/answers", "/v1/answers/stream"])
async def test_a_text_that_takes_long_to_redact_holds_up_nobody_else(path):
    took_s = min(timeit.repeat(lambda: redact(SLOW), timer=time.thread_time, number=1, repeat=3))
    async with desk() as served, served.client() as client:
        await client.post(path, json=ASKED)
        asked = [client.post(path, json={"question": f"{number} {SLOW}"}) for number in range(5)]
        pauses = [await longest_pause_s(asyncio.create_task(each)) for each in asked]

    assert min(pauses) < took_s / 2


async def leave_after_the_first_event(served, question: str) -> None:
    """Ask for a stream, as a server does whose client goes away."""
    body = {"type": "http.request", "body": json.dumps({"question": question}).encode(), "more_body": False}
    has_seen, left = asyncio.Event(), [body]
    headers = [(b"x-api-key", served.keys["lantern"].encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1"}
    scope |= {"method": "POST", "path": "/v1/answers/stream", "query_string": b"", "headers": headers}

    async def receive():
        if left:
            return left.pop()
        await has_seen.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message.get("body"):
            has_seen.set()
            await asyncio.sleep(0)

    await served.app(scope, receive, send)


async def test_a_stream_that_is_left_costs_as_much_as_an_answer():
    lm.profile("service-left", speed_p50_tokens_per_s=20.0)
    settings = {"model": "sim-large@service-left", "tokens_per_day": 1_000}
    async with desk(**settings) as served, served.client() as client:
        await leave_after_the_first_event(served, QUESTION)

        async def is_charged():
            return served.app.service.quotas._usages["lantern"].pending

        await until(is_charged)
        assert_problem(await client.post("/v1/answers/stream", json=ASKED), 429, "quota")


async def test_a_stream_that_is_left_costs_nothing_that_depends_on_another_tenant():
    lm.profile("service-left", speed_p50_tokens_per_s=20.0)
    async with desk(model="sim-large@service-left") as served, served.client("other") as client:
        assert (await client.post("/v1/answers", json=ASKED)).status_code == 200
        await leave_after_the_first_event(served, QUESTION)

        async def is_charged():
            usage = served.app.service.quotas._usages["lantern"]
            return usage.total + usage.pending

        await until(is_charged)
        assert await is_charged() == 1_000  # what is taken until the tenant has had an answer


async def test_a_stream_that_is_left_is_free_when_memory_had_its_answer():
    async with desk() as served, served.client() as client:
        await client.post("/v1/answers", json=ASKED)
        usage = served.app.service.quotas._usages["lantern"]
        spent = usage.total + usage.pending
        await leave_after_the_first_event(served, QUESTION)
        await asyncio.gather(*served.app.service._later)

        assert usage.total + usage.pending == spent > 0


async def test_what_the_program_says_from_memory_is_each_caller_s_own_and_goes_with_its_customer(monkeypatch):
    async with desk() as served:
        answering = served.app.service.answering
        monkeypatch.setattr(answering, "found", lambda _: None)  # the answer cache would be faster
        asked = await answering.asked("answer", QUESTION, tenant="lantern", customer="ada")
        told = await answering.ask(asked)
        said = [answering.at_once(asked) for _ in range(3)]
        said[0].outputs["citations"].clear()
        assert [each.outputs for each in said[1:]] == [told.outputs] * 2
        assert answering.at_once(asked).outputs == told.outputs
        await answering.forget("lantern", "ada")
        assert answering.at_once(asked) is None
    assert lm.ledger().requests == 1
