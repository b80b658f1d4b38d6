"""The service on one core beside the same server returning a constant, and beside its peers; same program.

The load comes from a client of sockets in Python, in another process on another core, over 16 connections.
A second here is a second of the server's processor time, so that other work on the machine does not count.
Ours runs with all its guards: keys, quota by Redis, validation, redaction, caches, traces, metrics, audit and
history in PostgreSQL. MLflow's serving and dspy-cli are compared where they are installed: see service_peers.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import psutil

from bench.bench_endpoint import pin
from bench.ratio import paired, report
from bench.service_peers import PEERS
from course_lib.deployment.lean import leave_out

CONNECTIONS, REQUESTS, ROUNDS = 16, 1_500, 5
NEW, TELEMETRY_AT_LEAST, TELEMETRY_ROUNDS = 100, 0.95, 40
QUESTIONS = [f"What is {number} + {number}?" for number in range(32)]
REPEATED_AT_LEAST, PROGRAM_AT_LEAST = 0.60, 0.25
DIFFERENT_WITHIN_S, MEMORY_MB, ANSWERS = 1.3, 120.0, 10_000
KEY = "sk_bench_" + "0" * 64


def program() -> Any:
    """Return the program that all of them serve."""
    import dspy

    return dspy.ChainOfThought("question -> answer")


# -- the servers, each the main of a process -------------------------------------------------------------


def constant() -> Any:
    """Return the application that thinks of nothing."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.post("/v1/answers")
    async def answer() -> dict[str, Any]:
        return {"id": "1", "answer": "It is 4.", "version": "1", "cached": True}

    return app


def asyncify() -> Any:
    """Return a plain FastAPI over dspy.asyncify, as DSPy's documentation has it."""
    import dspy
    from fastapi import FastAPI
    from pydantic import create_model

    from course_lib import lm

    dspy.configure(lm=lm.connect(os.environ["BENCH_MODEL"]), async_max_workers=32)
    answering, app, asked_as = dspy.asyncify(program()), FastAPI(), create_model("Asked", question=(str, ...))

    async def answer(asked: Any) -> dict[str, Any]:
        return {"answer": (await answering(question=asked.question)).answer}

    answer.__annotations__ = {"asked": asked_as}
    app.post("/v1/answers")(answer)
    return app


def ours(*, caches_answers: bool = True, **settings: Any) -> Any:
    """Return the service with all its guards."""
    from course_lib.deployment import DeploymentConfig, create_app, programs
    from course_lib.deployment.remembered import remember

    remember(os.environ["BENCH_MODEL"])
    programs.SERVED["answer"] = programs.Served(program, "question", ("answer",))
    app = create_app(DeploymentConfig(**settings))
    if not caches_answers:
        app.service.answering.found = lambda _: None  # type: ignore[method-assign]
    return app


def watched(share: float) -> Any:
    """Return the service with metrics and log, and the spans of this share of requests."""
    return ours(
        trace_share=share, records_folder=tempfile.mkdtemp(dir=Path(os.environ["DSPY_CACHEDIR"]).parent)
    )


def _production_share() -> float:
    from course_lib.deployment import DeploymentConfig

    return float(DeploymentConfig.model_fields["trace_share"].default)


def unwatched() -> Any:
    """Return the service without traces, metrics and log."""
    app = ours()
    guard, answering = app._asgi, app.service.answering  # noqa: SLF001  (no setting takes them away)
    guard._traced, guard._count = guard._inside, lambda *_: None  # noqa: SLF001
    answering._listeners = ()  # noqa: SLF001
    return app


APPS = {
    "constant": constant,
    "asyncify": asyncify,
    "repeated": ours,
    "program": lambda: ours(caches_answers=False),
    "watched": lambda: watched(_production_share()),
    "traced": lambda: watched(1.0),
    "unwatched": unwatched,
    **{kind: peer.make for kind, peer in PEERS.items()},
}


def title(kind: str) -> str:
    """Return the name of a peer."""
    return PEERS[kind].name if kind in PEERS else "FastAPI over dspy.asyncify"


def asked_of(kind: str) -> tuple[str, Callable[[str], Any]]:
    """Return the path of a server, and what gives the body for a question."""
    peer = PEERS.get(kind)
    return (peer.path, peer.body) if peer else ("/v1/answers", lambda text: {"question": text})


def serve(kind: str, fd: int) -> None:
    """Serve one of them on an inherited socket, and tell how long it was busy; the process's main."""
    import uvicorn

    def tell() -> None:
        for _ in sys.stdin:
            size = psutil.Process().memory_full_info()
            print(time.process_time(), getattr(size, "pss", size.rss), size.rss, flush=True)

    pin(0)
    leave_out()  # as in a replica of the stack
    threading.Thread(target=tell, daemon=True).start()
    options: dict[str, Any] = {"log_level": "error", "access_log": False, "proxy_headers": False}
    app = APPS[kind]()
    config = uvicorn.Config(app, http="httptools", loop="uvloop", **options)
    server = uvicorn.Server(config)
    if hasattr(app, "service"):  # ours is served as a replica is
        from course_lib.deployment.replica import ReplicaServer

        server = ReplicaServer(config, app.service)
    server.run(sockets=[socket.socket(fileno=fd)])


# -- the load --------------------------------------------------------------------------------------------


def load(kind: str, port: int, count: int, begin: int) -> None:
    """Send `count` requests over connections kept open; the questions repeat unless `begin` is above 0."""
    import selectors

    pin(1)
    path, body_of = asked_of(kind)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
        f"X-API-Key: {KEY}\r\nContent-Type: application/json\r\nContent-Length: "
    )
    texts = [f"Is {begin + number} a number?" for number in range(count)] if begin else QUESTIONS
    bodies = [json.dumps(body_of(text)) for text in texts]
    requests = [f"{head}{len(body)}\r\n\r\n{body}".encode() for body in bodies]
    selector, received, sent, done = selectors.DefaultSelector(), dict[Any, bytes](), 0, 0
    for _ in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        selector.register(connection, selectors.EVENT_READ)
        connection.sendall(requests[sent % len(requests)])
        received[connection], sent = b"", sent + 1
    while done < count:
        for key, _ in selector.select():
            connection = key.fileobj
            received[connection] += connection.recv(65536)
            told, _, rest = received[connection].partition(b"\r\n\r\n")
            size = int(told.lower().split(b"content-length:")[1].split(b"\r\n")[0]) if rest else -1
            if len(rest) == size:
                assert told.startswith(b"HTTP/1.1 200"), received[connection]
                received[connection], done = b"", done + 1
                if sent < count:
                    connection.sendall(requests[sent % len(requests)])
                    sent += 1


class Server:
    """A server process under load."""

    asked: ClassVar[int] = 1_000_000

    def __init__(self, kind: str, environment: dict[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
            self.kind, self.port, fd, pipe = (
                kind,
                listener.getsockname()[1],
                listener.fileno(),
                subprocess.PIPE,
            )
            code = f"from bench.bench_service import serve; serve({kind!r}, {fd})"
            options: dict[str, Any] = {"stdin": pipe, "stdout": pipe, "text": True, "env": environment}
            self._process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[fd], **options)

    def send(self, count: int = REQUESTS, *, begin: int = 0) -> None:
        """Put it under load."""
        code = f"from bench.bench_service import load; load({self.kind!r}, {self.port}, {count}, {begin})"
        subprocess.run([sys.executable, "-c", code], check=True)

    def requests_per_s(self) -> float:
        """Put it under load once; returns requests per second of its processor time."""
        before_s = self.told()[0]
        self.send()
        return REQUESTS / (self.told()[0] - before_s)

    def new_per_s(self) -> float:
        """Put it under load with questions that nobody has asked; returns as requests_per_s()."""
        before_s, Server.asked = self.told()[0], Server.asked + NEW
        self.send(NEW, begin=Server.asked)
        return NEW / (self.told()[0] - before_s)

    def told(self) -> tuple[float, float, float]:
        """Return the seconds that it was busy, and the megabytes that it takes: its share, and in all.

        A page that several processes share, such as a library's code, counts for each in part in the share.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        busy_s, own, whole = self._process.stdout.readline().split()
        return float(busy_s), int(own) / 1e6, int(whole) / 1e6

    def different_s(self) -> float:
        """Return how long 32 different questions take together."""
        import httpx

        async def ask() -> float:
            async with httpx.AsyncClient(timeout=60, headers={"x-api-key": KEY}) as client:
                path, body_of = asked_of(self.kind)
                url = f"http://127.0.0.1:{self.port}{path}"
                await client.post(url, json=body_of("Is it warm?"))
                begun_s = time.perf_counter()
                asked = (client.post(url, json=body_of(f"{text} Really?")) for text in QUESTIONS)
                replies = await asyncio.gather(*asked)
                assert all(reply.status_code == 200 for reply in replies), [each.text for each in replies]
                return time.perf_counter() - begun_s

        return asyncio.run(ask())

    def stop(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.communicate()


@contextmanager
def serving(*kinds: str, model: str = "sim-large") -> Iterator[list[Server]]:
    """Start servers, each with a cache of its own."""
    import hashlib

    from course_lib import lm
    from course_lib.services import running_postgres, running_redis

    lm.connect()
    lm.profile("bench-1s", ttft_p50_ms=1000)
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    keys = [{"name": "bench", "tenant": "bench", "roles": ["ask"], "sha256": digest}]
    environment = {
        **os.environ,
        "COURSE_LM_URL": lm.url(),
        "COURSE_LM_KEY": lm.key(),
        "BENCH_MODEL": model,
        "REDIS_URL": running_redis().url,
        "DATABASE_URL": running_postgres().url,
        "COURSE_SERVICE_MODEL": model,
        "COURSE_SERVICE_API_KEYS": json.dumps(keys),
        "COURSE_SERVICE_SIGNING_KEY": os.urandom(24).hex(),
        "COURSE_SERVICE_REQUESTS_PER_MINUTE": "10000000",
        "COURSE_SERVICE_TOKENS_PER_DAY": "10000000000",
    }
    with tempfile.TemporaryDirectory() as folder:
        servers = [Server(kind, {**environment, "DSPY_CACHEDIR": str(Path(folder) / kind)}) for kind in kinds]
        try:
            yield servers
        finally:
            for server in servers:
                server.stop()


def speed(there: list[str]) -> bool:
    """Compare requests per second of processor time, each server with the constant."""
    holds = True
    with serving("constant", "repeated", "program", "asyncify", *there) as (still, repeated, through, *peers):
        for name, server, at_least in (
            ("a repeated question", repeated, REPEATED_AT_LEAST),
            ("through the program, from the model cache", through, PROGRAM_AT_LEAST),
            *((f"peer: {title(each.kind)}", each, None) for each in peers),
        ):
            server.send(len(QUESTIONS))
            ratio = paired(server.requests_per_s, still.requests_per_s, rounds=ROUNDS)
            holds &= report(f"{name}, to a FastAPI constant", ratio, unit="requests/s", at_least=at_least)
    return holds


def telemetry() -> bool:
    """Compare the service with its telemetry and without: short rounds, so that both meet the same moment."""
    holds = True
    with serving("watched", "traced", "unwatched") as (sampled, traced, dark):
        for share, server, at_least in (
            (_production_share(), sampled, TELEMETRY_AT_LEAST),
            (1.0, traced, None),
        ):
            ratio = paired(server.new_per_s, dark.new_per_s, rounds=TELEMETRY_ROUNDS)
            name = f"new questions, with metrics, log and spans of {share:.0%}, to without"
            holds &= report(name, ratio, unit="requests/s", at_least=at_least)
    return holds


def different(there: list[str]) -> bool:
    """Time 32 different questions to a slow model."""
    with serving("repeated", "asyncify", *there, model="sim-large@bench-1s") as (server, *peers):
        slow_s = server.different_s()
        verdict = "holds" if slow_s <= DIFFERENT_WITHIN_S else "MISSED"
        print(
            f"32 different questions, model of 1 s: {slow_s:.2f} s (at most {DIFFERENT_WITHIN_S}): {verdict}"
        )
        for each in peers:
            print(f"peer: {title(each.kind)}: {each.different_s():.2f} s")
    return slow_s <= DIFFERENT_WITHIN_S


def memory() -> bool:
    """Measure what a replica takes after many answers."""
    with serving("repeated") as (server,):
        server.send(100, begin=1)
        idle_mb = server.told()[2]
        server.send(ANSWERS, begin=1_000)
        _, own_mb, size_mb = server.told()
        verdict = "holds" if size_mb <= MEMORY_MB else "MISSED"
        print(
            f"memory: {idle_mb:.0f} MB, {size_mb:.0f} MB after {ANSWERS} answers (at most 120), "
            f"{own_mb:.0f} MB if what it shares is counted in part: {verdict}"
        )
    return size_mb <= MEMORY_MB


def main() -> bool:
    there = [kind for kind, peer in PEERS.items() if peer.is_installed]
    for kind in PEERS.keys() - there:
        print(f"peer: {title(kind)} is not compared: not installed in this Python")
    return all([speed(there), telemetry(), different(there), memory()])


if __name__ == "__main__":
    raise SystemExit(not main())
