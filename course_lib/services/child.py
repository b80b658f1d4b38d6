"""A process of ours that ends with this one, whatever ends this one: the owner's side, and the supervisor's.

Main path: Child(command) starts it, stop() ends it; inside, end_with_owner() waits for the word.
A server that is not ours cannot ask: between it and its owner stands this file as a process, supervise(task).
The owner's end shows in the pipe, or in a new parent where a forked copy of the owner still holds the pipe.
When the supervisor itself is killed the system signals the server, and when the owner is, a paused child: on
Linux; elsewhere these stay.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

STOP, KILL, CLOSE = b"s", b"k", b"c"
_STOP_S = 10.0
_LOOK_EVERY_S = 0.25
_PATIENCE_S = 3.0
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


class Child:
    """A running child; a forked copy of its owner can look at it, and not end it."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        """Start the command; the options are those of subprocess.Popen."""
        self._owner = os.getpid()
        self.process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603  (our own programs)
            command,
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # an interrupt of the notebook is not meant for it
            **options,
        )

    def is_running(self) -> bool:
        """Return whether it runs; a forked copy of its owner cannot know and says yes."""
        return os.getpid() != self._owner or self.process.poll() is None

    def ends_within(self, limit_s: float) -> bool:
        """Return whether it has ended, or does so in time."""
        if os.getpid() == self._owner:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(limit_s)
        return not self.is_running()

    def stop(self, word: bytes = STOP, patience_s: float = _STOP_S) -> bool:
        """Tell it to end, and wait until it has; return whether it was ours to end.

        Args:
            word: what it is told.
            patience_s: how long it may take; then it is killed.
        """
        if os.getpid() != self._owner:
            return False
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError), self.process.stdin as pipe:
            pipe.write(word)  # an error: it has ended, or was stopped before
        if not self.ends_within(patience_s):
            self.process.kill()
            self.process.wait()
        return True


# -- in the child ----------------------------------------------------------------------------------------


def next_word(owner: int, *others: int) -> bytes | None:
    """Return the word that the owner sent to this process's input, b"" when the owner is gone.

    None means that a while has passed without a word, or that something was written to one of the others.
    """
    _at_parents_end(signal.SIGCONT)  # one that was paused wakes up and sees it; to others it means nothing
    if os.getppid() != owner:
        return b""
    readable = select.select([0, *others], [], [], _LOOK_EVERY_S)[0]
    for file in set(readable) & set(others):
        os.read(file, 64)
    return os.read(0, 1) if 0 in readable else None


def end_with_owner(owner: int, end: Callable[[bytes], object] = lambda _: os._exit(0)) -> None:
    """Call `end` in a thread with the owner's word, or with b"" when the owner is gone."""

    def watch() -> None:
        while (word := next_word(owner)) is None:
            pass
        end(word)

    threading.Thread(target=watch, daemon=True).start()


def supervise(task: dict[str, Any]) -> int:
    """Run a server until it ends, or until its owner says a word or is gone; return the exit code.

    Args:
        task: `owner` (a process), `commands` (the last is the server, those before it set up; none: there are
            only files to delete), `user` and `group` (or None), `stop` (signals, politest first), `folder`
            (deleted when the owner closes the server, or is gone).
    """
    ended, written = os.pipe()  # a child's end is written to it, so that nothing has to poll
    os.set_blocking(written, False)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # only with a handler does the system tell
    word, code = None, 0
    if not task["commands"]:
        print(0, flush=True)
        while word is None:
            word = next_word(task["owner"])
    for number, command in enumerate(task["commands"], 1):
        process = _launch(command, task)
        if number == len(task["commands"]):
            print(process.pid, flush=True)
        while process.poll() is None and word is None:
            word = next_word(task["owner"], ended)
        if word is not None:
            _end(process, [] if word == KILL else task["stop"])
        code = process.wait()
        if code or word is not None:
            break
    if word in (b"", CLOSE) or os.getppid() != task["owner"]:
        remove(task["folder"])
    return code


def remove(folder: str | os.PathLike[str]) -> None:
    """Delete a folder; again for a while, since workers of a killed server may still write to it."""
    give_up_at = time.monotonic() + _STOP_S
    while os.path.lexists(folder) and time.monotonic() < give_up_at:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.01)


def _launch(command: list[str], task: dict[str, Any]) -> subprocess.Popen[bytes]:
    # A locale that every system has: servers refuse to start with one that is not installed.
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("LC_", "LANG", "PG"))}
    return subprocess.Popen(  # noqa: S603  (the command comes from server.py)
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,  # the log
        preexec_fn=partial(_prepare, (task["stop"] or [signal.SIGKILL])[-1]),
        cwd="/",
        env={**kept, "LC_ALL": "C"},
        user=task["user"],
        group=task["group"],
        extra_groups=None if task["user"] is None else [],
    )


def _prepare(death_signal: int) -> None:
    """Make a process ready to become a server, which gets this signal when its supervisor is killed."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a shell in the background has some ignored
    _at_parents_end(death_signal)


def _at_parents_end(number: int) -> None:
    """Let the system, if it is Linux, signal this process when the thread or process that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, number)


def _end(process: subprocess.Popen[bytes], signals: Sequence[int]) -> None:
    """End a process: with each of these signals in turn, then for good."""
    for number in (*signals, signal.SIGKILL):
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # it may have been paused
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE_S)
            return


if __name__ == "__main__":
    sys.exit(supervise(json.loads(sys.argv[1])))
