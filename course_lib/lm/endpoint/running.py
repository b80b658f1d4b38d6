"""The endpoint's own process: the simulator behind the application, uvicorn around it.

Main path: run(listener) serves until it is told to stop.
Source: uvicorn's HttpToolsProtocol (0.40 to 0.54), whose transport the faults close.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Collection, Mapping
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from course_lib.lm.endpoint.routes import app
from course_lib.lm.endpoint.server import Endpoint
from course_lib.lm.endpoint.wire import ApiError
from course_lib.lm.reply import Reply
from course_lib.lm.simulator.engine import answer, forget

_MOST_CONNECTIONS = 2_000
_KEEP_ALIVE_S = 3600  # closing idle connections races with clients that reuse them


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, showing its transport to the application."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["course.transport"] = self.transport  # type: ignore[typeddict-unknown-key]


MAX_S = 0.35
"""Seconds of processor time that one answer may take, since others wait meanwhile."""
MAX_CACHED_CHARS = 20_000_000
_state = {"is_thinking": False, "cached_chars": 0}


class _TooLongError(BaseException):
    """An answer takes too long. Not an Exception, so that nothing in the simulator takes it for its own."""


def _interrupt(*_: object) -> None:
    if _state["is_thinking"]:
        raise _TooLongError


def simulate(body: Mapping[str, Any], /, *, sample: int) -> Reply:
    """Answer with the simulator, in bounded time and memory; needs the process's main thread.

    Raises:
        ApiError: 400 when the answer takes longer than MAX_S.
    """
    _state["cached_chars"] += sum(len(str(message.get("content"))) for message in body["messages"])
    if _state["cached_chars"] > MAX_CACHED_CHARS:
        _state["cached_chars"] = 0
        forget()
    signal.setitimer(signal.ITIMER_VIRTUAL, MAX_S)
    _state["is_thinking"] = True
    try:
        return answer(body, sample=sample)
    except _TooLongError:
        message = f"the simulator cannot answer this within {MAX_S} s; make the request smaller"
        raise ApiError(400, "request_too_large", message) from None
    finally:
        _state["is_thinking"] = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def run(listener: socket.socket, *, keys: Collection[str] = (), owner: str = "") -> None:
    """Serve the simulator on `listener` until a signal ends it; `keys` and `owner` as for Endpoint."""
    signal.signal(signal.SIGVTALRM, _interrupt)
    server(Endpoint(simulate, keys=keys, owner=owner)).run(sockets=[listener])


def server(endpoint: Endpoint) -> uvicorn.Server:
    """Return uvicorn set up around `endpoint`, not yet running."""
    config = uvicorn.Config(
        app(endpoint),
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)
