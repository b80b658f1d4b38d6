"""An adapter's tools over the Model Context Protocol: a server on loopback, a client that gives tools back.

Main path: async with serve(adapter.tools()) as server, tools_from(server.url, token=server.token) as tools.
Both ends keep limits: another's server may be slow, answer at length, or describe its tools at length.
The server listens on 127.0.0.1 only, wants a token, and refuses requests that a web page could send. It runs
on the caller's loop: call the tools with `acall`, a synchronous call would wait for a server it holds up.
Source: mcp 2.3 (mcp.server.lowlevel.Server, mcp.Client); dspy.Tool.from_mcp_tool (DSPy 3.4.1).
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import cachetools
import dspy
import httpx2
import mcp_types
import pydantic
import uvicorn
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.server.lowlevel import Server
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from course_lib.adapters.tools.injection import neutralise, neutralised_answer
from course_lib.adapters.tools.limits import (
    FAILED,
    REFUSED,
    RUNS_KEPT,
    TIMEOUT,
    LimitedTool,
    ToolError,
    ToolRefused,
    limited,
)
from course_lib.errors import CourseError
from course_lib.redaction.secrets import one_line

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
BODY_BYTES, ANSWER_BYTES = 200_000, 2_000_000
"""The largest request that the server reads, and the largest answer that the client reads."""
TYPES = 3_000
"""Times that an answer may say "type", as each part and schema in it does: each takes time on the loop."""
CONNECT_S = 5.0
"""Seconds for connecting to a server and reading what it offers."""
TOOLS, PAGES = 100, 50
"""Tools that a client takes from a server at most, and pages of its list that it reads."""
SCHEMA_CHARS, REFERENCES = 20_000, 20
"""Characters of a tool's schema, and references in it: written out, each may double its length."""
DESCRIPTION_CHARS = 1000
"""Characters of a description that are shown to a model: it is text from elsewhere."""
CLIENT_HEADER = "x-tool-client"
"""Names a client, so that each has a budget of calls of its own."""


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
        config = uvicorn.Config(_guarded(app, token), log_level="error", access_log=False, lifespan="on")
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
    """Give the tools of an MCP server as limited tools, but for any whose schema cannot be written out.

    Answers and descriptions are neutralised (see injection.py), as text of others.

    Args:
        url: the server's address.
        token: what it asks for, if anything.
        allow: names of the tools to take; None takes the first TOOLS. Name them if the server is not yours.
        deadline_s: seconds for one call, and for connecting if that is more than CONNECT_S.
        limits: further limits of each tool, as `limited` takes them.

    Raises:
        ToolServerError: there is no such server, it refuses the token, it lacks a tool of `allow`, or its
            list of tools is not written as MCP says.
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    headers |= {CLIENT_HEADER: secrets.token_hex(8), "accept-encoding": "identity"}
    # A call's end is the session's business: an HTTP read that timed out would end the session with it.
    connect_s = max(deadline_s, CONNECT_S)
    timeout = httpx2.Timeout(connect_s, read=None)
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=False, transport=_Bounded()) as http,
        AsyncExitStack() as stack,
    ):
        client = Client(streamable_http_client(url, http_client=http), read_timeout_seconds=connect_s)
        try:
            await client.__aenter__()
            stack.push_async_callback(client.__aexit__, None, None, None)
            async with asyncio.timeout(connect_s):
                taken = await _listed(client, allow)
        except pydantic.ValidationError as error:
            odd = f"the server at {url} answers otherwise than MCP says; correct it there"
            raise ToolServerError(f"{odd} ({one_line(str(error))})") from None
        except (MCPError, TimeoutError, ExceptionGroup) as error:
            raise ToolServerError(
                f"no tool server answers at {url}; check that it runs, its address and its token"
            ) from error
        session, limits = _Session(client), {"deadline_s": deadline_s, "calls": 30} | limits
        yield [limited(tool, **limits) for tool in _readable(session, taken)]


async def _listed(client: Client, allow: Collection[str] | None) -> list[mcp_types.Tool]:
    """Return the tools to take, from as many pages as that needs."""
    taken: dict[str, mcp_types.Tool] = {}
    names: list[str] = []
    cursor, most = None, TOOLS if allow is None else len(set(allow))
    for _ in range(PAGES):
        page = await client.list_tools(cursor=cursor)
        names += [tool.name[:60] for tool in page.tools[: TOOLS - len(names)]]
        taken |= {tool.name: tool for tool in page.tools if allow is None or tool.name in allow}
        cursor = page.next_cursor
        if len(taken) >= most or not cursor:
            break
    if missing := sorted(set(allow or ()) - set(taken)):
        raise ToolServerError(f"the server has no tool {missing[0]!r}; it offers: {', '.join(sorted(names))}")
    return list(taken.values())[:most]


def _readable(session: _Session, tools: Iterable[mcp_types.Tool]) -> Iterator[dspy.Tool]:
    """Yield those tools whose schema can be written out for a model; the others are named in the log."""
    for offered in tools:
        try:
            schema = json.dumps(offered.input_schema)
            if len(schema) > SCHEMA_CHARS or schema.count('"$ref"') > REFERENCES:
                raise RecursionError
            text = " ".join(neutralise(offered.description or "").split())[:DESCRIPTION_CHARS]
            shown = {"description": text, "input_schema": json.loads(schema, object_hook=_shown)}
            tool = dspy.Tool.from_mcp_tool(session, offered.model_copy(update=shown))
            is_open = '"$ref"' in json.dumps(tool.args)  # DSPy writes out those to $defs alone
            if is_open or any(neutralise(name) != name for name in (offered.name, *tool.args)):
                raise LookupError
            yield tool
        except (RecursionError, LookupError, AttributeError, TypeError):
            logger.warning("tool %.60r is left out: its names or schema cannot be shown", offered.name)


def _shown(part: dict[str, Any]) -> dict[str, Any]:
    """Neutralise a schema's prose, and leave to the server what may take Python for ever to check."""
    slow, prose = ("pattern", "uniqueItems"), ("title", "description")
    checked = {name: value for name, value in part.items() if name not in slow or isinstance(value, dict)}
    texts = {name: neutralise(checked[name]) for name in prose if isinstance(checked.get(name), str)}
    return checked | texts


def _server(tools: Sequence[LimitedTool]) -> Server[Any]:
    """Return an MCP server of these tools; their limits check the arguments and word the errors."""
    known = {tool.name: tool for tool in tools}

    async def offer(_context: Any, _request: Any) -> mcp_types.ListToolsResult:
        functions = [tool.format_as_litellm_function_call()["function"] for tool in tools]
        described = [
            mcp_types.Tool(name=one["name"], description=one["description"], input_schema=one["parameters"])
            for one in functions
        ]
        return mcp_types.ListToolsResult(tools=described)

    async def call(_context: Any, request: mcp_types.CallToolRequestParams) -> mcp_types.CallToolResult:
        tool, missing = known.get(request.name), ToolError(f"{REFUSED}: no such tool")
        answer = await tool.acall(**(request.arguments or {})) if tool else missing
        text = mcp_types.TextContent(type="text", text=str(answer))
        return mcp_types.CallToolResult(content=[text], is_error=isinstance(answer, ToolError))

    return Server("lantern", on_list_tools=offer, on_call_tool=call)


class _Session:
    """The part of a client that dspy.Tool.from_mcp_tool calls; an error of a tool keeps its class."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()

    async def call_tool(self, name: str, arguments: dict[str, Any] | None = None) -> mcp_types.CallToolResult:
        call = self._client.call_tool(name, arguments)
        try:
            if asyncio.get_running_loop() is self._loop:
                result = await call
            else:  # a synchronous program in another thread: the connection stays on its loop
                result = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call, self._loop))
        except MCPError as error:
            raise ToolServerError(error.message) from None
        texts = [neutralised_answer(text) for text in _texts(result)]
        if not result.is_error:
            content = [mcp_types.TextContent(type="text", text=text) for text in texts]
            return mcp_types.CallToolResult(content=[*content])
        kind, _, words = " ".join(texts).partition(": ")
        errors: dict[str, type[Exception]] = {REFUSED: ToolRefused, TIMEOUT: TimeoutError}
        raise errors.get(kind, CourseError)(words if kind in (*errors, FAILED) else " ".join(texts))


def _texts(result: mcp_types.CallToolResult) -> list[str]:
    """Return the texts of an answer; one without any is shown as JSON."""
    texts = [part.text for part in result.content if isinstance(part, mcp_types.TextContent)]
    others = [part.model_dump(mode="json", by_alias=True, exclude_none=True) for part in result.content]
    return texts or [json.dumps(others or result.structured_content or [])]


class _Bounded(httpx2.AsyncHTTPTransport):
    """Reads answers up to ANSWER_BYTES; what cannot be read is an answer too, so that the session goes on."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; of an event stream the client bounds the length of each event."""
        try:
            response = await super().handle_async_request(request)
            headers = {name: response.headers.get(name, "") for name in ("content-type", "mcp-session-id")}
            if "content-encoding" in response.headers:
                await response.aclose()
                return _failure("the tool server packed its answer, unasked")
            if headers["content-type"].startswith("text/event-stream"):
                assert isinstance(response.stream, httpx2.AsyncByteStream)
                response.stream = _Events(response.stream)
                return response
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > ANSWER_BYTES:
                    await response.aclose()
                    return _failure(f"the tool server's answer is longer than {ANSWER_BYTES} bytes")
        except httpx2.TransportError as error:
            kind = type(error).__name__
            return _failure(f"the tool server does not answer ({kind}); start it, then open tools_from again")
        if body.count(b'"type"') > TYPES:
            return _failure(f"the tool server's answer has more than {TYPES} parts")
        return httpx2.Response(response.status_code, headers=headers, content=bytes(body))


class _Events(httpx2.AsyncByteStream):
    """An event stream, which breaks off after too many parts."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = 0
        async for chunk in self._stream:
            parts += chunk.count(b'"type"')
            if parts > TYPES:
                raise httpx2.ReadError(f"more than {TYPES} parts")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _failure(message: str) -> httpx2.Response:
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": message}}
    return httpx2.Response(502, json=error)


class _Uvicorn(uvicorn.Server):
    """uvicorn as a guest on somebody's loop: the process's signal handlers are not its business."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals as they are."""
        yield


def _guarded(app: ASGIApp, token: str) -> ASGIApp:
    """Let a request through if it carries the token; the app behind checks Host and Origin."""
    expected, header = f"Bearer {token}".encode(), CLIENT_HEADER.encode()
    runs: cachetools.LRUCache[bytes, list[Any]] = cachetools.LRUCache(RUNS_KEPT)

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        is_known = hmac.compare_digest(headers.get(b"authorization", b""), expected)
        if scope["type"] != "lifespan" and not is_known:
            await Response(status_code=401)(scope, receive, send)
            return
        # The calls of one client are one run of a program, to the tools' budgets.
        with dspy.context(caller_modules=runs.setdefault(headers.get(header, b""), [])):
            await app(scope, receive, send)

    return guarded
