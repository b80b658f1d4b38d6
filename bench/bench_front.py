"""What the front costs and saves: hits, sync and async, against plain DSPy; a crowd against one caller.

The limit on acall is for hits of the LM. Through a program, DSPy's adapter changes threads once in every
acall to look up the model's capabilities, hit or miss. No documented way spares that to an engine named by a
word, so those figures have no limit; what the change of threads costs is measured and told.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.ratio import paired, report

ROUNDS = 25
TURNS = 30
ACALL_AT_MOST = 1.5
CROWD = 500


def seconds(call: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    for _ in range(TURNS):
        call()
    return (time.perf_counter() - begun) / TURNS * 1e6


async def seconds_in_task(call: Callable[[], Awaitable[Any]]) -> float:
    begun = time.perf_counter()
    for _ in range(TURNS):
        await call()
    return (time.perf_counter() - begun) / TURNS * 1e6


def main() -> bool:
    import dspy
    from dspy.clients.cache import Cache

    from course_lib import lm
    from course_lib.caching.cache import TieredCache

    folder = tempfile.TemporaryDirectory(prefix="course-bench-")
    theirs = Cache(enable_disk_cache=True, enable_memory_cache=True, disk_cache_dir=folder.name)
    ours, former = TieredCache(), dspy.cache
    plain = lm.connect()
    front = ours.front(plain)
    loop = asyncio.new_event_loop()

    def under(cache: Any, measure: Callable[[], float]) -> float:
        dspy.cache = cache
        return measure()

    def task(call: Callable[[], Awaitable[Any]]) -> float:
        return loop.run_until_complete(seconds_in_task(call))

    question = "How long does express delivery take?"
    ask_plain, ask_front = dspy.Predict("question -> answer"), dspy.Predict("question -> answer")
    ask_plain.set_lm(plain)
    ask_front.set_lm(front)
    for cache, model, ask in ((theirs, plain, ask_plain), (ours, front, ask_front)):
        dspy.cache = cache
        model(question), ask(question=question)
        loop.run_until_complete(model.acall(question))
        loop.run_until_complete(ask.acall(question=question))

    def sync_plain() -> float:
        return under(theirs, lambda: seconds(lambda: plain(question)))

    def sync_front() -> float:
        return under(ours, lambda: seconds(lambda: front(question)))

    def async_plain() -> float:
        return under(theirs, lambda: task(lambda: plain.acall(question)))

    def async_front() -> float:
        return under(ours, lambda: task(lambda: front.acall(question)))

    def program_sync_plain() -> float:
        return under(theirs, lambda: seconds(lambda: ask_plain(question=question)))

    def program_sync() -> float:
        return under(ours, lambda: seconds(lambda: ask_front(question=question)))

    def program_async() -> float:
        return under(ours, lambda: task(lambda: ask_front.acall(question=question)))

    def program_async_plain() -> float:
        return under(theirs, lambda: task(lambda: ask_plain.acall(question=question)))

    def without_hop() -> float:
        """Measure with the adapter's look-up in a thread taken out, which shows what it costs."""
        from dspy.clients import capabilities

        async def nothing(_: Any) -> None: ...

        former, capabilities.prepare_async = capabilities.prepare_async, nothing
        try:
            return program_async()
        finally:
            capabilities.prepare_async = former

    rounds: dict[str, Any] = {"rounds": ROUNDS}
    try:
        holds = report(
            "memory hit of the LM, sync, against plain DSPy",
            paired(sync_front, sync_plain, **rounds),
            unit="us",
        )
        holds &= report(
            "memory hit of the LM, acall against sync (fronted)",
            paired(async_front, sync_front, **rounds),
            unit="us",
            at_most=ACALL_AT_MOST,
        )
        report("  the same in plain DSPy", paired(async_plain, sync_plain, **rounds), unit="us")
        report(
            "memory hit through Predict, sync, against plain DSPy",
            paired(program_sync, program_sync_plain, **rounds),
            unit="us",
        )
        report(
            "memory hit through Predict, acall against sync (fronted; the adapter changes threads)",
            paired(program_async, program_sync, **rounds),
            unit="us",
        )
        report(
            "  the same in plain DSPy",
            paired(program_async_plain, program_sync_plain, **rounds),
            unit="us",
        )
        report(
            "  without the adapter's change of threads (dspy.clients.capabilities.prepare_async)",
            paired(without_hop, program_sync, **rounds),
            unit="us",
        )
        holds &= _crowd(ours, lm)
    finally:
        dspy.cache = former
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        folder.cleanup()
    return holds


def _crowd(cache: Any, lm: Any) -> bool:
    """Show that a crowd with one question costs one request, and hardly more time than one caller."""
    import dspy

    lm.profile("bench-late", ttft_p50_ms=300, ttft_p99_ms=301)
    model = cache.front(lm.connect("sim-large@bench-late"))
    dspy.cache = cache
    numbers = iter(range(10**6))

    async def ask(callers: int) -> float:
        question, begun = f"Bench question {next(numbers)}?", time.perf_counter()
        await asyncio.gather(*(model.acall(question) for _ in range(callers)))
        return time.perf_counter() - begun

    before = lm.ledger().requests
    ratio = paired(lambda: asyncio.run(ask(CROWD)), lambda: asyncio.run(ask(1)), rounds=3)
    report(f"{CROWD} callers with one question, against one caller", ratio, unit="s")
    requests = lm.ledger().requests - before
    print(f"  {requests} requests for {4 * (CROWD + 1)} calls, with 8 questions")
    return bool(requests == 8)


if __name__ == "__main__":
    raise SystemExit(not main())
