"""A server of this process in a folder of its own: what Redis, PostgreSQL and later ones have in common.

Main path: a subclass names its program, socket and signals; start(), stop(), remove().
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from course_lib.errors import CourseError
from course_lib.services import supervisor
from course_lib.services.child import Child

_START_S = 60.0
_LOOK_EVERY_S = 0.005
_LONGEST_SOCKET = 100  # of the 104 to 108 bytes that the systems allow
_PREFIX = "course-server-"


class ServerError(CourseError):
    """A server cannot be started, stopped or reached."""


class Instance:
    """A server in a folder; at most one process of it runs at a time, under its supervisor."""

    name: ClassVar[str]
    variable: ClassVar[str]
    """The environment variable that names a server to use instead."""
    error: ClassVar[type[ServerError]]
    socket: ClassVar[str]
    """Its unix socket, below the folder."""
    url_form: ClassVar[str]
    """Its address, with {folder} in it."""
    probe: ClassVar[bytes]
    """What to send to it, and"""
    ready: ClassVar[bytes]
    """how the answer of a server that is ready begins."""
    stop_signals: ClassVar[tuple[signal.Signals, ...]] = ()
    """What ends it, politest first; SIGKILL follows."""
    leftover: ClassVar[str] = ""
    """What it writes when workers of a killed one are not gone yet, so that it can be tried again."""
    refuses_root: ClassVar[bool] = False

    def __init__(self, parent: Path | None, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.account = pwd.getpwnam("nobody") if self.refuses_root and os.geteuid() == 0 else None
        self.parent = parent
        self.folder = self._new_folder()
        self.owner = os.getpid()
        self.users = 0
        self.pid = 0
        self._child: Child | None = None

    def commands(self) -> list[list[str]]:
        """Prepare the folder, and return what to run there: perhaps a set-up, then the server."""
        raise NotImplementedError

    @classmethod
    def check(cls, url: str) -> None:
        """Make sure that the server which `variable` names answers."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The address that its client library takes."""
        return self.url_form.format(folder=quote(str(self.folder)))

    def is_running(self) -> bool:
        """Return whether the supervisor lives, and so the server."""
        return self._child is not None and self._child.is_running()

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers; a paused one goes on.

        Raises:
            ServerError: it does not come up.
        """
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)
            if (self.folder / self.socket).exists() and self._answers():
                return
        self.stop()
        if not self.folder.exists():
            self.folder = self._new_folder()
        give_up_at = time.monotonic() + _START_S
        try:
            while not self._launch():
                problem = self._why_not()
                if not self.leftover or self.leftover not in problem or time.monotonic() > give_up_at:
                    raise self.error(problem)
        except BaseException:
            self.stop()
            raise

    def _launch(self) -> bool:
        """Start the supervisor; return whether the server is ready, and has not ended."""
        task = {
            "owner": os.getpid(),
            "commands": self.commands(),
            "user": self.account and self.account.pw_uid,
            "group": self.account and self.account.pw_gid,
            "stop": self.stop_signals,
            "folder": str(self.folder),
        }
        command = [sys.executable, "-I", "-S", supervisor.__file__, json.dumps(task)]
        with (self.folder / "log").open("ab") as log:
            self._child = Child(command, stdout=subprocess.PIPE, stderr=log, cwd="/")
        assert self._child.process.stdout is not None
        with self._child.process.stdout as line:
            self.pid = int(line.readline() or 0)
        return self.pid > 0 and self._answers(self.ready)

    def _answers(self, start: bytes = b"") -> bool:
        """Return whether the server answers, and in this way, before it ends; a slow one is waited for."""
        assert self._child is not None
        give_up_at = time.monotonic() + _START_S
        while time.monotonic() < give_up_at:
            answer = self._answer()
            if answer and answer.startswith(start):
                return True
            if self._child.ends_within(_LOOK_EVERY_S):
                break
        return False

    def _answer(self) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(1.0)
            try:
                line.connect(str(self.folder / self.socket))
                line.sendall(self.probe)
                return line.recv(16)
            except OSError:
                return b""

    def _why_not(self) -> str:
        assert self._child is not None
        if not self._child.ends_within(1.0):
            return f"{self.name} in {self.folder} is not ready after {_START_S:.0f} s"
        lines = (self.folder / "log").read_text(errors="replace").strip().splitlines()[-4:]
        wrote = " | ".join(lines) or "nothing"
        return f"{self.name} ended with code {self._child.process.returncode}; it wrote: {wrote}"

    def stop(self, word: bytes = supervisor.STOP) -> None:
        """End server and supervisor, if they run; the folder stays."""
        child, self._child, self.pid = self._child, None, 0
        if child is not None:
            child.stop(word)

    def remove(self) -> None:
        """End the server and delete its folder."""
        self.stop(supervisor.REMOVE)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.parent:
            with contextlib.suppress(OSError):  # somebody else's files are in it
                self.parent.rmdir()

    def _new_folder(self) -> Path:
        """Make a private folder: where it was asked for, else in the temporary folder or one that will do."""
        usual = (tempfile.gettempdir(), "/tmp", "/var/tmp", os.environ.get("XDG_RUNTIME_DIR", "/run"))  # noqa: S108
        problems = []
        for parent in [self.parent] if self.parent else dict.fromkeys(map(Path, usual)):
            try:
                return self._folder_in(parent)
            except (OSError, ServerError) as error:
                problems.append(f"{parent}: {getattr(error, 'strerror', error)}")
        raise self.error(
            f"there is no place for {self.name} ({'; '.join(problems)}); "
            "set TMPDIR to a folder with a short name where you can write"
        )

    def _folder_in(self, parent: Path) -> Path:
        if len(os.fsencode(parent / _PREFIX / "12345678" / self.socket)) > _LONGEST_SOCKET:
            raise self.error("its name is too long for a socket")
        parent.mkdir(parents=True, exist_ok=True)
        if self.account and not is_open(parent):
            raise self.error(f"{self.account.pw_name}, who runs the server, cannot enter it")
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        folder.chmod(0o711 if self.account else 0o700)  # that account gets through to its own in there
        return folder


def is_open(path: Path) -> bool:
    """Return whether every user may run this program, or enter this folder."""
    return all(place.stat().st_mode & 0o001 for place in (path.resolve(), *path.resolve().parents))
