"""A forked child and its parent on one model: two connections, so that nobody reads the other's reply."""

from __future__ import annotations

import json
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dspy
import pytest

from course_lib.lm import connection


class TellsPort(BaseHTTPRequestHandler):
    """A model that answers with the port of the client's connection."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": str(self.client_address[1])}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply = json.dumps(
            {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice]}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[dspy.LM]:
    """A model that is told its port by the endpoint."""
    with ThreadingHTTPServer(("127.0.0.1", 0), TellsPort) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(connection.process, "url", lambda: f"http://127.0.0.1:{server.server_port}/v1")
        model = connection.connect("sim-large", cache=False, num_retries=0)
        yield model
        model.close()
        server.shutdown()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_asks_on_a_connection_of_its_own(model: dspy.LM) -> None:
    fork = multiprocessing.get_context("fork")
    ports = fork.SimpleQueue()
    models = [model, model.copy()]
    before = {model("Which?")[0] for model in models}

    child = fork.Process(target=lambda: ports.put({model("Which?")[0] for model in models}), daemon=True)
    with ThreadPoolExecutor(1) as other_thread:  # it holds the lock, for which the child would wait in vain
        other_thread.submit(model._engine_lock.acquire).result()
        child.start()
        other_thread.submit(model._engine_lock.release).result()
    child.join(20)

    assert child.exitcode == 0
    of_the_child = ports.get()
    assert len(before) == len(of_the_child) == 1
    assert before.isdisjoint(of_the_child)
    assert {model("Which?")[0] for model in models} == before
