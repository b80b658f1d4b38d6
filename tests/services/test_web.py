"""What a server does with connections that ask nothing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
import uvicorn
from uvicorn.server import ServerState

from course_lib.services.web import BoundedProtocol

pytestmark = pytest.mark.anyio

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
MOST = 8


@asynccontextmanager
async def listening(app):
    """Serve an application, over so many connections at most; yields what opens one."""
    config = uvicorn.Config(app, limit_concurrency=MOST, lifespan="off", log_config=None)
    config.load()
    state, streams = ServerState(), []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: BoundedProtocol(config, state, {}), "127.0.0.1", 0)

    async def connect():
        streams.append(await asyncio.open_connection(*server.sockets[0].getsockname()))
        return streams[-1]

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
