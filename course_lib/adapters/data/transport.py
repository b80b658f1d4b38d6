"""The network under APIAdapter: connections only to checked addresses, bodies only up to a size.

Main path: async with sent(request, reach) as response; read_text(response, size_bytes).
Source: httpcore 1.0, which sends httpx's requests. It asks its backend (AsyncNetworkBackend) for every
connection, so a name is resolved here, once, checked here, and connected to by the checked IP: an answer of
DNS that changes in between changes nothing. The Host header and TLS keep the name.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpcore
import httpx

from course_lib.adapters.data.addresses import Reach
from course_lib.adapters.tools.limits import ToolRefused

_CHARSET = re.compile(r"(ascii|big5|cp|euc|gb|iso|koi8|latin|shift|us|utf|windows)[\w-]*", re.IGNORECASE)
"""Charsets of texts; some others that Python has are slow, or are no texts."""


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._real = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        address = await self._reach.vet(host, port)
        return await self._real.connect_tcp(address, port, timeout, local_address, socket_options)


@asynccontextmanager
async def sent(
    request: httpx.Request, reach: Reach, *, tls: ssl.SSLContext | None
) -> AsyncIterator[httpcore.Response]:
    """Send one request, over a connection of its own that ends with the `with`; yield the answer, unread.

    No connection is kept for the next request, so each is checked, and it works from any event loop.

    Raises:
        ToolRefused: the origin or one of its addresses is not allowed.
    """
    url = request.url
    reach.check(str(url))  # whoever built the request
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    parts: dict[str, Any] = {"content": request.stream, "extensions": request.extensions}
    message = httpcore.Request(request.method, target, headers=request.headers.raw, **parts)
    async with httpcore.AsyncConnectionPool(tls, network_backend=_CheckedBackend(reach)) as pool:
        yield await pool.handle_async_request(message)


async def read_text(response: httpcore.Response, size_bytes: int) -> str:
    """Read a body as text, piece by piece, and stop at a size.

    Raises:
        ToolRefused: it is larger than `size_bytes`, not text, or compressed, which was not asked for.
    """
    headers = httpx.Headers(response.headers)
    kind = headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
    if not (kind.startswith("text/") or kind.endswith(("json", "xml", "yaml")) or kind == ""):
        raise ToolRefused(f"the answer is no text but {kind[:40]!r}; it was not read")
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise ToolRefused(f"the answer is compressed as {encoding[:40]!r}, which was not asked for")
    body = bytearray()
    async for piece in response.aiter_stream():
        body += piece
        if len(body) > size_bytes:
            raise ToolRefused(f"the answer is larger than {size_bytes} bytes; ask for less of it")
    charset = httpx.Response(200, headers=headers).charset_encoding or "utf-8"
    try:
        return body.decode(charset if _CHARSET.fullmatch(charset) else "?", "replace")
    except LookupError:
        raise ToolRefused(f"the answer is in the charset {charset[:40]!r}, which is not read") from None
