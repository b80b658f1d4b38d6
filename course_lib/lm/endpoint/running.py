"""The endpoint's own process: the simulator behind the application, uvicorn around it.

Main path: run(listener) serves until it is told to stop.
Source: uvicorn's HttpToolsProtocol (0.40 to 0.54), whose transport the faults close.
"""

from __future__ import annotations

import socket
from collections.abc import Collection

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from course_lib.lm.endpoint.routes import app
from course_lib.lm.endpoint.server import Endpoint
from course_lib.lm.simulator.engine import answer

_KEEP_ALIVE_S = 3600  # closing idle connections races with clients that reuse them


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, showing its transport to the application."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["course.transport"] = self.transport  # type: ignore[typeddict-unknown-key]


def run(listener: socket.socket, *, keys: Collection[str] = (), owner: str = "") -> None:
    """Serve the simulator on `listener` until a signal ends it; `keys` and `owner` as for Endpoint."""
    server(Endpoint(answer, keys=keys, owner=owner)).run(sockets=[listener])


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
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)
