"""The process that keeps a PostgreSQL running while somebody uses it, and stops it when nobody does.

Main path: run as a script by postgres.py; starts the server (or takes over one that runs), reports "ready",
leaves the starter's session, and then waits for the lock that every user of the server holds a share of.
The system drops a process's share however it dies, so the server ends with its last user, killed or not.
It imports nothing but the standard library: it starts in some 30 ms, and outlives the checkout's changes.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_START_S = 30.0
_STOP_S = 10.0
_LOOK_EVERY_S = 0.1
_BUSY = "pre-existing shared memory block"


def open_lock(path: Path) -> int:
    """Open a lock file that only its owner can open; closing the descriptor gives the lock back."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def postmaster(data: Path) -> tuple[int, bool] | None:
    """Return the server's process id and whether it takes connections; None when its file is not there."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        return int(lines[0]), len(lines) > 7 and lines[7].strip() == "ready"
    except (FileNotFoundError, IndexError, ValueError):  # not there, or being written just now
        return None


def is_alive(pid: int) -> bool:
    """Return whether a process with this number exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _Keeper:
    """One server and the lock of its users."""

    def __init__(self, folder: Path, command: list[str], uid: int | None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.command = command
        self.uid = uid
        self.server: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start the server, or take over one that is running; return "ready" or what went wrong."""
        give_up_at = time.monotonic() + _START_S
        while time.monotonic() < give_up_at:
            seen = postmaster(self.data)
            if seen and seen[1] and is_alive(seen[0]):
                return "ready"
            if self.server is None:
                self._launch()
            elif self.server.poll() is not None:
                if _BUSY not in self._last_words():  # the workers of a killed server need a moment to leave
                    return f"it ended with code {self.server.returncode}"
                self.server = None
            time.sleep(0.02)
        return f"it was not ready after {_START_S:.0f} s"

    def _launch(self) -> None:
        log = self.folder / "log"
        with log.open("wb") as words:
            self.server = subprocess.Popen(  # noqa: S603  (the command comes from postgres.py)
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self.uid,
                group=None if self.uid is None else pwd.getpwuid(self.uid).pw_gid,
                extra_groups=None if self.uid is None else [],
                cwd=self.data,
            )

    def _last_words(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def stop(self) -> None:
        """Stop the server: politely, then for good."""
        for sign, patience_s in ((signal.SIGINT, _STOP_S), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 2.0)):
            seen = postmaster(self.data)
            pid = self.server.pid if self.server else seen[0] if seen else 0
            if not self._is_running(pid):
                return
            os.kill(pid, sign)
            give_up_at = time.monotonic() + patience_s
            while self._is_running(pid) and time.monotonic() < give_up_at:
                time.sleep(0.01)

    def leave(self, *_signal: object) -> None:
        """Stop the server and end: the machine is shutting down, say."""
        self.stop()
        os._exit(0)

    def _is_running(self, pid: int) -> bool:
        if self.server is not None:
            return self.server.poll() is None
        return pid > 0 and is_alive(pid)

    def watch(self) -> None:
        """Leave when the server ends by itself; the keeper's own lock goes with it."""
        pid = self.server.pid if self.server else (postmaster(self.data) or (0, False))[0]
        while self._is_running(pid):
            time.sleep(_LOOK_EVERY_S)
        os._exit(0)


def main(folder: Path, uid: int | None, command: list[str]) -> None:
    """Keep the server of `folder`; returns when it has been stopped."""
    own = open_lock(folder / "keeper.lock")
    fcntl.flock(own, fcntl.LOCK_EX)
    if os.fork():
        os._exit(0)  # the starter waits for the output to end, not for a process
    os.setsid()
    keeper = _Keeper(folder, command, uid)
    report = keeper.start()
    if report != "ready":
        keeper.stop()
        os.close(own)  # before the report: the next try must not take this keeper for alive
    print(report, flush=True)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    if report != "ready":
        return
    signal.signal(signal.SIGTERM, keeper.leave)
    threading.Thread(target=keeper.watch, daemon=True).start()
    users = open_lock(folder / "users.lock")
    fcntl.flock(users, fcntl.LOCK_EX)  # granted when the last user is gone
    keeper.stop()
    os.close(own)  # before the users' lock: who comes next must not take this one for alive
    os.close(users)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2] else None, sys.argv[3:])
