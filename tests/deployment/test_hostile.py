"""What a model's server may send, by mistake or by malice, and what the service makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.deployment.serving import desk

pytestmark = pytest.mark.anyio

TICKET = {"ticket": "The light flickers."}


@pytest.fixture
def sends(monkeypatch) -> Iterator[Callable[..., None]]:
    """Set what the model's server answers from now on."""
    sent: dict[str, tuple] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, b"{}", {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.answer(*sent["now"])

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
