"""Requests per second of the endpoint on one core: the simulator against a constant answer.

The load comes from another process on another core: requests of `Triage` with eight demos each. The limit is
for the desk's 160 tickets, each asked about again and again, as optimizers and evaluations do; how it fares
when no two requests are alike is printed beside it.
A second here is a second of the server's processor time, so that other work on the machine does not count.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from bench.ratio import paired, report
from course_lib.lm.reply import Reply

REQUESTS = 800
CONNECTIONS = 8
ROUNDS = 7
AT_LEAST = 0.5


def constant(_body: Mapping[str, Any], *, sample: int) -> Reply:  # noqa: ARG001
    """Answer the same to everything: an engine that does not think."""
    return Reply("[[ ## category ## ]]\nshipping\n\n[[ ## urgency ## ]]\nnormal\n\n[[ ## completed ## ]]")


def bodies(begin: int, *, distinct: bool) -> list[bytes]:
    """Return REQUESTS requests as `Triage` sends them, with eight demos; `distinct`: no two are alike."""
    import dspy

    from course_lib import desk
    from course_lib.desk.programs import SortTicket

    demos, tickets = desk.examples("train")[:8], desk.tickets()
    made = []
    for number in range(begin, begin + REQUESTS):
        text = tickets[number % len(tickets)].text + (f" (message {number})" if distinct else "")
        messages = dspy.ChatAdapter().format(SortTicket, demos, {"ticket": text})
        made.append(json.dumps({"model": "sim-large", "messages": messages}).encode())
    return made


def pin(core: int) -> None:
    """Keep this process on one core, where the system allows it."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


def serve(engine: str, fd: int) -> None:
    """Serve one engine on an inherited socket; the server's own main."""
    from course_lib.lm.endpoint.running import server
    from course_lib.lm.endpoint.server import Endpoint
    from course_lib.lm.simulator.engine import answer

    def tell() -> None:
        for _ in sys.stdin:
            print(time.process_time(), flush=True)

    pin(0)
    threading.Thread(target=tell, daemon=True).start()
    listener = socket.socket(fileno=fd)
    server(Endpoint(constant if engine == "constant" else answer)).run(sockets=[listener])


def load(port: int, begin: int, *, distinct: bool) -> None:
    """Send REQUESTS over CONNECTIONS kept open; the load generator's own main."""
    import selectors

    pin(1)
    selector = selectors.DefaultSelector()
    waiting = [
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer bench\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(raw), raw)
        for raw in bodies(begin, distinct=distinct)
    ]
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]
    received = {}
    for connection in sockets:
        connection.sendall(waiting.pop())
        received[connection] = b""
        selector.register(connection, selectors.EVENT_READ)
    done = 0
    while done < REQUESTS:
        for key, _ in selector.select():
            connection = key.fileobj
            received[connection] += connection.recv(65536)
            head, _, rest = received[connection].partition(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]) if rest else -1
            if len(rest) == size:
                assert head.startswith(b"HTTP/1.1 200"), head
                received[connection] = b""
                done += 1
                if waiting:
                    connection.sendall(waiting.pop())


class Server:
    """A server process under load."""

    def __init__(self, engine: str, *, distinct: bool) -> None:
        self._distinct = distinct
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            self.port = listener.getsockname()[1]
            fd = listener.fileno()
            code = f"from bench.bench_endpoint import serve; serve({engine!r}, {fd})"
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                [sys.executable, "-c", code], pass_fds=[fd], stdin=pipe, stdout=pipe, text=True
            )
        self._sent = 0

    def requests_per_s(self) -> float:
        """Put the server under load once; returns requests per second of its processor time."""
        before_s = self._busy_s()
        call = f"load({self.port}, {self._sent}, distinct={self._distinct})"
        code = f"from bench.bench_endpoint import load; {call}"
        subprocess.run([sys.executable, "-c", code], check=True)
        self._sent += REQUESTS
        return REQUESTS / (self._busy_s() - before_s)

    def _busy_s(self) -> float:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def stop(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.communicate()


def compare(name: str, *, distinct: bool, at_least: float | None) -> bool:
    """Put both servers under the same load in turn and report the ratio."""
    simulator, constant = Server("simulator", distinct=distinct), Server("constant", distinct=distinct)
    try:
        ratio = paired(simulator.requests_per_s, constant.requests_per_s, rounds=ROUNDS)
    finally:
        simulator.stop()
        constant.stop()
    return report(name, ratio, unit="requests/s", at_least=at_least)


def main() -> bool:
    compare("endpoint, simulator to constant answer, no two alike", distinct=True, at_least=None)
    return compare("endpoint, simulator to constant answer", distinct=False, at_least=AT_LEAST)
