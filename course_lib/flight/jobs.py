"""The worker's process: it runs one Worker, is killed by the script, and is started again.

Main path: with WorkerProcess(make, servers) as worker: worker.kill(); await worker.kept_running() beside it.
What makes the worker comes through the process's own pipe (cloudpickle), from its owner and nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import cloudpickle  # type: ignore[import-untyped]
import redis

from course_lib import lm
from course_lib.flight.parts import Servers, Worker
from course_lib.flight.reference import STREAM
from course_lib.paths import ROOT
from course_lib.services.child import Child, end_with_owner

_CODE = (
    "import sys; sys.path.insert(0, {root!r}); from course_lib.flight.jobs import main; main({owner}, {size})"
)
_READY = b"r"
_MOST_STARTS = 5
_TRACEBACK = re.compile(r"^Traceback .*\n(?: .*\n)*([\w.]+)", re.MULTILINE)


class WorkerProcess:
    """A worker that is there until it is killed, and then again."""

    def __init__(self, make: Callable[[Servers], Worker], servers: Servers) -> None:
        self._task = cloudpickle.dumps((make, servers))
        self._log = servers.folder / "worker.log"
        self._child: Child | None = None
        self.starts = 0

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.process.kill()
            self._child.stop()

    def _start(self) -> None:
        self.starts += 1
        code = _CODE.format(root=str(ROOT), owner=os.getpid(), size=len(self._task))
        environment = {**os.environ, "COURSE_LM_URL": lm.url(), "COURSE_LM_KEY": lm.key()}
        with self._log.open("ab") as log:
            self._child = Child(
                [sys.executable, "-P", "-c", code], stdout=subprocess.DEVNULL, stderr=log, env=environment
            )
        assert self._child.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.process.stdin.write(self._task)

    def kill(self) -> None:
        """Kill it as the system does when memory runs out."""
        if self._child is not None:
            self._child.process.kill()

    async def keep_running(self) -> None:
        """Start it again whenever it has ended; a worker that fails each time is left alone at last."""
        while self.starts < _MOST_STARTS:
            await asyncio.sleep(0.2)
            if self._child is not None and not self._child.is_running():
                self._child.stop()
                self._start()


def outbox(folder: Path) -> Counter[str]:
    """Return how often each job was done."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_opened(folder / "outbox.db")) as connection:
        return Counter(row[0] for row in connection.execute("select id from outbox"))
    return Counter()


def raised(folder: Path) -> Counter[str]:
    """Return how often the worker's log tells of an error, by its class."""
    log = (folder / "worker.log").read_text("utf-8", errors="replace")
    return Counter(name.rpartition(".")[2] for name in _TRACEBACK.findall(log))


def waiting(url: str) -> int:
    """Return how many jobs wait, or were given to a worker and not acknowledged."""
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        groups: Any = client.xinfo_groups(STREAM) if client.exists(STREAM) else []
        unread = int(client.xlen(STREAM)) if not groups else 0
        return unread + sum(int(each["pending"]) + int(each["lag"] or 0) for each in groups)


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)


# -- in the child --------------------------------------------------------------------------------------


def main(owner: int, size: int) -> None:
    """Run the worker that comes through the pipe, until the owner is gone or says a word."""
    with os.fdopen(os.dup(0), "rb", buffering=0) as pipe:
        task = b""
        while len(task) < size:
            part = pipe.read(size - len(task))
            if not part:
                return
            task += part
    make, servers = pickle.loads(task)  # noqa: S301  (from the owner's own pipe)
    end_with_owner(owner)

    async def run() -> None:
        await make(servers).run()

    asyncio.run(run())
