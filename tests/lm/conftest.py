"""An endpoint in a thread with an echo engine, and one in front of the simulator as notebooks have it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest

from course_lib.lm.endpoint.running import server
from course_lib.lm.endpoint.server import Endpoint
from course_lib.lm.reply import Reply, ToolCall

MESSAGES = [{"role": "user", "content": "one two three"}]


class Echo:
    """Answers with the last message, the sample's number behind it; calls the first tool if there is one."""

    def __call__(self, body: Mapping[str, Any], *, sample: int) -> Reply:
        text = str(body["messages"][-1]["content"])
        if text == "break":
            raise ZeroDivisionError("the engine broke")
        if body.get("tools"):
            name = body["tools"][0]["function"]["name"]
            return Reply(None, (ToolCall(name, {"text": text}), ToolCall(name, {"text": "again"})))
        return Reply(f"{text} #{sample}" if sample else text)


class Served:
    """An endpoint that answers on `url`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        self._server = server(endpoint)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def http(self, key: str = "k", **options: Any) -> httpx.Client:
        root = self.url.removesuffix("/v1")
        return httpx.Client(base_url=root, headers={"Authorization": f"Bearer {key}"}, **options)


@pytest.fixture
def serve() -> Iterator[Callable[[Endpoint], Served]]:
    """Start endpoints; all are stopped at the end."""
    started: list[Served] = []

    def start(endpoint: Endpoint) -> Served:
        started.append(Served(endpoint))
        return started[-1]

    yield start
    for served in started:
        served.stop()


@pytest.fixture(scope="session")
def _shared_echo() -> Iterator[Served]:
    served = Served(Endpoint(Echo()))
    yield served
    served.stop()


@pytest.fixture
def echo(_shared_echo: Served) -> Served:
    """An endpoint in front of Echo, with empty accounts."""
    for account in list(_shared_echo.endpoint.accounts._of.values()):
        account.reset()
        account.profiles.clear()
    return _shared_echo
