"""Worker processes for tests, which can be killed; each says on a line when it listens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from course_lib.paths import ROOT

_WORKER = """
import asyncio, os, sys
from course_lib.deployment.store import Store
from course_lib.deployment.worker import Worker, run_until_told
{answer}
async def main():
    async with await Store.open(os.environ["TEST_DATABASE"], deadline_s=5) as store:
        worker = Worker(os.environ["TEST_QUEUE"], store, answer, {options})
        await run_until_told(worker, ready=lambda: print("ready", flush=True))
asyncio.run(main())
"""
ECHO = """
async def answer(tenant, customer, program, version, given):
    await asyncio.sleep(given.get("wait_s", 0.0))
    if given.get("poison"):
        raise ValueError("what a customer wrote")
    if given.get("kills"):
        os._exit(9)
    return {"text": given["text"].upper()}
"""
OPTIONS = "waits_s=(0.1, 0.2), ack_s=2.0"


def started(
    queue_url: str, database_url: str, answer: str = ECHO, options: str = OPTIONS
) -> subprocess.Popen[str]:
    """Start a worker process; it is ready when it has written a line."""
    code = _WORKER.format(answer=answer, options=options)
    env = {**os.environ, "TEST_QUEUE": queue_url, "TEST_DATABASE": database_url}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert process.stdout.readline() == "ready\n", f"it ended with {process.wait()}"


def ended(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()


@contextmanager
def worker(
    queue_url: str, database_url: str, answer: str = ECHO, options: str = OPTIONS
) -> Iterator[subprocess.Popen[str]]:
    """Run a worker process until the end of the block."""
    process = started(queue_url, database_url, answer, options)
    try:
        wait_until_ready(process)
        yield process
    finally:
        ended(process)


_POOL = """
import os, signal, sys
from course_lib.deployment import queue, store, worker  # once, since it takes two seconds
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
code = compile(sys.stdin.readline() and os.environ["TEST_WORKER"], "worker", "exec")
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        sys.stdin.close()
        exec(code, {"__name__": "__main__"})
        os._exit(0)
    print(pid, flush=True)
"""


class Pool:
    """Worker processes, copied from one that has imported everything, so that many can be killed."""

    def __init__(
        self, queue_url: str, database_url: str, answer: str, options: str = OPTIONS, **env: str
    ) -> None:
        code = _WORKER.format(answer=answer, options=options).replace('print("ready", flush=True)', "None")
        env = {
            **os.environ,
            "TEST_QUEUE": queue_url,
            "TEST_DATABASE": database_url,
            "TEST_WORKER": code,
            **env,
        }
        self._pool = subprocess.Popen(
            [sys.executable, "-c", _POOL],
            env=env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._say("begin")
        self.pid = 0

    def _say(self, line: str) -> None:
        assert self._pool.stdin
        self._pool.stdin.write(line + "\n")
        self._pool.stdin.flush()

    def start(self) -> int:
        """Start one more worker, and return its process number."""
        assert self._pool.stdout
        self._say("one more")
        self.pid = int(self._pool.stdout.readline())
        return self.pid

    def is_up(self) -> bool:
        """Return whether the worker that was started last runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def __enter__(self) -> Pool:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._pool.pid, signal.SIGKILL)
        self._pool.communicate()
