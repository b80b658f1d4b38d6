"""A server of this process, in a folder of its own: what Redis, PostgreSQL and later ones have in common.

Main path: share(kind, folder) -> Server; a subclass names its program, socket and signals.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import quote

from course_lib.errors import CourseError
from course_lib.services import child

Connection = socket.socket

_START_S = 60.0
_LOOK_EVERY_S = 0.005
_LONGEST_SOCKET = 100  # of the 104 to 108 bytes that the systems allow
_PREFIX = "course-server-"
_ADDRESS = re.compile(
    r"(?:(?:rediss?|postgres(?:ql)?|https?|amqps?|nats|tls)://(?:[^@/?#]*@)?"
    r"(?P<host>(?:[\w.-]+|\[[\da-fA-F:.]+\])(?::\d{1,5})?(?:/[\w-]*)?)"
    r"|postgres(?:ql)?://(?:[^@/?#]*@)?/[\w-]*\?host=(?P<socket>/[^?#@&]*)(?:&.*)?"
    r"|unix://(?:[^@/?#]*@)?(?P<path>/[^?#@]*))(?:\?.*)?"
)


class ServerError(CourseError):
    """A server cannot be started, stopped or reached."""


class Server:
    """A server; at most one process of it runs at a time, and ends with the process that started it.

    One in a named folder ends with its `with`. The one that all callers share runs until the process ends.
    """

    name: ClassVar[str]
    variable: ClassVar[str]  # of the environment, which names a server to use instead
    socket: ClassVar[str]  # below the folder; or another file that is there when it runs
    url_form: ClassVar[str]  # with {folder} in it
    chosen_form: ClassVar[str]  # of the address in `variable`
    probe: ClassVar[bytes]  # what to send to it
    ready: ClassVar[bytes]  # how its answer begins when it is ready
    stop_signals: ClassVar[tuple[signal.Signals, ...]] = ()  # politest first; SIGKILL follows
    leftover: ClassVar[str] = ""  # what it writes when workers of a killed one are not gone yet: try again
    refuses_root: ClassVar[bool] = False

    def __init__(self, parent: Path | None, *, chosen: str = "") -> None:
        self.account = pwd.getpwnam("nobody") if self.refuses_root and os.geteuid() == 0 else None
        self._chosen = chosen
        self._parent = parent
        self.is_shared = parent is None
        self._owner = os.getpid()
        self._pid = 0
        self._child: child.Child | None = None
        self.folder = Path() if chosen else self._new_folder()
        """Where its files are; of no use for a server that the environment names."""

    def commands(self) -> list[list[str]]:
        """Prepare the folder, and return what to run there: perhaps a set-up, then the server."""
        raise NotImplementedError

    @staticmethod
    def ping(url: str) -> None:
        """Raise whatever the client library raises when a server at this address does not answer."""
        raise NotImplementedError

    def connected(self) -> Connection:
        """Return a connection to it.

        Raises:
            OSError: it does not listen yet.
        """
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(1.0)
        try:
            line.connect(str(self.folder / self.socket))
        except OSError:
            line.close()
            raise
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.is_shared and self._owner == os.getpid():
            self.close()

    def __repr__(self) -> str:
        return f"Server({shown(self._chosen) if self._chosen else str(self.folder)!r})"

    @property
    def url(self) -> str:
        """The address that its client library takes; it may hold a password, so print the server instead."""
        return self._chosen or self.url_form.format(folder=quote(str(self.folder)))

    @property
    def pid(self) -> int:
        """The server's process number; 0 when it does not run, or is not ours."""
        return self._pid if self._child is not None and self._child.is_running() else 0

    def start(self) -> None:
        """Start the server if it does not run: again after stop() or kill(), under the same url.

        Raises:
            ServerError: it cannot start; the message ends with what it wrote.
        """
        if self._chosen:
            _check(type(self), self._chosen)
            return
        with _lock:
            if self.pid and (self.folder / self.socket).exists() and self._is_ready():
                return
            self._end(child.STOP)
            _started.add(self)
            if not self.folder.exists():
                self.folder = self._new_folder()
            give_up_at = time.monotonic() + _START_S
            try:
                while not self._launch():
                    problem = self._why_not()
                    if not self.leftover or self.leftover not in problem or time.monotonic() > give_up_at:
                        raise ServerError(problem)
            except BaseException:
                self._end(child.STOP)
                raise

    def stop(self) -> None:
        """Stop the server now, for all its users, and wait until it has ended; its files stay."""
        self._end(child.STOP)
        self._keep_files()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        self._end(child.KILL)
        self._keep_files()

    def close(self) -> None:
        """End the server, for all its users, and delete its files; start() makes them anew."""
        self._end(child.CLOSE)  # the supervisor deletes them, also when this process is killed meanwhile
        _started.discard(self)
        child.remove(self.folder)

    def _end(self, word: bytes) -> None:
        """End server and supervisor, if they run and are ours."""
        if self._chosen or self._owner != os.getpid():
            whose = f"is named by {self.variable}" if self._chosen else f"belongs to process {self._owner}"
            raise ServerError(f"this server {whose}: whoever started it can stop it, or start it again")
        with _lock:
            ending, self._child, self._pid = self._child, None, 0
            if ending is not None:
                ending.stop(word)

    def _launch(self) -> bool:
        """Start the supervisor; return whether the server is ready, and has not ended."""
        self._supervise(self.commands())
        return self._pid > 0 and self._is_ready()

    def _keep_files(self) -> None:
        """Start a supervisor of no server, which deletes the files if this process is killed meanwhile."""
        with _lock:
            if self in _started and self._child is None and self.folder.exists():
                self._supervise([])

    def _supervise(self, commands: list[list[str]]) -> None:
        task = {
            "owner": os.getpid(),
            "commands": commands,
            "user": self.account and self.account.pw_uid,
            "group": self.account and self.account.pw_gid,
            "stop": self.stop_signals,
            "folder": str(self.folder),
        }
        command = [sys.executable, "-I", "-S", child.__file__, json.dumps(task)]
        with (self.folder / "log").open("ab") as log:
            self._child = child.Child(command, stdout=subprocess.PIPE, stderr=log, cwd="/")
        assert self._child.process.stdout is not None
        with self._child.process.stdout as line:
            self._pid = int(line.readline() or 0)

    def _is_ready(self) -> bool:
        """Return whether the server answers before it ends; a slow one is waited for."""
        assert self._child is not None
        give_up_at = time.monotonic() + _START_S
        while time.monotonic() < give_up_at and not self._child.ends_within(_LOOK_EVERY_S):
            # Not ping(), which does as variables of the environment (PGOPTIONS, PGTZ) tell the library.
            if self.answers(self.probe):
                return True
        return False

    def answers(self, probe: bytes) -> bool:
        """Return whether it answers this as one that is ready does."""
        with contextlib.suppress(OSError), self.connected() as line:
            line.sendall(probe)
            return line.recv(16).startswith(self.ready)
        return False

    def _why_not(self) -> str:
        assert self._child is not None
        if not self._child.ends_within(1.0):
            return f"{self.name} in {self.folder} is not ready after {_START_S:.0f} s"
        return f"{self.name} ended with code {self._child.process.returncode}; it wrote: {self.wrote(4)}"

    def wrote(self, lines: int) -> str:
        """Return the last lines of its log as one."""
        log = (self.folder / "log").read_text(errors="replace").strip().splitlines()
        return " | ".join(log[-lines:]) or "nothing"

    def _new_folder(self) -> Path:
        """Make a private folder: where it was asked for, else in the temporary folder or one that will do."""
        problems = []
        usual = [Path(tempfile.gettempdir()).absolute(), Path("/tmp")]  # noqa: S108
        for parent in [self._parent] if self._parent not in (None, usual[0]) else usual:
            try:
                return self._folder_in(parent)
            except (OSError, ServerError) as error:
                problems.append(f"{parent}: {getattr(error, 'strerror', error)}")
        raise ServerError(
            f"there is no place for {self.name} ({'; '.join(problems)}); "
            "set TMPDIR to a folder with a short name where you can write"
        )

    def _folder_in(self, parent: Path) -> Path:
        if len(os.fsencode(parent / _PREFIX / "12345678" / self.socket)) > _LONGEST_SOCKET:
            raise ServerError("its name is too long for a socket")
        parent.mkdir(parents=True, exist_ok=True)
        if self.account and not is_open(parent):
            raise ServerError(f"{self.account.pw_name}, who runs the server, cannot enter it")
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        folder.chmod(0o711 if self.account else 0o700)  # that account gets through to its own in there
        return folder


class PortServer(Server):
    """A server on a free port of 127.0.0.1, as browsers and most clients need one."""

    url_form = "http://127.0.0.1:{port}"
    chosen_form = "http://host:port"
    stop_signals: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM,)
    leftover = "address already in use"

    def __init__(self, parent: Path | None, *, chosen: str = "") -> None:
        super().__init__(parent, chosen=chosen)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        """The address that its clients take; where it holds a password, print the server instead."""
        return self._chosen.rstrip("/") or self.url_form.format(port=self.port)

    def connected(self) -> Connection:
        """Return a connection to its port."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=1.0)

    def write(self, name: str, text: str) -> Path:
        """Write a file of its folder, which only this user can read, and return its path."""
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text, "utf-8")
        return path


_lock = threading.RLock()
_started: set[Server] = set()


def share(kind: type[Server], folder: Path | None = None) -> Server:
    """Return this process's server, or one for a named folder, started; or the one that was chosen."""
    chosen = "" if folder else os.environ.get(kind.variable, "")
    with _lock:
        shared = (one for one in _started if type(one) is kind and one.is_shared)
        found = None if folder or chosen else next(shared, None)
        server = found or kind(folder and folder.absolute(), chosen=chosen)
        server.start()
        return server


def _check(kind: type[Server], url: str) -> None:
    """Make sure that a chosen server answers; only such words are told of an error as hold no password."""
    try:
        kind.ping(url)
    except Exception as error:  # border: each client library has errors of its own
        problem = f"{type(error).__name__}, or it is not of the form {kind.chosen_form}"
        if type(error).__name__ == "OperationalError" and _ADDRESS.fullmatch(url):  # has host and port
            problem = str(error).partition("\n")[0]
        raise ServerError(
            f"the server that {kind.variable} names ({shown(url)}) does not answer: {problem}; "
            f"correct {kind.variable}, or unset it to use the course's own"
        ) from None


def is_open(path: Path) -> bool:
    """Return whether every user may run this program, or enter this folder."""
    return all(place.stat().st_mode & 0o001 for place in (path.resolve(), *path.resolve().parents))


def shown(url: str) -> str:
    """Return an address without what could be a password: the path of a socket, or host and port.

    >>> shown("redis://me:secret@cache.internal:6380/0?ssl_password=x")
    'cache.internal:6380/0'
    >>> shown("postgresql://me:secret@/shop?host=/run/postgresql&password=x")
    '/run/postgresql'
    """
    found = _ADDRESS.fullmatch(url)
    return (found["host"] or found["path"] or found["socket"]) if found else "an address that cannot be read"


def close_all() -> None:
    """End all servers of this process; done when it ends."""
    for server in list(_started):
        server.close()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it when this process was forked
    _started.clear()  # these are its parent's


atexit.register(close_all)
os.register_at_fork(after_in_child=_after_fork)
