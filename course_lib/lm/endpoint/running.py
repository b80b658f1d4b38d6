"""The endpoint's own process: the simulator behind the application, uvicorn around it.

Main path: run(listener) serves until it is told to stop.
Source: uvicorn's HttpToolsProtocol (0.40 to 0.54), whose transport the faults close.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from course_lib.lm.encoder import computed
from course_lib.lm.endpoint.routes import app
from course_lib.lm.endpoint.server import FAST_S, Endpoint
from course_lib.lm.reply import Reply, SlowError
from course_lib.lm.simulator.engine import answer, forget

_MOST_CONNECTIONS = 2_000
_MAX_HEAD_BYTES = 64 * 1024
_MAX_PIPELINED = 100
_KEEP_ALIVE_S = 3600  # closing idle connections races with clients that reuse them


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, showing its transport to the application, in bounded memory."""

    _head_bytes: int | None = 0  # of the request whose head is being read

    def data_received(self, data: bytes) -> None:
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if (self._head_bytes or 0) > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The headers are larger than {_MAX_HEAD_BYTES >> 10} KB; send fewer.")
        if len(self.pipeline) > _MAX_PIPELINED:
            self.transport.close()  # requests that are sent ahead without end

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self.scope["course.transport"] = self.transport  # type: ignore[typeddict-unknown-key]

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        super().on_headers_complete()


MAX_S = 0.35
"""Seconds of processor time that one answer may take, since others wait meanwhile."""
MAX_CACHED_CHARS = 20_000_000
_state = {"is_thinking": False, "cached_chars": 0}


class _TooLongError(BaseException):
    """An answer takes too long. Not an Exception, so that nothing in the simulator takes it for its own."""


def _interrupt(*_: object) -> None:
    if _state["is_thinking"]:
        raise _TooLongError


def simulate(body: Mapping[str, Any], /, *, sample: int, within_s: float = MAX_S) -> Reply:
    """Answer with the simulator, in bounded time and memory; needs the process's main thread.

    Raises:
        SlowError: when the answer takes more processor time than `within_s`.
    """
    _state["cached_chars"] += sum(len(str(message.get("content"))) for message in body["messages"])
    if _state["cached_chars"] > MAX_CACHED_CHARS:
        _state["cached_chars"] = 0
        forget()
    before = computed()
    signal.setitimer(signal.ITIMER_VIRTUAL, within_s)
    _state["is_thinking"] = True
    try:
        return answer(body, sample=sample)
    except _TooLongError:
        message = f"the simulator cannot answer this within {within_s} s; make the request smaller"
        raise SlowError(message, gets_further=computed() > before) from None
    finally:
        _state["is_thinking"] = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def run(listener: socket.socket, *, keys: Collection[str] = (), owner: str = "") -> None:
    """Serve the simulator on `listener` until a signal ends it; `keys` and `owner` as for Endpoint."""
    signal.signal(signal.SIGVTALRM, _interrupt)
    quick = partial(simulate, within_s=FAST_S)
    server(Endpoint(quick, patient=simulate, keys=keys, owner=owner)).run(sockets=[listener])


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
