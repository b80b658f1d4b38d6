"""A memory hit through dspy.Predict: the course's cache against DSPy's own, answer and model alike.

Run: python -m bench memory_hit (or this file). Nothing leaves the process once both caches are warm.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import dspy
from dspy.clients.cache import Cache

from bench.ratio import paired, report
from course_lib import desk, lm
from course_lib.caching import TieredCache

HITS = 300
ROUNDS = 25


def hit_us(cache: Any, program: Any, question: str) -> float:
    """Return the microseconds of one hit, from HITS in a row."""
    dspy.cache = cache
    start = time.perf_counter()
    for _ in range(HITS):
        program(question=question)
    return (time.perf_counter() - start) / HITS * 1e6


def lookup_us(cache: Any, request: dict[str, Any]) -> float:
    """Return the microseconds of one get() of the cache alone."""
    start = time.perf_counter()
    for _ in range(HITS):
        cache.get(request, ["api_key", "api_base", "base_url"])
    return (time.perf_counter() - start) / HITS * 1e6


class _Spy:
    """Remembers the request that DSPy makes, and passes it on."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.request = inner, {}

    def get(self, request: dict[str, Any], ignored: Any = None) -> Any:
        self.request = request
        return self.inner.get(request, ignored)

    def put(self, *args: Any) -> None:
        self.inner.put(*args)


def main() -> bool:
    ours = TieredCache()
    theirs = Cache(enable_disk_cache=False, enable_memory_cache=True, disk_cache_dir=None)
    program = dspy.ChainOfThought("question -> answer")
    question = desk.tickets("dev")[0].text
    holds = True
    with dspy.context(lm=lm.connect("sim-large"), disable_history=True):
        for cache in (ours, theirs):
            dspy.cache = spy = _Spy(cache)
            program(question=question)
        whole = paired(
            lambda: hit_us(ours, program, question), lambda: hit_us(theirs, program, question), rounds=ROUNDS
        )
        holds &= report("memory hit through ChainOfThought", whole, unit="us", at_most=1.0)
        alone = paired(
            lambda: lookup_us(ours, spy.request), lambda: lookup_us(theirs, spy.request), rounds=ROUNDS
        )
        holds &= report("get() alone", alone, unit="us", at_most=1.0)
    return holds


if __name__ == "__main__":
    sys.exit(not main())
