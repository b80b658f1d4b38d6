"""The gateway sends each request to who can answer it, in the shares that it is told, and to nobody dead."""

from __future__ import annotations

import asyncio
import socketserver
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Thread

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from course_lib.concurrency.streaming import serve
from course_lib.deployment import DeploymentConfig, GatewayError, Replica, routes
from course_lib.services import GatewayServer, running_gateway

CONFIG, BODY = DeploymentConfig(), b"x" * 60_000
ALL = {"answer": "/v1/answers", "triage": "/v1/triage", "jobs": "/v1/jobs"}


class Upstreams:
    """Small services that say their name."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def start(self, name: str, **options) -> tuple[Replica, object]:
        async def tell(request):
            size = len(await request.body())
            await asyncio.sleep(float(request.headers.get("x-wait-s", 0)))
            return JSONResponse({"name": name, "headers": dict(request.headers), "bytes": size})

        async def stream(request):
            async def chunks():
                yield "data: first\n\n"
                while not seen:  # noqa: ASYNC110  (the reader is in another thread)
                    await asyncio.sleep(0.01)
                yield "data: last\n\n"

            await request.body()
            return StreamingResponse(chunks(), media_type="text/event-stream")

        async def live(request):
            return PlainTextResponse("alive")

        seen: list[str] = []
        app = Starlette(
            routes=[
                Route("/v1/answers/stream", stream, methods=["POST"]),
                Route("/v1/customers/c-1/export", stream, methods=["POST"]),
                Route("/health/ready", live),
                Route("/{path:path}", tell, methods=["GET", "POST"]),
            ]
        )
        service = self._stack.enter_context(serve(app))
        service.seen = seen
        return Replica(service.url, **options), service


@pytest.fixture(scope="module")
def gateway() -> GatewayServer:
    return running_gateway()


@pytest.fixture
def upstreams():
    with ExitStack() as stack:
        yield Upstreams(stack)


@pytest.fixture
def client(gateway):
    with httpx.Client(base_url=gateway.url, trust_env=False, timeout=30) as client:
        yield client


def names(client, path="/v1/answers", count=200, **options):
    replies = [client.post(path, content=BODY, **options) for _ in range(count)]
    assert [reply.text for reply in replies if reply.status_code != 200] == []
    assert {reply.json()["bytes"] for reply in replies} == {len(BODY)}
    return Counter(reply.json()["name"] for reply in replies)


def test_a_canary_gets_its_share_which_changes_while_requests_run(gateway, client, upstreams):
    old, new = upstreams.start("old", version="1")[0], upstreams.start("new", version="2")[0]

    gateway.use(routes([old, new], {"1": 9, "2": 1}, config=CONFIG))
    assert names(client) == {"old": 180, "new": 20}

    gateway.use(routes([old, new], {"1": 1, "2": 1}, config=CONFIG))
    assert names(client) == {"old": 100, "new": 100}


def test_no_request_is_lost_while_shares_change(gateway, client, upstreams):
    old, new = upstreams.start("old", version="1")[0], upstreams.start("new", version="2")[0]
    gateway.use(routes([old, new], {"1": 9, "2": 1}, config=CONFIG))

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(names, client, count=50) for _ in range(4)]
        for share in range(1, 6):
            gateway.use(routes([old, new], {"1": 1, "2": share}, config=CONFIG))

        assert sum((each.result() for each in asked), Counter()).total() == 200


def test_who_names_a_version_gets_it_also_one_without_a_share(gateway, client, upstreams):
    old, new = upstreams.start("old", version="1")[0], upstreams.start("new", version="2")[0]

    gateway.use(routes([old, new], {"1": 1}, config=CONFIG))

    for path in ALL.values():
        assert names(client, path, 10) == {"old": 10}
        assert names(client, path, 10, headers={"X-Program-Version": "2"}) == {"new": 10}


def test_a_program_is_answered_by_who_has_it(gateway, client, upstreams):
    one, other = (upstreams.start(name, programs=(name,))[0] for name in ("answer", "triage"))

    gateway.use(routes([one, other], config=CONFIG))

    assert names(client, "/v1/answers", 10) == {"answer": 10}
    assert names(client, "/v1/triage", 10) == {"triage": 10}
    assert names(client, "/v1/jobs", 10) == {"answer": 5, "triage": 5}


def test_of_a_hundred_requests_a_dead_replica_loses_none(gateway, client, upstreams):
    (one, _), (other, dying) = upstreams.start("one"), upstreams.start("other")
    gateway.use(routes([one, other], config=CONFIG, health_every_s=0.2))
    assert set(names(client, count=10)) == {"one", "other"}

    dying.close()

    assert names(client, count=100) == {"one": 100}


def test_a_dead_canary_leaves_all_to_the_others(gateway, client, upstreams):
    (old, _), (new, dying) = upstreams.start("old", version="1"), upstreams.start("new", version="2")
    gateway.use(routes([old, new], {"1": 9, "2": 1}, config=CONFIG, health_every_s=0.2))
    dying.close()

    assert names(client, count=100) == {"old": 100}


@pytest.mark.parametrize("path", ["/v1/answers/stream", "/v1/customers/c-1/export"])
def test_an_answer_arrives_while_it_is_written(gateway, client, upstreams, path):
    """What is kept until it is whole goes to the gateway's disk from a size on; that may be read-only."""
    replica, service = upstreams.start("one")
    gateway.use(routes([replica], config=CONFIG))

    with client.stream("POST", path, json={}) as reply:
        lines = reply.iter_lines()
        assert next(lines) == "data: first"
        service.seen.append("first")  # only then is the rest written

        assert [line for line in lines if line] == ["data: last"]


def test_who_does_not_answer_in_time_is_answered_for(gateway, client, upstreams):
    quick = DeploymentConfig(deadline_s=0.1, gateway_deadline_s=1.0)
    gateway.use(routes([upstreams.start("one")[0]], config=quick))

    assert client.post("/v1/jobs", headers={"X-Wait-S": "2"}).status_code == 504
    assert client.post("/v1/jobs").status_code == 200


def test_a_request_that_was_delivered_is_not_sent_again(gateway, client):
    arrived = []

    class Dying(socketserver.BaseRequestHandler):
        def handle(self):
            line = self.request.recv(65_536).split(b"\r\n")[0]
            if b"/health/" in line:
                self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            else:
                arrived.append(line)  # and no answer: it was killed

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dying) as server:
        Thread(target=server.serve_forever).start()
        gateway.use(routes([Replica(f"http://127.0.0.1:{server.server_address[1]}")], config=CONFIG))
        try:
            assert client.post("/v1/jobs", json={}).status_code == 502
        finally:
            server.shutdown()

    assert arrived == [b"POST /v1/jobs HTTP/1.1"]


def test_nobody_says_from_where_he_asks(gateway, client, upstreams):
    gateway.use(routes([upstreams.start("one")[0]], config=CONFIG))
    forged = {"X-Forwarded-For": "10.1.2.3", "X-Real-Ip": "10.1.2.3", "Forwarded": "for=10.1.2.3"}

    reply = client.get("/v1/jobs", headers={**forged, "X-Request-Id": "abc"})

    assert "10.1.2.3" not in str(reply.json()["headers"])
    assert reply.json()["headers"]["x-request-id"] == "abc"
    assert "server" not in reply.headers


@pytest.mark.parametrize("path", ["/metrics", "/v1/../metrics", "/v1/%2e%2e/metrics", "//metrics", "/admin"])
def test_what_a_replica_tells_of_itself_has_no_route(gateway, client, upstreams, path):
    gateway.use(routes([upstreams.start("one")[0]], config=CONFIG))

    assert client.build_request("GET", path).url
    assert client.get(path).status_code in (301, 308, 400, 404)


BAD = {
    "no such version": ([Replica("http://127.0.0.1:1")], {"2": 1}, "'2' has a weight and no replica"),
    "all 0": ([Replica("http://127.0.0.1:1")], {"1": 0}, "not all 0"),
    "a share of one": ([Replica("http://127.0.0.1:1")], {"1": 0.5}, "whole numbers"),
    "below 0": ([Replica("http://127.0.0.1:1")], {"1": -1}, "whole numbers"),
}


@pytest.mark.parametrize(("replicas", "weights", "words"), BAD.values(), ids=BAD)
def test_weights_of_no_use_are_refused(replicas, weights, words):
    with pytest.raises(GatewayError, match=words):
        routes(replicas, weights, config=CONFIG)


@pytest.mark.parametrize(
    "of", [{"url": "127.0.0.1:1"}, {"url": "http://a`b"}, {"version": "1`)"}, {"programs": ("x",)}]
)
def test_a_replica_that_cannot_be_is_refused(of):
    with pytest.raises(ValueError, match="1 validation error"):
        Replica(**{"url": "http://127.0.0.1:1", **of})
