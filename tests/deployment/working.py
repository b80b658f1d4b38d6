"""Worker processes for tests, which can be killed; each says on a line when it listens."""

from __future__ import annotations

import os
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
