"""What the course's web servers refuse: what pages of other sites ask, heads and connections without end.

Main path: is_own(scope) before anything is answered; BoundedProtocol as uvicorn's `http`.
Source: uvicorn's HttpToolsProtocol (0.40 to 0.54).
"""

from __future__ import annotations

from collections.abc import Collection, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


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
