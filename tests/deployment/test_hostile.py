"""What a model's server may send, by mistake or by malice, and what the service makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.deployment.serving import desk

pytestmark = pytest.mark.anyio

TICKET = {"ticket": "The light flickers."}
SORTED = "[[ ## category ## ]]\nproduct\n\n[[ ## urgency ## ]]\nnormal\n\n[[ ## completed ## ]]"


def completion(**fields) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": SORTED}}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], **fields}).encode()


@pytest.fixture
def sends(monkeypatch) -> Iterator[Callable[..., None]]:
    """Set what the model's server answers from now on."""
    sent: dict[str, tuple] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, b"{}", {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            is_asked = self.path.endswith("/chat/completions")
            self.answer(*(sent["now"] if is_asked else (200, b"{}", {})))  # else: profiles of other tests

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(OSError):  # the service has hung up
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("COURSE_LM_URL", f"http://127.0.0.1:{server.server_port}")
        yield lambda body, status=200, **headers: sent.update(now=(status, body, headers))
        server.shutdown()


@pytest.mark.parametrize(("media", "mb"), [("application/json", 2), ("text/event-stream", 9)])
async def test_an_answer_that_is_too_large_is_cut_off_and_refused(sends, media, mb):
    sends(b" " * mb * 1024 * 1024, **{"Content-Type": media})
    async with desk() as served, served.client() as client:
        reply = await client.post("/v1/triage", json=TICKET)

    assert (reply.status_code, reply.json()["code"]) == (502, "bad_answer")
    assert "larger" in reply.json()["detail"]


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0}, []], ids=json.dumps)
async def test_an_answer_whose_cost_is_not_told_is_no_cached_one_and_is_charged(sends, usage):
    sends(completion(usage=usage))
    async with desk() as served, served.client() as client:
        reply = await client.post("/v1/triage", json=TICKET)
        spent = served.app.service.quotas._usages["lantern"].pending

    assert (reply.status_code, reply.json()["cached"]) == (200, False)
    assert spent == 1_000


async def test_an_answer_that_is_said_to_cost_more_than_can_be_is_charged_what_can_be(sends):
    sends(completion(usage={"prompt_tokens": 1e30, "completion_tokens": 1}))
    async with desk() as served, served.client() as client:
        replies = [await client.post("/v1/triage", json={"ticket": f"Lamp {n}"}) for n in range(2)]

    assert [reply.status_code for reply in replies] == [200, 200]


UNREADABLE = {
    "nested": b"[" * 3_000,
    "null": b"null",
    "tokens below 0": completion(usage={"prompt_tokens": -100, "completion_tokens": -5}),
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_what_cannot_be_read_is_the_model_s_failure_and_not_the_service_s(sends, body):
    sends(body)
    async with desk() as served, served.client() as client:
        reply = await client.post("/v1/triage", json=TICKET)

    assert (reply.status_code, reply.json()["code"]) == (502, "bad_answer")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("told", ["9" * 19, "Wed, 21 Oct 2099 07:28:00 GMT"])
async def test_nobody_is_told_to_wait_for_more_than_a_day(sends, status, told):
    sends(b"{}", status, **{"Retry-After": told})
    async with desk() as served, served.client() as client:
        reply = await client.post("/v1/triage", json=TICKET)

    assert (reply.status_code, reply.headers["retry-after"]) == (503, "86400")
