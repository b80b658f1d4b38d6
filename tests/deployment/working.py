"""Worker processes for tests, which can be killed: copies of one that has imported everything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from course_lib.paths import ROOT
from course_lib.services.queue import RABBITMQ

needs_rabbitmq = pytest.mark.skipif(not RABBITMQ.exists(), reason="RabbitMQ is not installed")
OFTEN = ["nats", pytest.param("rabbitmq", marks=[pytest.mark.soak, needs_rabbitmq])]
"""Kinds of queue. RabbitMQ takes four seconds of a core to start, and the worker is the same on both."""

_WORKER = """
import asyncio, os, sys
from course_lib.deployment.store import Store
from course_lib.deployment.worker import Worker, run_until_told
{answer}
async def main():
    async with await Store.open(os.environ["TEST_DATABASE"], deadline_s=5) as store:
        worker = Worker(os.environ["TEST_QUEUE"], store, answer, {options})
        await run_until_told(worker, ready=ready)
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

_SEED = """
import json, os, signal, sys
from course_lib.deployment import queue, store, worker  # once, since it takes two seconds
for line in sys.stdin:
    told = json.loads(line)
    if "pid" in told:
        pid, status = os.waitpid(told["pid"], os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
        continue
    heard, ready = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(heard)
        os.environ.update(told["env"])
        exec(compile(told["code"], "worker", "exec"), {"ready": lambda: os.write(ready, b"r")})
        os._exit(0)
    os.close(ready)
    is_ready = os.read(heard, 1) == b"r"  # nothing: it has ended before
    os.close(heard)
    print(json.dumps([pid, is_ready]), flush=True)
os.killpg(0, signal.SIGKILL)
"""


class Seed:
    """A process that becomes as many workers as are asked for; all end with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SEED],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, **told: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps(told) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


class WorkerProcess:
    """A worker on these servers; it listens, or has ended, when start() returns, and can be started again."""

    def __init__(
        self,
        seed: Seed,
        queue_url: str,
        database_url: str,
        answer: str = ECHO,
        options: str = OPTIONS,
        **env: str,
    ) -> None:
        self._seed = seed
        self.code: int | None = None
        self._told = {
            "code": _WORKER.format(answer=answer, options=options),
            "env": {"TEST_QUEUE": queue_url, "TEST_DATABASE": database_url, **env},
        }
        self.start()

    def start(self) -> None:
        (self.pid, self.was_ready), self.code = self._seed.ask(**self._told), None

    def is_up(self) -> bool:
        if self.code is None:
            self.code = self._seed.ask(pid=self.pid)
        return self.code is None

    def send_signal(self, number: int) -> None:
        if self.is_up():
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait until it has ended, and return how: the exit code, or minus the signal's number."""
        while self.is_up():
            time.sleep(0.02)
        assert self.code is not None
        return self.code


@contextmanager
def worker(seed: Seed, *urls: str, **options: str) -> Iterator[WorkerProcess]:
    """Run a worker until the end of the block."""
    process = WorkerProcess(seed, *urls, **options)
    try:
        assert process.was_ready, f"it ended with {process.wait()}"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
