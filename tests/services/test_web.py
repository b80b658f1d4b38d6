"""What a server does with connections that ask nothing."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from course_lib.services import web
from course_lib.services.web import BoundedProtocol

pytestmark = pytest.mark.anyio

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
MOST, LIMIT, LARGE = 8, 2**16, 2**24


@asynccontextmanager
async def listening(app):
    """Serve an application, over so many connections at most; yields what opens one and knows them."""
    config = uvicorn.Config(app, limit_concurrency=MOST, lifespan="off", log_config=None)
    config.load()
    state, streams = ServerState(), []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedProtocol(config, state, {}), "127.0.0.1", 0)

    async def connect():
        streams.append(await asyncio.open_connection(*server.sockets[0].getsockname(), limit=LIMIT))
        return streams[-1]

    connect.open = state.connections
    async with server:
        yield connect
        for _, writer in streams:
            writer.close()


async def test_connections_that_rest_or_begin_a_head_keep_nobody_out():
    async def app(_, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with listening(app) as connect:
        first, _ = await connect()
        for number in range(2 * MOST):
            _, writer = await connect()
            writer.write((b"", b"GET / HTT", REQUEST)[number % 3])

        reader, writer = await connect()
        writer.write(REQUEST)

        assert (await reader.readline()).startswith(b"HTTP/1.1 204")
        assert await first.read() == b""  # what rests for longest is closed


async def test_a_request_under_way_keeps_its_connection():
    go_on = asyncio.Event()

    async def app(_, receive, send):
        await go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with listening(app) as connect:
        reader, writer = await connect()
        writer.write(REQUEST)
        others = [await connect() for _ in range(2 * MOST)]
        assert await others[0][0].read() == b""  # it is full by now
        go_on.set()

        assert (await reader.readline()).startswith(b"HTTP/1.1 204")


async def large(_, receive, send):
    """Answer with more than the kernel takes at once."""
    headers = [(b"content-length", b"%d" % LARGE)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": bytes(LARGE)})


async def test_of_requests_that_are_sent_ahead_only_a_few_stand_parsed_and_all_are_answered():
    asked, go_on, most = asyncio.Event(), asyncio.Event(), 2_000

    async def app(_, receive, send):
        asked.set()
        await go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async with listening(app) as connect:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * most)
        await asked.wait()
        held = [each for each in gc.get_objects() if isinstance(each, RequestResponseCycle)]
        assert len(held) < 100

        del held
        go_on.set()
        for _ in range(most):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")


@pytest.mark.parametrize("sent", [REQUEST, 10_000 * REQUEST], ids=["reads nothing", "sends ahead"])
async def test_a_peer_that_reads_nothing_or_sends_ahead_without_end_is_cut_off(monkeypatch, sent):
    monkeypatch.setattr(web, "UNREAD_WITHIN_S", 0.05 if sent == REQUEST else 60)
    async with listening(large) as connect, asyncio.timeout(10):
        _, writer = await connect()
        writer.write(sent)
        while not connect.open:  # noqa: ASYNC110  (uvicorn has no event for it, here and below)
            await asyncio.sleep(0)

        while connect.open:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_slow_reader_gets_all_of_its_answer(monkeypatch):
    monkeypatch.setattr(web, "UNREAD_WITHIN_S", 0.25)
    async with listening(large) as connect:
        reader, writer = await connect()
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")

        for _ in range(32):  # a second: some looks
            await reader.readexactly(LARGE // 32)
            await asyncio.sleep(0.03)
