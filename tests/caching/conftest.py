"""What the tests of the cache share: a slow model, a cache for one test, crowds, and a second process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import dspy
import pytest

from course_lib import lm
from course_lib.caching import CachedLM, SingleFlight, TieredCache


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        return self.now_s


def slow_model(late_ms: float = 150) -> dspy.LM:
    """The course's model, a moment late."""
    lm.connect()
    lm.profile("late", ttft_p50_ms=late_ms, ttft_p99_ms=late_ms + 1)
    lm.reset()
    return lm.connect("sim-large@late")


@pytest.fixture
def give_dspy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[TieredCache], TieredCache]]:
    """Put a cache under DSPy for one test; it is closed at the end."""
    with ExitStack() as ends:

        def give(cache: TieredCache) -> TieredCache:
            ends.callback(cache.close)
            monkeypatch.setitem(vars(dspy), "cache", cache)
            return cache

        yield give


@pytest.fixture
def cache(give_dspy: Callable[[TieredCache], TieredCache]) -> TieredCache:
    """A cache in memory, under DSPy."""
    return give_dspy(TieredCache())


@pytest.fixture
def model(cache: TieredCache) -> CachedLM:
    """A slow model with a front."""
    return cache.front(slow_model())


def until(holds: Callable[[], bool], what: str = "", *, deadline_s: float = 20.0) -> None:
    """Wait until something holds."""
    end_s = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end_s, f"it never came to this: {what}"
        time.sleep(0.005)


def waiters(flight: SingleFlight, key: Hashable = "k") -> int:
    """Return how many callers wait for the call of that key."""
    in_flight = flight._calls.get(key)
    outcome: Any = in_flight.outcome if in_flight else Future()
    return len(outcome._condition._waiters) + len(outcome._done_callbacks)


def waiting(cache: TieredCache, callers: int) -> None:
    """Wait until that many callers wait for a leader."""
    flight = cache.single_flight
    until(lambda: sum(waiters(flight, key) for key in list(flight._calls)) >= callers, "they wait")


def under_way(cache: TieredCache) -> None:
    """Wait until somebody leads."""
    until(lambda: len(cache.single_flight) > 0, "somebody leads")


PREAMBLE = """
import asyncio, os, sys, time
import dspy
from course_lib import lm
from course_lib.caching import TieredCache
cache = dspy.cache = TieredCache(redis_url=sys.argv[1])
model = cache.front(lm.connect("sim-large@late"))
"""


def second_process(redis_url: str, code: str) -> subprocess.Popen[str]:
    """Start a Python on the same endpoint and Redis, with `model` and `cache`; begin() lets it go on."""
    program = PREAMBLE + "print('ready', flush=True)\nsys.stdin.readline()\n" + textwrap.dedent(code)
    started = subprocess.Popen(
        [sys.executable, "-c", program, redis_url],
        env=os.environ | {"COURSE_LM_URL": lm.url(), "COURSE_LM_KEY": lm.key()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert read_line(started) == "ready"
    return started


def read_line(process: subprocess.Popen[str]) -> str:
    """Return the next line that a second process writes."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def begin(process: subprocess.Popen[str]) -> None:
    """Let a second process begin."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
