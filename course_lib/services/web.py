"""What the course's web servers refuse: what pages of other sites ask, heads and connections without end.

Main path: is_own(scope) before anything is answered; BoundedProtocol as uvicorn's `http`.
Source: uvicorn's HttpToolsProtocol (0.40 to 0.54).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, MutableMapping
from contextlib import suppress
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEAD_WITHIN_S = 20.0
"""Time for a request's head to arrive in."""
_MAX_HEAD_BYTES = 64 * 1024
_MAX_PIPELINED = 100


def is_own(
    scope: MutableMapping[str, Any], *, names: Collection[str] | None = LOOPBACK, is_page: bool = False
) -> bool:
    """Return whether a program asks, or the server's own page: a browser lets any page ask loopback.

    A browser says whose page asks by `Origin`, or else by `Sec-Fetch-Site`; a program sends neither.

    Args:
        scope: the request.
        names: what a `Host` may be; None: anything. A page may give its own name the address of loopback.
        is_page: what is asked for does nothing by itself, so that another page may show it.
    """
    headers: dict[bytes, str] = {name: value.decode("latin-1") for name, value in scope["headers"]}
    host, origin = headers.get(b"host", ""), headers.get(b"origin")
    with suppress(ValueError):  # no address
        if names is None or urlsplit(f"//{host}").hostname in names:
            if origin is not None:
                return urlsplit(origin).netloc == host
            return is_page or headers.get(b"sec-fetch-site", "same-origin") == "same-origin"
    return False


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol in bounded memory.

    Where `limit_concurrency` connections are open, one more takes the place of the one that has rested for
    longest, so that connections which ask nothing keep nobody out.
    """

    _head_bytes: int | None = 0  # of the request whose head is being read
    _is_late: asyncio.TimerHandle | None = None
    rests_since_s = 0.0  # the loop's time

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head, if there is room for one more connection."""
        super().connection_made(transport)
        self._begin_head()
        self.rests_since_s = self.loop.time()
        if self.limit_concurrency and (beyond := len(self.connections) - self.limit_concurrency) >= 0:
            resting: list[Any] = [each for each in self.connections if each is not self and _rests(each)]
            longest = min(resting, key=attrgetter("rests_since_s"), default=self if beyond else None)
            if longest is not None:
                self.connections.discard(longest)
                longest.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, and refuse what grows too large."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if (self._head_bytes or 0) > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The headers are larger than {_MAX_HEAD_BYTES >> 10} KB; send fewer.")
        if len(self.pipeline) > _MAX_PIPELINED:
            self.transport.close()  # requests that are sent ahead without end

    def on_message_begin(self) -> None:
        """Wait for the head of another request."""
        super().on_message_begin()
        self._begin_head()

    def on_headers_complete(self) -> None:
        """Wait no more: the rest of a request is read by who answers it."""
        self._end_head()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Rest until the next request."""
        self.rests_since_s = self.loop.time()
        super().on_response_complete()

    def _begin_head(self) -> None:
        self._end_head()
        self._head_bytes = 0
        self._is_late = self.loop.call_later(HEAD_WITHIN_S, self.transport.close)

    def _end_head(self) -> None:
        self._head_bytes = None
        if self._is_late is not None:
            self._is_late.cancel()


def _rests(connection: Any) -> Any:
    """Return whether no request of a connection is being answered; one that is being sent may be."""
    return connection.cycle is None or connection.cycle.response_complete
