"""Small servers on loopback that say exactly what a test wants, and remember what they were asked."""

from __future__ import annotations

import asyncio
import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from course_lib.adapters.data.api import Answer, APIAdapter

ENDED = threading.Event()
"""Set at the end of each test: whatever still hangs or says nothing may go."""


@dataclass
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Web:
    url: str
    port: int
    connections: int = 0
    asked: list[Asked] = field(default_factory=list)


def reply(body: bytes | str = "{}", status: str = "200 OK", **headers: str) -> list[bytes]:
    body = body.encode() if isinstance(body, str) else body
    fields = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return [f"HTTP/1.1 {status}\r\n{head}\r\n".encode(), body]


@contextmanager
def serving(answer: Callable[[Asked, int], Iterable[bytes]] = lambda *_: reply()) -> Iterator[Web]:
    """Serve on a free port; `answer` gets the request and its number (from 1), and gives the raw pieces."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            web.connections += 1
            with suppress(OSError, ValueError):  # the client left, or never spoke HTTP: it is counted
                method, target, _ = self.rfile.readline().decode().split()
                headers = dict(iter(lambda: self.rfile.readline().decode().strip().split(": ", 1), [""]))
                asked = Asked(method, target, {name.lower(): value for name, value in headers.items()})
                asked.body = self.rfile.read(int(asked.headers.get("content-length", 0)))
                web.asked.append(asked)
                self.wfile.writelines(answer(asked, len(web.asked)))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server, ThreadPoolExecutor() as threads:
        port = server.server_address[1]
        web = Web(f"http://127.0.0.1:{port}", port)
        threads.submit(server.serve_forever, 0.02)
        try:
            yield web
        finally:
            server.shutdown()


def adapter(web: Web, spec: Any = None, **options: Any) -> APIAdapter:
    """Return an adapter that may reach this server."""
    return APIAdapter(web.url, spec, **{"allow_private": [web.url], **options})


def get(api: APIAdapter, target: str = "/x") -> Answer:
    return asyncio.run(api.request("GET", target))
