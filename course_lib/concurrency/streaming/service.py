"""Streams for a browser: server-sent events that can be resumed, a WebSocket chat, and a page that shows both.

Main path: `app = streaming_app(program)`, then `service = serve(app)` and open service.url; service.close().
GET / is the page; GET /stream?question=... answers with server-sent events; /chat is the WebSocket.

An id is `<stream>.<number>`. A reader who comes back with it as `Last-Event-ID`, as browsers do by themselves,
gets what came after it, from the same run. When nobody comes back in time the run is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import dspy
import uvicorn
from dspy.streaming import StatusMessageProvider
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from course_lib.concurrency.streaming.events import Event, Final, as_json, error_of, kind_of
from course_lib.concurrency.streaming.listening import Asked, Run
from course_lib.concurrency.streaming.stream import Stream

PAGE = Path(__file__).parent / "page.html"
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'"
}
RETRY_MS = 500
LONGEST_INPUT = 8_000
MOST_TURNS = 20
_STOP_WITHIN_S = 5


@dataclass(frozen=True, slots=True)
class Refused(Exception):  # noqa: N818  (it is answered, not raised to anybody)
    """A request that gets no stream."""

    status: int
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long and how many."""

    heartbeat_s: float = 10.0
    grace_s: float = 5.0
    """How long a run goes on without a reader, so that one whose connection broke finds it again."""
    kept_s: float = 60.0
    """How long the events of a finished run are kept."""
    most_streams: int = 200
    """Streams at once, finished ones that are kept included; more are refused with 503."""


class Streams:
    """The streams of one app, and what it needs to begin one."""

    def __init__(self, program: dspy.Module, asked: Asked, inputs: Sequence[str], limits: Limits) -> None:
        asked.listeners(program)  # a field that does not exist is told now
        self.program, self.asked, self.names, self.limits = program, asked, tuple(inputs), limits
        self._streams: dict[str, Stream] = {}

    def open(self, given: Mapping[str, Any], **more: Any) -> Stream:
        """Return a new stream for the inputs of a request.

        Raises:
            Refused: there are too many, or an input is missing, unknown or too long.
        """
        if len(self._streams) >= self.limits.most_streams:
            raise Refused(503, "busy", "Too many answers are under way; try again in a moment.")
        if set(given) != set(self.names):
            raise Refused(400, "inputs", f"A request has these inputs, each once: {', '.join(self.names)}.")
        if any(not isinstance(value, str) or len(value) > LONGEST_INPUT for value in given.values()):
            raise Refused(400, "inputs", f"An input is text of at most {LONGEST_INPUT} characters.")
        run = Run(self.program, self.asked, {**given, **more})
        opened = Stream(run, grace_s=self.limits.grace_s, on_end=self._let_go)
        self._streams[opened.id] = opened
        return opened

    def find(self, event_id: str) -> tuple[Stream | None, int]:
        """Return the stream that an event belongs to, if it is kept, and the event's number."""
        stream_id, _, number = event_id.rpartition(".")
        return self._streams.get(stream_id), int(number) if number.isdecimal() else -1

    def end(self) -> None:
        """Cancel all runs, and tell their readers."""
        for one in list(self._streams.values()):
            one.end(error_of("closing"))

    def _let_go(self, ended: Stream) -> None:
        asyncio.get_running_loop().call_later(self.limits.kept_s, self._streams.pop, ended.id, None)


def streaming_app(
    program: dspy.Module,
    *,
    inputs: Sequence[str] = ("question",),
    fields: Sequence[str] = ("answer",),
    citations: str | None = None,
    status: StatusMessageProvider | None = None,
    history: str | None = None,
    limits: Limits | None = None,
    middleware: Sequence[Middleware] = (),
    hosts: Sequence[str] = ("127.0.0.1", "localhost"),
) -> Starlette:
    """Return an app that streams a program to browsers; fields, citations and status are those of stream().

    Args:
        program: what answers; it is shared by all requests.
        inputs: its inputs, which a request has to give.
        history: an input of type dspy.History that gets the earlier turns of a chat; None: it gets none.
        limits: how long and how many.
        middleware: whatever has to stand around a request: who asks, for which tenant.
        hosts: names under which the app may be asked for; pages of other origins are refused.
    """
    streams = Streams(program, Asked(fields, citations, status), inputs, limits or Limits())

    async def page(_: Request) -> Response:
        return HTMLResponse(PAGE.read_text("utf-8"), headers=PAGE_HEADERS)

    async def events(request: Request) -> Response:
        return answer_by_events(streams, request)

    async def chat(socket: WebSocket) -> None:
        await Chat(streams, socket, history).run()

    routes = [Route("/", page), Route("/stream", events), WebSocketRoute("/chat", chat)]
    own_host = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app = Starlette(routes=routes, middleware=[own_host, *middleware])
    app.state.streams = streams
    return app


def _is_from_elsewhere(connection: HTTPConnection) -> bool:
    """Whether a page of another site has sent this: a browser lets any page open sockets to loopback."""
    origin = connection.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != connection.headers.get("host")


# -- server-sent events ------------------------------------------------------------------------------------


def answer_by_events(streams: Streams, request: Request) -> Response:
    """Begin a stream, or go on with the one that `Last-Event-ID` names."""
    last = request.headers.get("last-event-id", "")
    try:
        if _is_from_elsewhere(request):
            raise Refused(403, "origin", "Only the service's own page may ask.")
        if last:
            found, after = streams.find(last)
        else:
            found, after = streams.open(dict(request.query_params)), 0
    except Refused as refused:
        headers = {"Retry-After": "1"} if refused.status == 503 else None  # noqa: PLR2004
        body = {"code": refused.code, "message": refused.message}
        return JSONResponse(body, refused.status, headers)
    return EventSourceResponse(_encoded(found, after, streams.limits), ping=0, sep="\n")


async def _encoded(found: Stream | None, after: int, limits: Limits) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(retry=RETRY_MS)
    if found is None:
        yield _server_sent(error_of("gone"))
        yield ServerSentEvent("{}", event="done")
        return
    async with contextlib.aclosing(found.follow(after, heartbeat_s=limits.heartbeat_s)) as events:
        async for number, event in events:
            yield _server_sent(event, f"{found.id}.{number}")


def _server_sent(event: Event, event_id: str | None = None) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(as_json(event)), event=kind_of(event), id=event_id)


# -- WebSocket ---------------------------------------------------------------------------------------------


class Chat:
    """One connection: the client sends {"question": ...} or {"stop": true}; events go back, as JSON.

    A question that comes while an answer is written ends that answer. So does the end of the connection.
    """

    def __init__(self, streams: Streams, socket: WebSocket, history: str | None) -> None:
        self._streams, self._socket, self._history = streams, socket, history
        self._turns: list[dict[str, Any]] = []
        self._answering: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Take questions until the client leaves."""
        if _is_from_elsewhere(self._socket):
            await self._socket.close()  # before it is accepted: the handshake is refused
            return
        await self._socket.accept()
        try:
            while True:
                asked = _object(await self._socket.receive_text())
                await self._stop()
                if asked is None or "stop" not in asked:
                    self._answering = asyncio.create_task(self._answer(asked or {}))
        except (WebSocketDisconnect, KeyError):  # KeyError: a message that is not text
            pass
        finally:
            await self._stop()

    async def _answer(self, asked: dict[str, Any]) -> None:
        """Send the events of one answer; a finished one is part of the next question's history."""
        earlier = {self._history: dspy.History(messages=self._turns)} if self._history else {}
        try:
            opened = self._streams.open(asked, **earlier)
        except Refused as refused:
            await self._send("error", {"code": refused.code, "message": refused.message})
            await self._send("done", {})
            return
        async with opened:
            async for _, event in opened.follow(heartbeat_s=self._streams.limits.heartbeat_s):
                await self._send(kind_of(event), as_json(event))
                if isinstance(event, Final):
                    self._turns = [*self._turns, {**asked, **event.fields}][-MOST_TURNS:]

    async def _send(self, kind: str, data: dict[str, Any]) -> None:
        await self._socket.send_json({"event": kind, **data})

    async def _stop(self) -> None:
        """End the answer that is being written."""
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.wait([self._answering])
            if not self._answering.cancelled():
                self._answering.exception()  # the client had left: there is nobody to tell
            self._answering = None


def _object(text: str) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        return value if isinstance(value, dict) else None
    return None


# -- in a notebook -----------------------------------------------------------------------------------------


def serve(app: Starlette) -> Service:
    """Serve an app of streaming_app() on a free port of loopback, in a thread of this process.

    Its requests see the context of this place: `dspy.context`, the tenant. It ends with the process, if
    close() did not end it before.
    """
    return Service(app)


class Service:
    """A served app; in a notebook it shows itself as a link and the page."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._listener = socket.create_server(("127.0.0.1", 0))  # callers are queued until the thread is there
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        options: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off"}
        config = uvicorn.Config(
            app, ws="websockets-sansio", timeout_graceful_shutdown=_STOP_WITHIN_S, loop="asyncio", **options
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name="streaming", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Service({self.url!r}, {'serving' if self._thread.is_alive() else 'closed'})"

    def _repr_html_(self) -> str:
        link = f'<a href="{self.url}" target="_blank" rel="noopener">Open {self.url} in a tab of its own</a>'
        return f'{link}<iframe src="{self.url}" title="Streams" style="width:100%;height:30em"></iframe>'

    def close(self) -> None:
        """Tell all readers, cancel all runs, and wait until the thread has ended."""
        self._server.should_exit = True
        self._thread.join()

    def _run(self) -> None:
        with self._listener:
            asyncio.run(self._until_closed())

    async def _until_closed(self) -> None:
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.should_exit:
            await asyncio.wait([serving], timeout=0.1)
        self._app.state.streams.end()
        await serving
