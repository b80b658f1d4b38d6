"""An adapter's tools over the Model Context Protocol: a server on loopback, a client that gives tools back.

Main path: async with serve(adapter.tools()) as server, tools_from(server.url, token=server.token) as tools.
Both ends keep limits: the server's tools have their own, and the client wraps what it is offered, since
another's server may be slow, answer at length, or describe its tools at length.
The server listens on 127.0.0.1 only, wants a token, and refuses requests that a web page could send (their
Host or Origin is not loopback). It runs on the caller's loop, where a connection pool stays on its own. Call
the tools with `acall`, as dspy.ReAct's `acall` does: a synchronous call would wait for a server it holds up.
Source: mcp 2.3 (mcp.server.lowlevel.Server, mcp.Client); dspy.Tool.from_mcp_tool (DSPy 3.4.1).
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import dspy
import httpx2
import mcp_types
import uvicorn
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel import Server
from starlette.types import ASGIApp, Receive, Scope, Send

from course_lib.adapters.tools.limits import (
    FAILED,
    REFUSED,
    TIMEOUT,
    LimitedTool,
    ToolError,
    ToolRefused,
    limited,
)
from course_lib.errors import CourseError

HOST = "127.0.0.1"
BODY_BYTES = 200_000
"""The largest request the server reads."""
CONNECT_S = 5.0
"""Seconds for connecting to a server and reading what it offers."""
TOOLS = 100
"""Tools that a client takes from a server at most."""
DESCRIPTION_CHARS = 1000
"""Characters of a description that are shown to a model: it is text from elsewhere."""


class ToolServerError(CourseError):
    """A tool server could not be started or reached, or does not offer what was asked for."""


@dataclass(frozen=True, slots=True)
class ToolServer:
    """A running server."""

    url: str
    """Where it listens, always on loopback."""
    token: str = field(repr=False)
    """What a client must send; made anew for each server."""


@asynccontextmanager
async def serve(tools: Sequence[LimitedTool]) -> AsyncIterator[ToolServer]:
    """Serve tools over MCP on a free port of loopback while the block runs."""
    token = secrets.token_urlsafe(24)
    app = _server(tools).streamable_http_app(
        json_response=True, stateless_http=True, host=HOST, max_request_body_size=BODY_BYTES
    )
    with socket.create_server((HOST, 0)) as listener:  # listens at once: an early client waits
        config = uvicorn.Config(_Guarded(app, token), log_level="error", access_log=False, lifespan="on")
        server = _Uvicorn(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield ToolServer(f"http://{HOST}:{listener.getsockname()[1]}/mcp", token)
        finally:
            server.should_exit = True
            await running


@asynccontextmanager
async def tools_from(
    url: str,
    *,
    token: str = "",
    allow: Collection[str] | None = None,
    deadline_s: float = 5.0,
    **limits: Any,
) -> AsyncIterator[list[LimitedTool]]:
    """Give the tools of an MCP server as limited tools, while the block runs.

    Args:
        url: the server's address.
        token: what it asks for, if anything.
        allow: names of the tools to take; None takes all, up to TOOLS. Name them if the server is not yours.
        deadline_s: seconds for one call, and for connecting if that is more than CONNECT_S.
        limits: further limits of each tool, as `limited` takes them.

    Raises:
        ToolServerError: there is no such server, it refuses the token, or it lacks a tool of `allow`.
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    # A call's end is the session's business: an HTTP read that timed out would end the session with it.
    connect_s = max(deadline_s, CONNECT_S)
    timeout = httpx2.Timeout(connect_s, read=None)
    async with httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=False) as http:
        client = Client(streamable_http_client(url, http_client=http), read_timeout_seconds=connect_s)
        with _connecting(url):
            await client.__aenter__()
        try:
            with _connecting(url):
                offered = {tool.name: tool for tool in (await client.list_tools()).tools[:TOOLS]}
            if missing := sorted(set(allow or ()) - set(offered)):
                raise ToolServerError(
                    f"the server has no tool {missing[0]!r}; it offers: {', '.join(sorted(offered))}"
                )
            taken = [tool for name, tool in offered.items() if allow is None or name in allow]
            session, limits = _Session(client), {"deadline_s": deadline_s, "calls": 30} | limits
            yield [
                limited(
                    dspy.Tool.from_mcp_tool(session, tool),
                    desc=(tool.description or "")[:DESCRIPTION_CHARS],
                    **limits,
                )
                for tool in taken
            ]
        finally:
            await client.__aexit__(None, None, None)


def _server(tools: Sequence[LimitedTool]) -> Server[Any]:
    """Return an MCP server of these tools; their limits check the arguments and word the errors."""
    known = {tool.name: tool for tool in tools}

    async def offer(_context: Any, _request: Any) -> mcp_types.ListToolsResult:
        return mcp_types.ListToolsResult(tools=[_described(tool) for tool in known.values()])

    async def call(_context: Any, request: mcp_types.CallToolRequestParams) -> mcp_types.CallToolResult:
        answer: str = ToolError(f"{REFUSED}: no such tool")
        if request.name in known:
            answer = await known[request.name].acall(**(request.arguments or {}))
        content = [mcp_types.TextContent(type="text", text=str(answer))]
        return mcp_types.CallToolResult(content=list(content), is_error=isinstance(answer, ToolError))

    return Server("lantern", on_list_tools=offer, on_call_tool=call)


def _described(tool: LimitedTool) -> mcp_types.Tool:
    function = tool.format_as_litellm_function_call()["function"]
    return mcp_types.Tool(
        name=function["name"], description=function["description"], input_schema=function["parameters"]
    )


class _Session:
    """The part of a client that dspy.Tool.from_mcp_tool calls; an error of a tool keeps its class."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()

    async def call_tool(self, name: str, arguments: dict[str, Any] | None = None) -> mcp_types.CallToolResult:
        """Call a tool.

        Raises:
            ToolRefused, TimeoutError or CourseError: as the tool's answer begins.
        """
        call = self._client.call_tool(name, arguments)
        if asyncio.get_running_loop() is self._loop:
            result = await call
        else:  # a synchronous program in another thread: the connection stays on its loop
            result = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._loop))
        if not result.is_error:
            return result
        texts = [part.text for part in result.content if isinstance(part, mcp_types.TextContent)]
        kind, _, words = " ".join(texts).partition(": ")
        errors: dict[str, type[Exception]] = {REFUSED: ToolRefused, TIMEOUT: TimeoutError}
        raise errors.get(kind, CourseError)(words if kind in (*errors, FAILED) else " ".join(texts))


class _Uvicorn(uvicorn.Server):
    """uvicorn as a guest on somebody's loop: the process's signal handlers are not its business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals as they are."""
        yield


class _Guarded:
    """Let a request through if it carries the token; the app behind checks Host and Origin."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "lifespan" or hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@contextmanager
def _connecting(url: str) -> Iterator[None]:
    try:
        yield
    except (MCPError, httpx2.HTTPError, TimeoutError, ExceptionGroup) as error:
        raise ToolServerError(
            f"no tool server answers at {url}; check that it runs, its address and its token"
        ) from error
