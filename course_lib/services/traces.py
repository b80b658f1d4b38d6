"""A real trace viewer from a package, in the browser: it takes OpenTelemetry, and ends with this process.

Main path: running_traces() -> TraceServer; Tracer(collector=server.url, headers=server.headers) sends to it,
and its address in a browser, with its password, shows them.
Source: lighttrace 0.1.1 (its own command reads a file `.env` where it is started, and stores into SQLite).

It listens on a free port of 127.0.0.1, since browsers know no sockets. Its keys and its data lie in a folder
that only this user can enter, and go with the process.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import cast

from course_lib.services.server import PortServer, share

_MAIN = "import lighttrace; lighttrace.main()"
_IN_FOLDER = 'cd "$0" && unset $(env | sed -n "s/^\\(LIGHTTRACE_[A-Z_]*\\)=.*/\\1/p") && exec "$@"'
KEY_VARIABLE = "COURSE_TRACES_KEY"
"""Holds the key of a viewer that COURSE_TRACES_URL names."""


class TraceServer(PortServer):
    """A trace viewer."""

    name = "the trace viewer"
    variable = "COURSE_TRACES_URL"
    socket = "traces.db"
    probe = b"GET / HTTP/1.0\r\n\r\n"
    ready = b"HTTP/1.1 200"

    def __init__(self, parent: Path | None, *, chosen: str = "") -> None:
        super().__init__(parent, chosen=chosen)
        self._key = os.environ.get(KEY_VARIABLE, "") if chosen else secrets.token_hex(16)
        self.password = "" if chosen else secrets.token_hex(6)
        """What its page asks for; of no use for a viewer that the environment names."""

    @property
    def headers(self) -> dict[str, str]:
        """What to send with spans, so that they are let in."""
        return {"Authorization": f"Bearer {self._key}"} if self._key else {}

    def commands(self) -> list[list[str]]:
        """Write its keys where it reads them, and return what to run."""
        self.write(".env", f"LIGHTTRACE_API_KEYS={self._key}\nLIGHTTRACE_PASSWORD={self.password}\n")
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--db", str(self.folder / self.socket)]
        return [["/bin/sh", "-c", _IN_FOLDER, str(self.folder), sys.executable, "-P", "-c", _MAIN, *place]]

    @staticmethod
    def ping(url: str) -> None:
        """Raise what httpx raises when nothing answers at this address."""
        import httpx

        httpx.get(url, timeout=5, trust_env=False).raise_for_status()


def running_traces() -> TraceServer:
    """Return this process's trace viewer, started if need be, which takes about two seconds.

    All callers share one, which ends with the process, in whatever way that ends, and its data with it.
    `COURSE_TRACES_URL` names another OTLP collector to use instead, `COURSE_TRACES_KEY` its key.

    Raises:
        ServerError: it cannot be started or reached; the message says what to do.
    """
    return cast("TraceServer", share(TraceServer))
