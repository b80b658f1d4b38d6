"""Streams for a browser: server-sent events that can be resumed, a WebSocket chat, a page that shows both.

Main path: `app = streaming_app(program)`, then `service = serve(app)` and open service.url; service.close().
GET / is the page; GET /stream?question=... answers with server-sent events; /chat is the WebSocket.

An event's id is `<stream>.<number>`. A reader who comes back with it as `Last-Event-ID`, as browsers do by
themselves, gets what came after it, from the same run. If nobody comes back in time the run is cancelled.
What a request gets wrong is told by an event too: an EventSource cannot read the body of a 400.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any, Self

import dspy
import uvicorn
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from course_lib.concurrency import tasks
from course_lib.concurrency.streaming.events import Done, Event, Final, as_json, error_of, failure, kind_of
from course_lib.concurrency.streaming.run import Run
from course_lib.concurrency.streaming.streams import Stream
from course_lib.services.web import BoundedProtocol, is_own

LONGEST_INPUT = 8_000
MOST_TURNS = 20
_PAGE = Path(__file__).parent / "page.html"
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'"
}
_RETRY_MS = 500
_STOP_WITHIN_S = 5
_MOST_CONNECTIONS, _BACKLOG = 2_000, 64


def streaming_app(
    program: dspy.Module,
    *,
    inputs: Sequence[str] = ("question",),
    history: str | None = None,
    heartbeat_s: float = 10.0,
    grace_s: float = 5.0,
    most_streams: int = 200,
    **shown: Any,
) -> Starlette:
    """Return an app that streams a program, which all requests share, to browsers.

    Args:
        program: what answers. A middleware may say for which tenant: `app.add_middleware(...)`. It does not
            guard a run that has begun: whoever knows an event's id can read its stream, whatever the tenant.
        inputs: the inputs that a request has to give.
        history: an input of type dspy.History that gets the earlier turns of a chat; None: it gets none.
        heartbeat_s: so long a reader hears nothing before a Heartbeat.
        grace_s: so long a run goes on without a reader, so that one whose connection broke finds it again.
        most_streams: runs at once, more are refused; and how many finished ones are kept for such readers.
        shown: `fields`, `citations` and `status`, as stream() has them.
    """
    html = _PAGE.read_text("utf-8")
    Run(program, {}, **shown)  # a field that does not exist is told now
    streams = Registry(lambda given: Run(program, given, **shown), inputs, grace_s=grace_s, most=most_streams)

    async def page(_: Request) -> Response:
        return HTMLResponse(html, headers=_PAGE_HEADERS)

    async def events(request: Request) -> Response:
        if request.method == "HEAD":  # Starlette's GET includes it
            return Response(media_type="text/event-stream")
        last = request.headers.get("last-event-id")
        given = _once(request.query_params.multi_items())
        found, after = streams.find(last) if last else (streams.open(given), 0)
        return EventSourceResponse(_server_sent(found, after, heartbeat_s), ping=0, sep="\n")

    async def chat(connection: WebSocket) -> None:
        await _Chat(streams, connection, history, heartbeat_s).run()

    routes = [Route("/", page), Route("/stream", events), WebSocketRoute("/chat", chat)]
    app = Starlette(routes=routes, middleware=[Middleware(_OwnPage)])
    app.state.streams = streams
    return app


class _OwnPage:
    """Lets only programs and the app's own page ask; the page itself goes to all, such as a notebook."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or is_own(scope, is_page=scope["path"] == "/"):
            await self._app(scope, receive, send)
        else:
            await PlainTextResponse("Only the service's own page may ask.", 403)(scope, receive, send)


class Registry:
    """The streams of one app that are under way, or ended a short time ago."""

    def __init__(
        self, make: Callable[[dict[str, Any]], Run], inputs: Sequence[str], *, grace_s: float, most: int
    ) -> None:
        self._make, self._inputs, self._grace_s, self._most = make, tuple(inputs), grace_s, most
        self._streams: dict[str, Stream] = {}

    def open(self, given: dict[str, Any], more: Mapping[str, Any] | None = None) -> Stream:
        """Return a new stream for the inputs of a request, and more; it may consist of an error."""
        ended = [one.id for one in self._streams.values() if one.has_ended]
        for stream_id in ended[: -self._most]:  # the oldest
            del self._streams[stream_id]
        if len(self._streams) - len(ended) >= self._most:
            return _refused("busy", retry_after_s=1.0)
        are_texts = all(isinstance(text, str) and len(text) <= LONGEST_INPUT for text in given.values())
        if set(given) != set(self._inputs) or not are_texts:
            return _refused("inputs")
        opened = Stream(self._make({**given, **(more or {})}), grace_s=self._grace_s)
        self._streams[opened.id] = opened
        opened.begin()
        return opened

    def find(self, event_id: str) -> tuple[Stream, int]:
        """Return the stream that an event belongs to, and the event's number."""
        stream_id, _, number = event_id.rpartition(".")
        if stream_id not in self._streams or len(number) > 18 or not number.isdecimal():
            return _refused("gone"), 0
        return self._streams[stream_id], int(number)

    def end(self) -> None:
        """Cancel all runs, and tell their readers."""
        for one in list(self._streams.values()):
            one.end(error_of("closing"))


def _refused(code: str, **details: Any) -> Stream:
    refused = Stream(None)
    refused.end(error_of(code, **details))
    return refused


async def _server_sent(found: Stream, after: int, heartbeat_s: float) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(retry=_RETRY_MS)
    async with aclosing(found.follow(after, heartbeat_s=heartbeat_s)) as events:
        async for number, event in events:
            data = json.dumps(as_json(event))
            yield ServerSentEvent(data, event=kind_of(event), id=f"{found.id}.{number}")


class _Chat:
    """One WebSocket: the client sends {"question": ...} or {"stop": true}; events go back, as JSON.

    A message that comes while an answer is written ends that answer. So does the end of the connection.
    """

    def __init__(
        self, streams: Registry, connection: WebSocket, history: str | None, heartbeat_s: float
    ) -> None:
        self._streams, self._connection, self._history = streams, connection, history
        self._heartbeat_s = heartbeat_s
        self._turns: list[dict[str, Any]] = []
        self._answering: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Take questions until the client leaves."""
        await self._connection.accept()
        try:
            async for text in self._connection.iter_text():
                await self._stop()
                asked = _object(text)
                if asked.get("stop") is not True:
                    self._answering = asyncio.create_task(self._answer(asked))
        except KeyError:
            pass  # Starlette's word for a message that is not text
        finally:
            await self._stop()

    async def _answer(self, asked: dict[str, Any]) -> None:
        """Send the events of one answer; a finished one is a turn of the next question's history."""
        with suppress(WebSocketDisconnect, RuntimeError):  # the client has left
            try:
                await self._send_all(asked)
            except WebSocketDisconnect:
                raise
            except Exception as error:  # border: every failure becomes an event
                for event in (failure(error, {}), Done()):
                    await self._send(event)

    async def _send_all(self, asked: dict[str, Any]) -> None:
        earlier = {self._history: dspy.History(messages=self._turns)} if self._history else {}
        opened = self._streams.open(asked, earlier)
        async with opened, aclosing(opened.follow(heartbeat_s=self._heartbeat_s)) as events:
            async for _, event in events:
                await self._send(event)
                if isinstance(event, Final):
                    turn = json.dumps({**asked, **as_json(event)["fields"]}, ensure_ascii=False)
                    sendable = turn.encode(errors="replace")  # half a character, too, goes to the model
                    self._turns = [*self._turns, json.loads(sendable)][-MOST_TURNS:]

    async def _send(self, event: Event) -> None:
        await self._connection.send_text(json.dumps({"event": kind_of(event), **as_json(event)}))

    async def _stop(self) -> None:
        """End the answer that is being written, if there is one."""
        if self._answering is not None:
            await tasks.end(self._answering)
            self._answering = None


def _object(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        if isinstance(value := json.loads(text, object_pairs_hook=_once), dict):
            return value
    return {}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return what a request gives; if a name comes twice, with values that open() refuses."""
    given = dict(pairs)
    return given if len(given) == len(pairs) else dict.fromkeys(given)


def serve(app: Starlette) -> Service:
    """Serve an app, such as that of streaming_app(), on a free port of loopback, in a thread of this process.

    Its requests see the context of this place: `dspy.context`, the tenant. It ends with the process, if
    close() did not end it before.
    """
    return Service(app)


class Service:
    """A served app; in a notebook it shows itself as a link and the page."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._listener = socket.create_server(("127.0.0.1", 0))  # callers are queued until the thread is up
        # asyncio does it only for sockets that it made; without it each answer waits 40 ms for an ACK.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        options: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off"}
        options |= {"ws": "websockets-sansio", "ws_max_size": 8 * LONGEST_INPUT}
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # half of them are the rest of the process's
        options |= {"http": BoundedProtocol, "limit_concurrency": min(_MOST_CONNECTIONS, files // 2)}
        options["backlog"] = _BACKLOG  # so many are accepted at once
        self._server = uvicorn.Server(
            uvicorn.Config(app, timeout_graceful_shutdown=_STOP_WITHIN_S, **options)
        )
        run = partial(copy_context().run, asyncio.run, self._serve())
        self._thread = threading.Thread(target=run, name="streaming", daemon=True)
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

    async def _serve(self) -> None:
        with self._listener:
            serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
            while not (self._server.should_exit or serving.done()):
                await asyncio.wait([serving], timeout=0.1)
            if streams := getattr(self._app.state, "streams", None):  # an app of streaming_app()
                streams.end()
            await serving
