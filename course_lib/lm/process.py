"""The endpoint as a process of its own: started with the first need, ended with the process that started it.

Main path: url() -> address of this process's endpoint; stop(); serve(port=...) in the foreground.
The parent binds the socket and hands it over: nothing waits, requests queue until the child is up.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError
from course_lib.lm.keys import client_of, new_key

_ROOT = Path(__file__).resolve().parents[2]
_CHILD = (
    "import sys; sys.path.insert(0, {root!r}); from course_lib.lm.process import run_child; run_child({fd})"
)
_STOP_S = 5.0

_lock = threading.RLock()
_child: _Child | None = None
_starts = 0
_last_port = 0  # a new endpoint takes the old one's place, so that LMs already made go on working
_own_key = ""


class EndpointError(CourseError):
    """The endpoint cannot be started or reached."""


class _Child:
    """The endpoint's process, as its parent sees it."""

    def __init__(self, port: int) -> None:
        try:
            listener = _listen("127.0.0.1", port)
        except OSError:  # somebody else took the port meanwhile
            listener = _listen("127.0.0.1", 0)
        self.port: int = listener.getsockname()[1]
        self._said: deque[str] = deque(maxlen=15)
        self._parent = os.getpid()
        self._is_stopping = False
        with listener:
            fd = listener.fileno()
            self._process = subprocess.Popen(  # noqa: S603  (our own program)
                [sys.executable, "-P", "-c", _CHILD.format(root=str(_ROOT), fd=fd)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[fd],
                start_new_session=True,  # an interrupted kernel must not take its endpoint along
                env={**os.environ, "COURSE_LM_OWNER": client_of(key())},
            )
        self._watcher = threading.Thread(target=self._watch, name="course-endpoint", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        """Keep the child's last words until it ends, and say so when nobody asked for that."""
        assert self._process.stderr is not None
        with self._process.stderr as words:
            self._said.extend(line.decode(errors="replace").rstrip() for line in words)
        self._process.wait()
        if not self._is_stopping:
            sys.stderr.write(f"{self.report()}\n")

    def is_running(self) -> bool:
        """Return whether the child lives; a forked copy of this process cannot know and says yes."""
        return os.getpid() != self._parent or self._process.poll() is None

    def ends_within(self, limit_s: float) -> bool:
        """Return whether the child has ended, or does so in time."""
        if os.getpid() != self._parent:
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(limit_s)
        return self._process.poll() is not None

    def report(self) -> str:
        """Return why the child ended, with the last lines that it wrote."""
        if threading.current_thread() is not self._watcher:
            self._watcher.join(_STOP_S)
        head = (
            f"the model's endpoint ended with code {self._process.returncode}; lm.connect() starts a new one"
        )
        said = "".join(f"\n    {line}" for line in self._said)
        return f"{head}; it wrote:{said}" if said else head

    def stop(self) -> None:
        """End the child; closing the pipe is enough."""
        if os.getpid() != self._parent:
            return
        self._is_stopping = self._process.poll() is None  # one that died by itself is still to be reported
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._watcher.join(_STOP_S)

    def let_go(self) -> None:
        """In a forked copy: drop the pipe, so that only the real parent keeps the child alive."""
        assert self._process.stdin is not None
        self._process.stdin.close()


def key() -> str:
    """Return this client's key: COURSE_LM_KEY, or a random one for the life of the process."""
    global _own_key
    with _lock:
        _own_key = _own_key or new_key()
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


def _ensure() -> _Child:
    global _child, _starts, _last_port
    with _lock:
        if _child is None or not _child.is_running():
            if _child is not None:
                _child.stop()
            _child = _Child(_last_port)
            _last_port = _child.port
            _starts += 1
        return _child


def check_alive(*, grace_s: float = 0.0) -> None:
    """Make sure that the child has not ended; one that is ending gets `grace_s` to do so.

    Raises:
        EndpointError: with what it said, when it has ended.
    """
    if _child is not None and _child.ends_within(grace_s):
        raise EndpointError(_child.report())


def starts() -> int:
    """Return how many endpoints this process has started; each begins with empty accounts."""
    return _starts


def stop() -> None:
    """End this process's endpoint; the next connect() starts a new one."""
    global _child
    with _lock:
        if _child is not None:
            _child.stop()
            _child = None


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    if _child is not None:
        _child.let_go()


atexit.register(stop)
os.register_at_fork(after_in_child=_after_fork)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


# -- in the child, and in the foreground ---------------------------------------------------------------


def run_child(fd: int) -> None:
    """Serve on the listening socket `fd` until the parent is gone; the child's own main."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _run(socket.socket(fileno=fd), owner=os.environ.pop("COURSE_LM_OWNER", ""))


def _end_with_parent() -> None:
    """Leave when stdin ends: the parent closed it, or died in whatever way."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(0)


def serve(*, port: int = 0, host: str = "127.0.0.1", keys: Collection[str] = ()) -> None:
    """Serve in the foreground until interrupted, as `course lm` does.

    Args:
        port: 0 takes a free one.
        host: where to listen; anything but loopback lets others in, so give `keys` then.
        keys: the only keys let in; none given lets everyone in.

    Raises:
        EndpointError: when the port is in use or not allowed, or the host is not this machine's.
    """
    try:
        listener = _listen(host, port)
    except OSError as error:
        raise EndpointError(_why_not(error, host, port)) from None
    shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else f"[{host}]" if ":" in host else host  # noqa: S104
    address = f"http://{shown}:{listener.getsockname()[1]}/v1"
    print(f"The model answers on {address} (Ctrl-C ends it). To use it elsewhere:", flush=True)
    print(f"    export COURSE_LM_URL={address}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        _run(listener, keys=keys)


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use; choose another, or 0 for a free one: course lm --port 0"
    if error.errno == errno.EACCES:
        return f"port {port} needs administrator rights; choose one from 1024 up, or 0 for a free one"
    return f"cannot listen on {host}:{port} ({error.strerror or error}); the usual host is 127.0.0.1"


def _run(listener: socket.socket, *, keys: Collection[str] = (), owner: str = "") -> None:
    from course_lib.lm.endpoint import running  # the web server stays out of the parent

    running.run(listener, keys=keys, owner=owner)


def describe() -> dict[str, Any]:
    """Return the endpoint's whereabouts without starting it: `shared` address, own `port`, `running`."""
    return {
        "shared": os.environ.get("COURSE_LM_URL"),
        "port": _child.port if _child else None,
        "running": _child.is_running() if _child else False,
    }
