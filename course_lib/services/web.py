"""What the course's web servers refuse: what pages of other sites ask, heads and connections without end.

Main path: is_own(scope) before anything is answered; BoundedProtocol as uvicorn's `http`.
Source: uvicorn's HttpToolsProtocol (0.40 to 0.54).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, MutableMapping
from contextlib import suppress
from math import inf
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEAD_WITHIN_S = 20.0
"""Time for a request's head to arrive in."""
UNREAD_WITHIN_S = 20.0
"""A peer that reads nothing for so long, while something waits to be sent, is left: within twice that."""
_MAX_HEAD_BYTES = _MAX_AHEAD_BYTES = 64 * 1024
_STEP_BYTES = 1024


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

    Of what is sent ahead of an answer, 64 KB are kept, most of it unparsed, since a request takes a hundred
    times its bytes; who sends more is cut off. A peer that reads on, however slowly, gets its answer.
    """

    _head_bytes: int | None = 0  # of the request whose head is being read
    _is_late: asyncio.TimerHandle | None = None
    _ahead = b""  # came, and waits to be parsed
    _unsent: float = inf  # bytes that waited at the last look
    _looking: asyncio.TimerHandle | None = None
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
                longest.transport.abort()
        self._looking = self.loop.call_later(UNREAD_WITHIN_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._end()
        super().connection_lost(exc)
        self.pipeline.clear()

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to another protocol."""
        self._end()
        super().handle_websocket_upgrade()

    def resume_writing(self) -> None:
        """Go on sending: the peer reads."""
        self._unsent = inf
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read on, and refuse what grows too large."""
        self._ahead += data
        self._parse()
        if len(self._ahead) > _MAX_AHEAD_BYTES:
            self.transport.abort()  # not close(), which waits until the peer has read all

    def _parse(self) -> None:
        """Parse what came, until there is a request that has to wait for its turn."""
        data, at = self._ahead, 0
        while at < len(data) and not self.pipeline and not self.transport.is_closing():
            step = data[at : at + _STEP_BYTES]
            at += len(step)
            if self._head_bytes is not None:
                self._head_bytes += len(step)
            super().data_received(step)
            if (self._head_bytes or 0) > _MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(f"The headers are larger than {_MAX_HEAD_BYTES >> 10} KB; send fewer.")
        self._ahead = b"" if self.transport.is_closing() else data[at:]

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
        if self._ahead:
            self._parse()

    def _look(self) -> None:
        """Leave a peer that has read nothing since the last look.

        While something waits to be sent nothing is added until all is gone: it shrinks if the peer reads.
        """
        unsent = self.transport.get_write_buffer_size()
        if unsent >= self._unsent:
            self.transport.abort()
            return
        self._unsent = unsent or inf
        self.transport.set_write_buffer_limits(high=0 if unsent else None)
        self._looking = self.loop.call_later(UNREAD_WITHIN_S, self._look)

    def _end(self) -> None:
        self._end_head()
        self._ahead = b""
        if self._looking is not None:
            self._looking.cancel()

    def _begin_head(self) -> None:
        self._end_head()
        self._head_bytes = 0
        self._is_late = self.loop.call_later(HEAD_WITHIN_S, self._late)

    def _late(self) -> None:
        if self.pipeline:  # the rest of this head may have come, and waits too
            self._is_late = self.loop.call_later(HEAD_WITHIN_S, self._late)
        else:
            self.transport.close()

    def _end_head(self) -> None:
        self._head_bytes = None
        if self._is_late is not None:
            self._is_late.cancel()


def _rests(connection: Any) -> Any:
    """Return whether no request of a connection is being answered; one that is being sent may be."""
    return connection.cycle is None or connection.cycle.response_complete
