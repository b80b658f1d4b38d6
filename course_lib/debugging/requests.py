"""A server's side of a trace: each request that it answers is a span, in the trace of whoever asked.

Main path: app.add_middleware(TracedRequests, tracer=tracer), for Starlette and FastAPI.
Source: OpenTelemetry's HTTP conventions; the scope of Starlette 1.10 and FastAPI 0.165. A span is named by
route, never by the path, which may hold names.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPMethod
from typing import Any

from opentelemetry.trace import SpanKind
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from course_lib.debugging.tracer import Tracer


class TracedRequests:
    """ASGI middleware that opens a span for each HTTP request and WebSocket."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer within a span; what the program below does is in it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        method = scope.get("method", "WEBSOCKET")
        method = method if method in _METHODS else "HTTP"  # a client may send any word
        sent = next((value for name, value in scope["headers"] if name == b"traceparent"), None)
        app = scope.get("app", self._app)  # one that is mounted puts itself there
        of = {} if sent is None else {"traceparent": sent.decode("latin-1")}
        with self._tracer.span(method, of=of, kind=SpanKind.SERVER) as span:
            span.set_attribute("http.request.method", method)

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.error = f"status {message['status']}"
                await send(message)

            try:
                await self._app(scope, receive, sending)
            except Exception:  # what the server around this makes of it, unless an answer had begun
                span.attributes.setdefault("http.response.status_code", 500)
                raise
            finally:
                if route := _route_of(scope, getattr(app, "routes", ())):
                    span.name = f"{method} {route}"
                    span.set_attribute("http.route", route)


def _route_of(scope: Scope, routes: Iterable[Any]) -> str | None:
    """Return the route by which a request was answered, with the prefixes of what it stands in; or None.

    A mounted application's own route begins behind the prefix, and so does that of a router that FastAPI
    includes, which keeps the whole in the request's scope.
    """
    found, included = scope.get("route"), scope.get("fastapi") or {}
    if found is None:
        return None
    waiting = [("", each) for each in routes]
    while waiting:
        above, each = waiting.pop()
        path = f"{above}{getattr(each, 'path', '')}"
        if each is found:
            return path
        if each is included.get("included_router"):
            return f"{above}{getattr(included.get('effective_route_context'), 'path_format', '')}"
        waiting += [(path, inner) for inner in getattr(each, "routes", None) or ()]
    return getattr(found, "path", None)


_METHODS = frozenset([*HTTPMethod, "WEBSOCKET"])
