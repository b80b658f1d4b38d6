"""The process between an owner and its server: it ends the server when the owner is gone, however that died.

Main path: instance.py runs this file with a task, whose commands it runs; the last of them is the server.
It imports the standard library alone and starts in some 20 ms. The owner's end shows in the pipe, or in a new
parent where a forked copy of the owner still holds the pipe. When the supervisor itself is killed the system
signals the server, on Linux; elsewhere the server then stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any

STOP, KILL, REMOVE = b"s", b"k", b"r"
_LOOK_EVERY_S = 0.25
_PATIENCE_S = 3.0
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def wait_for_word(owner: int) -> bytes:
    """Return the word that the owner sends to this process's input, or b"" when the owner is gone."""
    while os.getppid() == owner:
        if select.select([0], [], [], _LOOK_EVERY_S)[0]:
            return os.read(0, 1)
    return b""


class Supervisor:
    """Runs the commands of a task one after the other, until one fails or the owner says a word."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        self.word: bytes | None = None
        """What the owner said; b"" when it is gone."""
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._libc: Any = None
        if sys.platform == "linux":
            import ctypes

            self._libc = ctypes.CDLL(None)

    def run(self) -> int:
        """Return the exit code of the server, or of the command before it that failed."""
        threading.Thread(target=self._obey, daemon=True).start()
        code = 0
        for command in self.task["commands"]:
            with self._lock:
                if self.word is not None:
                    break
                self._process = self._launch(command)
            if command is self.task["commands"][-1]:
                print(self._process.pid, flush=True)
            code = self._process.wait()
            if code:
                break
        return code

    def _launch(self, command: list[str]) -> subprocess.Popen[bytes]:
        # A locale that every system has: servers refuse to start with one that is not installed.
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("LC_", "LANG", "PG"))}
        return subprocess.Popen(  # noqa: S603  (the command comes from instance.py)
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # the log
            preexec_fn=self._prepare,
            cwd="/",
            env={**kept, "LC_ALL": "C"},
            user=self.task["user"],
            group=self.task["group"],
            extra_groups=None if self.task["user"] is None else [],
        )

    def _prepare(self) -> None:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)  # a shell in the background has some ignored
        if self._libc is not None:
            self._libc.prctl(_DEATH_SIGNAL, (self.task["stop"] or [signal.SIGKILL])[-1])

    def _obey(self) -> None:
        """Wait for a word, then end what runs: with each signal of the task in turn, then for good."""
        word = wait_for_word(self.task["owner"])
        with self._lock:
            self.word = word
        if self._process is None:
            return
        for number in () if word == KILL else self.task["stop"]:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)  # it may have been paused
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE_S)
                return
        self._process.kill()


def main(task: dict[str, Any]) -> int:
    """Supervise one server; returns its exit code when it has ended.

    Args:
        task: `owner` (a process number), `commands`, `user` and `group` (numbers or None), `stop` (signals
            that end the server, politest first), and `folder`, deleted at REMOVE or when the owner is gone.
    """
    supervisor = Supervisor(task)
    code = supervisor.run()
    if supervisor.word in (REMOVE, b"") or os.getppid() != task["owner"]:
        shutil.rmtree(task["folder"], ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
