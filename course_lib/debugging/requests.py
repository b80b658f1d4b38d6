"""A server's side of a trace: each request that it answers is a span, in the trace of whoever asked.

Main path: app.add_middleware(TracedRequests, tracer=tracer), for Starlette and FastAPI.
Source: OpenTelemetry's HTTP conventions. A span is named by route, never by the path, which may hold names.
"""

from __future__ import annotations

from http import HTTPMethod

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
            except Exception:  # what the server around this makes of it
                span.set_attribute("http.response.status_code", 500)
                raise
            finally:
                if route := getattr(scope.get("route"), "path", None):
                    span.name = f"{method} {route}"
                    span.set_attribute("http.route", route)


_METHODS = frozenset([*HTTPMethod, "WEBSOCKET"])
