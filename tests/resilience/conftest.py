"""A clock that moves only when a test says so."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def fork(check: Callable[[], bool]) -> int:
    """Return the process that a fork makes; it ends with 0 if `check` holds there within 20 s."""
    if pid := os.fork():
        return pid
    holds = False
    try:
        signal.alarm(20)
        asyncio.events._set_running_loop(None)
        holds = check()
    finally:
        os._exit(not holds)


def ended_well(pid: int) -> bool:
    return os.waitpid(pid, 0)[1] == 0
