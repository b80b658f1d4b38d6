"""The endpoint's own process: the simulator behind the application, uvicorn around it.

Main path: run(listener) serves until it is told to stop.
The faults close the transport under uvicorn's protocol (services/web.py).
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import uvicorn

from course_lib.lm.encoder import computed
from course_lib.lm.endpoint.replaying import Replay, Tapes
from course_lib.lm.endpoint.routes import app
from course_lib.lm.endpoint.server import FAST_S, Endpoint
from course_lib.lm.recordings import Recorded
from course_lib.lm.reply import Reply, SlowError
from course_lib.lm.simulator.engine import answer, forget
from course_lib.services.web import BoundedProtocol

_MOST_CONNECTIONS = 2_000
_KEEP_ALIVE_S = 3600  # closing idle connections races with clients that reuse them


class _Protocol(BoundedProtocol):
    """Shows its transport to the application."""

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


def run(
    listener: socket.socket,
    *,
    write: Callable[[bytes], None] | None = None,
    replay: Sequence[Recorded] | None = None,
    **options: Any,
) -> None:
    """Serve the simulator on `listener` until a signal ends it; the options are Endpoint's.

    Every exchange is given to `write` as a line of a recording; `replay` is what to answer from instead.
    """
    signal.signal(signal.SIGVTALRM, _interrupt)
    quick = partial(simulate, within_s=FAST_S)
    tapes = Tapes(write, None if replay is None else Replay(replay))
    server(Endpoint(quick, patient=simulate, tapes=tapes, **options)).run(sockets=[listener])


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
