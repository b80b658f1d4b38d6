"""The endpoint as a process of its own: started with the first need, ended with the process that started it.

Main path: url() -> address of this process's endpoint; stop(); serve(port=...) in the foreground.
The parent binds the socket and hands it over: nothing waits, requests queue until the child is up.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.lm.calls import client_of
from course_lib.lm.recordings import Writer, load
from course_lib.paths import ROOT
from course_lib.services.child import STOP, Child, end_with_owner

_CHILD = (
    "import sys; sys.path.insert(0, {root!r}); "
    "from course_lib.lm.process import run_child; run_child({fd}, owner={owner})"
)
_STOP_S = 5.0

_lock = threading.RLock()
_endpoint: _Endpoint | None = None
_starts = 0
_last_port = 0  # a new endpoint takes the old one's place, so that LMs already made go on working
_own_key = ""


class EndpointError(CourseError):
    """The endpoint cannot be started or reached."""


class _Endpoint(Child):
    """The endpoint's process, as its parent sees it."""

    def __init__(self, port: int) -> None:
        try:
            listener = _listen("127.0.0.1", port)
        except OSError:  # somebody else took the port meanwhile
            listener = _listen("127.0.0.1", 0)
        self.port: int = listener.getsockname()[1]
        self._last_lines: deque[str] = deque(maxlen=15)
        self._is_stopping = False
        with listener:
            fd = listener.fileno()
            code = _CHILD.format(root=str(ROOT), fd=fd, owner=os.getpid())
            super().__init__(
                [sys.executable, "-P", "-c", code],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[fd],
                env={**os.environ, "COURSE_LM_OWNER": client_of(key())},
            )
        self._watcher = threading.Thread(target=self._watch, name="course-endpoint", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        """Keep the last lines that the child writes; report its end when nobody asked for that."""
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            self._last_lines.extend(line.decode(errors="replace").rstrip() for line in lines)
        self.process.wait()
        if not self._is_stopping:
            sys.stderr.write(f"{self.report()}\n")

    def report(self) -> str:
        """Return why the child ended, with the last lines that it wrote."""
        if threading.current_thread() is not self._watcher:
            self._watcher.join(_STOP_S)
        code = self.process.returncode
        head = f"the model's endpoint ended with code {code}; lm.connect() starts a new one"
        wrote = "".join(f"\n    {line}" for line in self._last_lines)
        return f"{head}; it wrote:{wrote}" if wrote else head

    def stop(self, word: bytes = STOP, patience_s: float = _STOP_S) -> bool:
        """End the child; in a forked copy of its parent, do nothing."""
        self._is_stopping = self.is_running()  # one that died by itself is still to be reported
        if is_ours := super().stop(word, patience_s):
            self._watcher.join(_STOP_S)
        return is_ours


def key() -> str:
    """Return this client's key: COURSE_LM_KEY, or a random one for the life of the process."""
    global _own_key
    with _lock:
        _own_key = _own_key or f"course-{secrets.token_hex(12)}"
    return os.environ.get("COURSE_LM_KEY") or _own_key


def url() -> str:
    """Return the endpoint's address, ending in /v1: COURSE_LM_URL, or this process's own, started if need be.

    Raises:
        EndpointError: when a child just started has ended already.
    """
    shared = os.environ.get("COURSE_LM_URL", "").rstrip("/")
    if shared:
        if not shared.startswith(("http://", "https://")):
            raise EndpointError(f"COURSE_LM_URL is {shared!r}; it should look like http://127.0.0.1:8000/v1")
        return shared if shared.endswith("/v1") else f"{shared}/v1"
    return f"http://127.0.0.1:{_ensure().port}/v1"


def _ensure() -> _Endpoint:
    global _endpoint, _starts, _last_port
    with _lock:
        if _endpoint is None or not _endpoint.is_running():
            if _endpoint is not None:
                _endpoint.stop()
            _endpoint = _Endpoint(_last_port)
            _last_port = _endpoint.port
            _starts += 1
        return _endpoint


def check_alive(*, grace_s: float = 0.0) -> None:
    """Make sure that the child has not ended; one that is ending gets `grace_s` to do so.

    Raises:
        EndpointError: with what it said, when it has ended.
    """
    if _endpoint is not None and _endpoint.ends_within(grace_s):
        raise EndpointError(_endpoint.report())


def starts() -> int:
    """Return how many endpoints this process has started; each begins with empty accounts."""
    return _starts


def stop() -> None:
    """End this process's endpoint; the next connect() starts a new one."""
    global _endpoint
    with _lock:
        if _endpoint is not None:
            _endpoint.stop()
            _endpoint = None


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it when this process was forked


atexit.register(stop)
os.register_at_fork(after_in_child=_after_fork)


def _listen(host: str, port: int) -> socket.socket:
    is_v6 = ":" in host
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=1024, dualstack_ipv6=is_v6)


# -- in the child, and in the foreground ---------------------------------------------------------------


def run_child(fd: int, *, owner: int) -> None:
    """Serve on the listening socket `fd` until the process `owner` is gone; the child's own main."""
    end_with_owner(owner)
    _run(socket.socket(fileno=fd), owner=os.environ.pop("COURSE_LM_OWNER", ""))


def serve(
    *,
    port: int = 0,
    host: str = "127.0.0.1",
    keys: Collection[str] = (),
    record: Path | None = None,
    replay: Path | None = None,
) -> None:
    """Serve in the foreground until interrupted, as `course lm` does.

    Args:
        port: 0 takes a free one.
        host: where to listen; anything but loopback lets others in, so give `keys` then.
        keys: the only keys let in; none given lets everyone in.
        record: a new file for all that passes through, a line each.
        replay: a recording to answer from, in place of any model.

    Raises:
        RecordingError: when a recording cannot be read or begun.
        EndpointError: when the port is in use or not allowed, or the host is not this machine's.
    """
    recorded = load(replay) if replay else None
    writer = Writer(record, is_new=True) if record else None
    try:
        listener = _listen(host, port)
    except OSError as error:
        raise EndpointError(_why_not(error, host, port)) from None
    shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else f"[{host}]" if ":" in host else host  # noqa: S104
    address = f"http://{shown}:{listener.getsockname()[1]}/v1"
    print(f"The model answers on {address} (Ctrl-C ends it). To use it elsewhere:", flush=True)
    print(f"    export COURSE_LM_URL={address}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        _run(listener, keys=keys, name=host, write=writer and writer.add_line, replay=recorded)


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno in (errno.EADDRINUSE, errno.EACCES):
        why = "is in use" if error.errno == errno.EADDRINUSE else "needs administrator rights"
        return f"port {port} on {host} {why}; choose another, or 0 for a free one: course lm --port 0"
    return f"cannot listen on {host}:{port} ({error.strerror or error}); the usual host is 127.0.0.1"


def _run(listener: socket.socket, **options: Any) -> None:
    from course_lib.lm.endpoint import running  # the web server stays out of the parent

    running.run(listener, **options)


def is_up() -> bool:
    """Return whether there is an endpoint to ask, shared or own; asking for its address would start one."""
    return bool(os.environ.get("COURSE_LM_URL")) or (_endpoint is not None and _endpoint.is_running())
