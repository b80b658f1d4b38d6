"""A collector on loopback that takes what it is sent, is slow, refuses, or never answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector(ThreadingHTTPServer):
    """Keeps the names of the spans that it took."""

    daemon_threads = True

    def __init__(
        self,
        *,
        status: int = 200,
        wait_s: float = 0.0,
        answer_bytes: int = 0,
        keeps_alive: bool = False,
        answer: bytes = b"",
        kind: str = "application/x-protobuf",
    ) -> None:
        self.answer, self.kind = answer, kind
        self.status, self.wait_s, self.answer_bytes = status, wait_s, answer_bytes
        self.ports: list[int] = []
        """From which each request came."""
        self.paths: list[str] = []
        self.names: list[str] = []
        self.services: set[str] = set()
        self.headers: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _KeepsAlive if keeps_alive else _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        time.sleep(self.server.wait_s)
        self.server.ports.append(self.client_address[1])
        self.server.paths.append(self.path)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if self.server.status == 200:
            asked = ExportTraceServiceRequest.FromString(body)
            for each in asked.resource_spans:
                self.server.services |= {
                    a.value.string_value for a in each.resource.attributes if a.key == "service.name"
                }
                self.server.names += [span.name for scope in each.scope_spans for span in scope.spans]
        self.send_response(self.server.status)
        self.send_header("content-length", str(self.server.answer_bytes or len(self.server.answer)))
        self.send_header("content-type", self.server.kind)
        self.send_header("location", "http://127.0.0.1:9")
        self.end_headers()
        with suppress(OSError):  # who asked has enough
            self.wfile.write(self.server.answer)
            for _ in range(self.server.answer_bytes // 1_000):
                self.wfile.write(b"a" * 1_000)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _KeepsAlive(_Handler):
    protocol_version = "HTTP/1.1"


@contextmanager
def collecting(**options: Any) -> Iterator[Collector]:
    collector = Collector(**options)
    thread = threading.Thread(target=collector.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield collector
    finally:
        collector.shutdown()
        collector.server_close()
        thread.join()
