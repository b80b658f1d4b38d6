"""The service as a browser's code would meet it: real HTTP, a real WebSocket, a real model's endpoint."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any
from unittest.mock import Mock

import dspy
import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse
from starlette.applications import Starlette
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from course_lib import lm
from course_lib.caching import current_scope, scope
from course_lib.concurrency.streaming import (
    Service,
    UnknownFieldError,
    from_json,
    kind_of,
    serve,
    streaming_app,
)
from course_lib.concurrency.streaming.service import Registry
from course_lib.services import web
from tests.caching.conftest import until
from tests.concurrency.test_streaming import QUESTION, model

PROGRAM = dspy.Predict("question -> answer")


class Says(dspy.Module):
    """A program that answers what a function makes of its inputs."""

    def __init__(self, answer: Callable[..., str]) -> None:
        super().__init__()
        self.ask, self.answer = dspy.Predict("history: dspy.History, question -> answer"), answer

    async def aforward(self, **inputs: str) -> dspy.Prediction:
        return dspy.Prediction(answer=self.answer(**inputs))


@pytest.fixture
def served() -> Iterator[Callable[..., Service]]:
    """Serve an app for one test, with a model under a profile."""
    with ExitStack() as ends:

        def start(
            program: dspy.Module = PROGRAM, *, profile: Any = None, tenants: bool = False, **options: Any
        ) -> Service:
            with dspy.context(lm=model(**(profile or {}))):
                app = streaming_app(program, **options)
                if tenants:
                    app.add_middleware(Tenant)
                return ends.enter_context(serve(app))

        yield start


def events_of(
    service: Service, question: str = QUESTION, *, last: str = "", most: int = 10_000
) -> list[ServerSentEvent]:
    """Return the events of one request, or the first few, after which the connection is cut."""
    headers = {"Last-Event-ID": last} if last else {}
    found: list[ServerSentEvent] = []
    with (
        httpx.Client(timeout=30) as client,
        connect_sse(
            client, "GET", f"{service.url}/stream", params={"question": question}, headers=headers
        ) as sent,
    ):
        for event in sent.iter_sse():
            found += [event] if event.data else []
            if len(found) >= most:
                break
    return found


def kinds(events: list[ServerSentEvent]) -> list[str]:
    return [event.event for event in events]


def chat(service: Service, **options: Any) -> ClientConnection:
    return connect(service.url.replace("http", "ws") + "/chat", **options)


def answer_of(connection: ClientConnection) -> list[dict[str, Any]]:
    """Return what comes over a chat until an answer is done."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["event"] != "done":
        found.append(json.loads(connection.recv(timeout=30)))
    return found


def test_a_request_gets_numbered_events_that_end_with_the_answer_and_done(served) -> None:
    events = events_of(served())

    assert kinds(events)[-2:] == ["final", "done"]
    assert set(kinds(events)[:-2]) == {"token"}
    stream_id = events[0].id.rpartition(".")[0]
    assert [event.id for event in events] == [f"{stream_id}.{n}" for n in range(1, len(events) + 1)]
    read = [from_json(event.event, event.data) for event in events]
    assert [kind_of(event) for event in read] == kinds(events)
    assert "".join(one.text for one in read[:-2]) == read[-2].fields["answer"]


def test_a_reader_who_comes_back_goes_on_where_he_was_without_a_second_call(served) -> None:
    service = served(profile={"speed_p50_tokens_per_s": 100})

    before = events_of(service, most=3)
    after = events_of(service, last=before[-1].id)

    whole = events_of(service, last=f"{before[0].id.rpartition('.')[0]}.0")
    assert [event.id for event in [*before, *after]] == [event.id for event in whole]
    assert lm.ledger().requests == 1


def test_an_event_that_is_not_known_is_answered_with_an_error_and_the_end(served) -> None:
    service = served()
    known = events_of(service)[0].id.rpartition(".")[0]

    for last in (
        "nobody.3",
        "x",
        "..",
        f"{known}.-1",
        f"{known}.1e1",
        f"{known}.99999999999999999999",
        f"{known}.{'9' * 5_000}",
        known,
    ):
        events = events_of(service, last=last)

        assert kinds(events) == ["error", "done"]
        assert events[0].json()["code"] == "gone"
    assert lm.ledger().requests == 1


def test_a_reader_who_leaves_ends_the_request_to_the_model_after_the_grace_period(served) -> None:
    service = served(profile={"speed_p50_tokens_per_s": 15}, grace_s=0.1)

    first = events_of(service, most=1)
    until(lambda: lm.ledger().requests == 1, "the request ends")
    late = events_of(service, last=first[0].id)

    assert lm.ledger().statuses == {499: 1}
    assert kinds(late)[-2:] == ["error", "done"]
    assert late[-2].json()["code"] == "abandoned"


def test_heartbeats_come_while_nothing_else_does(served) -> None:
    service = served(profile={"hang_rate": 1.0}, heartbeat_s=0.05, grace_s=0.0)

    events = events_of(service, most=3)

    assert kinds(events) == ["heartbeat"] * 3
    until(lambda: lm.ledger().statuses == {499: 1}, "the request ends")


def test_a_request_without_the_right_inputs_is_told_so(served) -> None:
    url = f"{served().url}/stream"

    for query in ("", "?query=a", "?question=a&x=b", "?question=a&question=b", "?question=" + "a" * 9_000):
        answer = httpx.get(f"{url}{query}").text

        assert '"code": "inputs"' in answer
        assert "event: done" in answer
    assert lm.ledger().requests == 0


def test_more_runs_than_allowed_are_refused_with_a_time_to_wait(served) -> None:
    service = served(profile={"hang_rate": 1.0}, most_streams=1, heartbeat_s=0.05)
    with (
        httpx.Client(timeout=30) as client,
        connect_sse(client, "GET", f"{service.url}/stream", params={"question": "a"}) as sent,
    ):
        next(event for event in sent.iter_sse() if event.data)

        refused, _ = events_of(service, "b")

    assert refused.json()["code"] == "busy"
    assert refused.json()["retry_after_s"] > 0


def test_pages_of_other_sites_get_nothing(served) -> None:
    service = served()

    foreign = [{"Origin": origin} for origin in ("http://evil.example", "null", "http://[")]
    foreign += [{"Host": host} for host in ("evil.example", "[")]
    foreign += [{"Sec-Fetch-Site": site} for site in ("cross-site", "same-site", "none")]
    for headers in foreign:
        assert httpx.get(f"{service.url}/stream?question=a", headers=headers).status_code == 403
    for origin in ("http://evil.example", "null"):
        with pytest.raises(InvalidStatus, match="403"):
            chat(service, origin=origin)
    assert lm.ledger().requests == 0
    assert httpx.get(service.url, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200  # a notebook
    own = httpx.get(f"{service.url}/stream?question=a", headers={"Sec-Fetch-Site": "same-origin"})
    assert "event: final" in own.text


def test_a_look_at_what_there_is_asks_no_model(served) -> None:
    service = served()

    looked = [httpx.head(f"{service.url}{path}") for path in ("/stream?question=a", "/")]

    assert [answer.status_code for answer in looked] == [200, 200]
    assert looked[0].headers["content-type"].startswith("text/event-stream")
    assert lm.ledger().requests == 0


def test_the_app_can_be_served_by_a_server_that_tells_it_of_its_life() -> None:
    with TestClient(streaming_app(PROGRAM), base_url="http://localhost") as client:
        assert client.get("/").status_code == 200


def test_inputs_may_have_the_names_of_options(served) -> None:
    names = ("citations", "fields", "grace_s", "status", "stop")
    program = Says(lambda **inputs: f"got {sorted(inputs)}")
    service, given = served(program, inputs=names), dict.fromkeys(names, "a")

    sent = httpx.get(f"{service.url}/stream", params=given).text
    with chat(service) as connection:
        connection.send(json.dumps(given))
        final = answer_of(connection)[-2]

    assert f"got {sorted(names)}" in sent
    assert final["fields"]["answer"] == f"got {sorted(names)}"


def test_half_a_character_in_an_answer_comes_over_both_and_does_no_harm_to_the_next_turn(served) -> None:
    def answer(question: str, history: dspy.History | None = None) -> str:
        json.dumps(history and history.messages, ensure_ascii=False).encode()
        return f"a\ud800b {question}"

    service = served(Says(answer), history="history")
    with chat(service) as connection:
        for question in ("one", "two"):
            connection.send(json.dumps({"question": question}))
            final = answer_of(connection)[-2]

            assert final["fields"]["answer"] == f"a\ud800b {question}"
    assert "event: final" in httpx.get(f"{service.url}/stream?question=a").text


def test_whatever_goes_wrong_in_a_chat_is_told_and_it_goes_on(served, monkeypatch) -> None:
    service = served()
    for error in (RuntimeError, TypeError, UnicodeError, KeyError):
        with chat(service) as connection, monkeypatch.context() as patch:
            patch.setattr(Registry, "open", Mock(side_effect=error("sk-secret")))
            connection.send(json.dumps({"question": "a"}))
            told = answer_of(connection)
            patch.undo()
            connection.send(json.dumps({"question": "What is 1 + 1?"}))

            assert [one["event"] for one in told] == ["error", "done"]
            assert "secret" not in str(told)
            assert answer_of(connection)[-2]["event"] == "final"


def test_an_answer_that_cannot_be_sent_is_an_error(served) -> None:
    class Counts(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ask = PROGRAM

        async def aforward(self, question: str) -> dspy.Prediction:
            await self.ask.acall(question=question)
            return dspy.Prediction(answer=10**5_000)  # no JSON has a number of that length

    *_, error, done = events_of(served(Counts()))

    assert (error.json()["code"], done.event) == ("internal", "done")


def test_an_error_tells_neither_the_exceptions_text_nor_its_place(served) -> None:
    error, _ = events_of(served(Says(lambda question: int(f"the key is sk-secret, {question}"))))

    assert error.json() == {
        "code": "internal",
        "message": "The program failed.",
        "partial": {},
        "retry_after_s": None,
    }


def half_sent(service: Service, head: bytes) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=10)
    with suppress(ConnectionError):
        opened.sendall(head)
    return opened


def is_cut_off(opened: socket.socket) -> bool:
    with suppress(ConnectionError):
        return opened.recv(12) in (b"", b"HTTP/1.1 400")
    return True


@pytest.mark.parametrize("head", [b"X: " + b"x" * 200_000, b"X: y\r\n" * 40_000], ids=["one", "many"])
def test_a_head_without_end_is_refused(served, head: bytes) -> None:
    with half_sent(served(), b"GET / HTTP/1.1\r\n" + head) as opened:
        assert is_cut_off(opened)


def test_who_sends_no_head_or_half_of_one_is_cut_off_and_a_chat_is_not(served, monkeypatch) -> None:
    monkeypatch.setattr(web, "HEAD_WITHIN_S", 0.3)
    service = served()

    with chat(service) as connection:
        for head in (b"", b"GET /stream?question=a HTTP/1.1\r\nHost: "):
            with half_sent(service, head) as opened:
                assert is_cut_off(opened)
        connection.send(json.dumps({"question": "What is 1 + 1?"}))

        assert answer_of(connection)[-2]["event"] == "final"


def test_half_of_the_files_that_the_process_may_open_are_left_to_it(served, monkeypatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (20, 20))
    service = served()

    with ExitStack() as ends:
        opened = [ends.enter_context(half_sent(service, b"GET")) for _ in range(30)]
        assert all(map(is_cut_off, opened[:20]))
    until(lambda: httpx.get(service.url).status_code == 200, "there is room again")


class Tenant:
    """What an app's own middleware does: it says for whom a request is made."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, asked: Any, receive: Any, send: Any) -> None:
        headers = dict(asked["headers"])
        with scope(tenant=headers.get(b"x-tenant", b"nobody").decode()):
            await self.app(asked, receive, send)


def test_a_run_belongs_to_the_tenant_of_its_request_and_sees_the_context_of_the_service(served) -> None:
    program = Says(lambda **_: f"{current_scope().tenant} {dspy.settings.lm.model}")
    url = served(program, tenants=True).url

    for tenant in ("A", "B"):
        text = httpx.get(f"{url}/stream?question=a", headers={"X-Tenant": tenant}).text
        assert f'"answer": "{tenant} course/sim-large@streams"' in text


def test_a_chat_streams_each_answer(served) -> None:
    with chat(served()) as connection:
        for question in ("What is 2 + 2?", "What is 20 + 22?"):
            connection.send(json.dumps({"question": question}))
            *tokens, final, _ = answer_of(connection)

            assert final["event"] == "final"
            assert "".join(one["text"] for one in tokens) == final["fields"]["answer"]
    assert lm.ledger().requests == 2


def test_a_chat_knows_its_earlier_turns_and_no_other_chats(served) -> None:
    program = Says(lambda question, history: " ".join(turn["question"] for turn in history.messages))
    service = served(program, history="history")
    with chat(service) as connection, chat(service) as other:
        for question in ("one", "two", "three"):
            connection.send(json.dumps({"question": question}))
            final = answer_of(connection)[-2]
        other.send(json.dumps({"question": "one"}))

        assert final["fields"]["answer"] == "one two"
        assert answer_of(other)[-2]["fields"]["answer"] == ""


@pytest.mark.parametrize("how", ["stop", "another question", "leave"])
def test_an_answer_that_nobody_waits_for_any_more_is_ended(served, how: str) -> None:
    service = served(profile={"speed_p50_tokens_per_s": 15})
    with chat(service) as connection:
        connection.send(json.dumps({"question": QUESTION}))
        connection.recv(timeout=30)
        if how != "leave":
            connection.send(json.dumps({"stop": True} if how == "stop" else {"question": "What is 1 + 1?"}))
            until(lambda: lm.ledger().requests == 1, "the request ends")
    until(lambda: lm.ledger().under_way == 0, "nothing is under way")

    assert lm.ledger().calls[0].status == 499


def test_a_chat_tells_what_a_message_lacks_and_goes_on(served) -> None:
    with chat(served()) as connection:
        twice = '{"question": "a", "question": "b"}'
        odd = (
            "",
            "[]",
            "no json",
            "[" * 30_000,
            '{"question": 1}',
            twice,
            '{"question": "a", "history": []}',
        )
        for sent in odd:
            connection.send(sent)
            error, _ = answer_of(connection)
            assert error["code"] == "inputs"
        connection.send(json.dumps({"question": "What is 1 + 1?"}))

        assert answer_of(connection)[-2]["event"] == "final"


def test_a_message_that_is_not_text_ends_its_chat_and_no_other(served, caplog) -> None:
    service = served()
    with chat(service) as connection, chat(service) as other:
        connection.send(b"\x00")
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=30)
        other.send(json.dumps({"question": "What is 1 + 1?"}))

        assert answer_of(other)[-2]["event"] == "final"
    assert not caplog.records


@pytest.mark.soak  # a process that imports DSPy takes seconds
def test_a_process_that_forgets_to_close_its_service_ends_all_the_same() -> None:
    code = """
import dspy, httpx
from course_lib import lm
from course_lib.concurrency.streaming import serve, streaming_app
with dspy.context(lm=lm.connect()):
    service = serve(streaming_app(dspy.Predict("question -> answer"), heartbeat_s=0.05))
client = httpx.Client()
print(client.get(f"{service.url}/stream?question=a").status_code)
"""
    where = os.environ | {"COURSE_LM_URL": lm.url(), "COURSE_LM_KEY": lm.key()}

    ended = subprocess.run(
        [sys.executable, "-c", code], env=where, capture_output=True, text=True, timeout=60
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "200\n", "")


def test_a_service_that_is_closed_tells_its_readers_and_leaves_nothing(served, caplog) -> None:
    before = threading.active_count()
    service = served(profile={"hang_rate": 1.0}, heartbeat_s=0.05)
    with (
        httpx.Client(timeout=30) as client,
        connect_sse(client, "GET", f"{service.url}/stream", params={"question": "a"}) as sent,
        chat(service) as connection,
    ):
        connection.send(json.dumps({"question": "b"}))
        until(lambda: lm.ledger().under_way == 2, "both ask")

        closing = threading.Thread(target=service.close)
        closing.start()
        ending = [event for event in sent.iter_sse() if event.event in {"error", "done"}]
        closing.join()

    assert kinds(ending) == ["error", "done"]
    assert ending[0].json()["code"] == "closing"
    assert "closed" in repr(service)
    assert not caplog.records
    until(lambda: lm.ledger().statuses == {499: 2}, "both requests end")
    until(lambda: threading.active_count() <= before, "its threads end")


def test_a_field_that_does_not_exist_is_told_when_the_app_is_made() -> None:
    with pytest.raises(UnknownFieldError):
        streaming_app(PROGRAM, fields=["anser"])


def test_in_a_notebook_it_is_a_link_and_the_page(served) -> None:
    service = served()

    shown = service._repr_html_()

    assert f'href="{service.url}"' in shown
    assert f'<iframe src="{service.url}"' in shown
    page = httpx.get(service.url)
    assert (page.status_code, "default-src 'none'" in page.headers["content-security-policy"]) == (200, True)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_app_without_streams_ends_as_quietly_as_it_was_served():
    with serve(Starlette()) as service:
        assert httpx.get(service.url).status_code == 404

    assert "closed" in repr(service)
