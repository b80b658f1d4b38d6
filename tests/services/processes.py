"""Looking at processes, and starting one that has a server of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from course_lib.paths import ROOT

_USER = """
import os, signal, sys, threading, time
from course_lib.services import (
    running_alertmanager, running_gateway, running_postgres, running_prometheus, running_queue, running_redis,
    running_traces,
)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
server = running_{kind}({options})
print(server.pid, server.folder, sep="\\n", flush=True)
"""


def process_field(pid: int, name: str) -> str:
    command = ["ps", "-o", f"{name}=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def is_alive(pid: int) -> bool:
    return process_field(pid, "stat")[:1] not in ("", "Z")


def happens(condition: Callable[[], bool], within_s: float = 60.0) -> bool:
    """Wait for a condition; the limit is for a failure to be told, also on a machine under load."""
    give_up_at = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the end of the block, and kill it then: a failure is told at once."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


class User:
    """A Python that has started a server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = 0
        self.folder = Path()

    def wait_until_up(self) -> None:
        self.pid = int(self.line() or 0)
        self.folder = Path(self.line())
        assert self.pid, f"no server came up; code {self.process.wait()}"

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def leave(self) -> None:
        """Let it run to its end; returns at once."""
        assert self.process.stdin
        self.process.stdin.close()

    def has_left_nothing(self) -> bool:
        return happens(lambda: not is_alive(self.pid) and not self.folder.exists())


@contextmanager
def user_of(
    kind: str,
    then: str = "",
    *,
    env: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    options: str = "",
    is_up: bool = True,
) -> Iterator[User]:
    """Run a Python that starts a server, does `then` and waits for the end of its input."""
    code = f"{_USER.format(kind=kind, options=options)}{then}\nsys.stdin.read()"
    with running(
        [*prefix, sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
    ) as process:
        user = User(process)
        if is_up:
            user.wait_until_up()
        yield user
