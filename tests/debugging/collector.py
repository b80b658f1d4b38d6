"""A collector on loopback that takes what it is sent, is slow, refuses, or never answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector(ThreadingHTTPServer):
    """Keeps the names of the spans that it took."""

    daemon_threads = True

    def __init__(self, *, status: int = 200, wait_s: float = 0.0) -> None:
        self.status, self.wait_s = status, wait_s
        self.names: list[str] = []
        self.services: set[str] = set()
        self.headers: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        time.sleep(self.server.wait_s)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.server.status == 200:
            asked = ExportTraceServiceRequest.FromString(body)
            for each in asked.resource_spans:
                self.server.services |= {
                    a.value.string_value for a in each.resource.attributes if a.key == "service.name"
                }
                self.server.names += [span.name for scope in each.scope_spans for span in scope.spans]
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def collecting(**options: float) -> Iterator[Collector]:
    collector = Collector(**options)  # type: ignore[arg-type]
    thread = threading.Thread(target=collector.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield collector
    finally:
        collector.shutdown()
        collector.server_close()
        thread.join()
