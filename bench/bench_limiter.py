"""The adaptive limiter at a hidden limit that doubles and halves, beside limiters that were told a rate.

All of them ask at the same time, each an endpoint's model with a limit of its own: one that is told the true
limit (by aiolimiter where it is installed, else by TokenBucket), and fixed ones of half and twice the first.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.ratio import Ratio, report

PHASE_S, SETTLES_S = 25.0, 10.0
LIMITS = (20.0, 40.0, 20.0)
"""Requests per second that the model allows, phase by phase."""
SHARE_AT_LEAST, REFUSED_AT_MOST = 0.9, 0.02
CALLERS = 24

Acquire = Callable[[], Awaitable[Any]]
Log = list[tuple[float, bool]]


def paced(rate_per_s: float) -> Acquire:
    """Return what waits for a fixed rate, evenly spaced."""
    try:
        from aiolimiter import AsyncLimiter
    except ImportError:
        from course_lib.resilience import TokenBucket

        return TokenBucket(rate_per_s, 1.0).acquire
    return AsyncLimiter(1, 1 / rate_per_s).acquire  # type: ignore[no-any-return]


def told(phase_s: float) -> Acquire:
    """Return what waits for the true limit of each phase."""
    begun, limiters = time.monotonic(), [paced(limit) for limit in LIMITS]

    async def acquire() -> None:
        phase = min(int((time.monotonic() - begun) / phase_s), len(LIMITS) - 1)
        await limiters[phase]()

    return acquire


async def ask(model: Any, acquire: Acquire, until_s: float) -> Log:
    """Ask as fast as the limiter allows; return when each answer came, and whether it was no refusal."""
    import dspy

    from course_lib.concurrency.runner import AsyncRunner

    log, begun = Log(), time.monotonic()

    async def one(number: int) -> None:
        await acquire()
        is_let_through = True
        try:
            await model.acall(f"Question {number}?")
        except dspy.LMRateLimitError:
            is_let_through = False
        log.append((time.monotonic() - begun, is_let_through))

    runner = AsyncRunner(CALLERS, deadline_s=until_s)
    try:
        async for outcome in runner.stream(one, itertools.count(), in_order=False):
            assert outcome.ok or isinstance(outcome.error, TimeoutError), outcome.error
    except TimeoutError:
        return log
    raise AssertionError


async def side_by_side(phase_s: float) -> dict[str, Log]:
    from course_lib import lm
    from course_lib.concurrency.limits import AdaptiveLimiter, limited

    async def at_once() -> None: ...

    limiter = AdaptiveLimiter()
    waits = {
        "adaptive": at_once,
        "told": told(phase_s),
        "half": paced(LIMITS[0] / 2),
        "twice": paced(LIMITS[0] * 2),
    }
    asking = {}
    for name, acquire in waits.items():
        phases = [(n * phase_s, (n + 1) * phase_s, limit) for n, limit in enumerate(LIMITS)]
        timeline = [(begin, end, {"limit_requests_per_s": limit}) for begin, end, limit in phases]
        lm.profile(f"bench-{name}", limit_requests_per_s=LIMITS[-1], timeline=timeline)
        model = lm.connect(f"sim-large@bench-{name}", cache=False, num_retries=0)
        model = limited(model, limiter) if name == "adaptive" else model
        asking[name] = ask(model, acquire, phase_s * len(LIMITS))
    return dict(zip(asking, await asyncio.gather(*asking.values()), strict=True))


def main(phase_s: float = PHASE_S) -> bool:
    from course_lib import lm

    lm.connect()
    logs, results = asyncio.run(side_by_side(phase_s)), []
    for phase, limit in enumerate(LIMITS):
        after_s = min(SETTLES_S, phase_s / 2)
        span = phase * phase_s + after_s, (phase + 1) * phase_s
        told_per_s = figures(logs["told"], *span)[0]  # on a busy machine nobody reaches the limit
        for name, log in logs.items():
            passed_per_s, refused, requests = figures(log, *span)
            what, is_ours = f"{name}, limit {limit:g} since {after_s:g} s", name == "adaptive"
            used = Ratio(passed_per_s, told_per_s, *[passed_per_s / told_per_s] * 3)
            lost = Ratio(refused, requests, *[refused / requests] * 3)
            limits = (SHARE_AT_LEAST, REFUSED_AT_MOST) if is_ours else (None, None)
            results.append(report(f"{what}, to the told one", used, unit="requests/s", at_least=limits[0]))
            results.append(report(f"{what}, refused", lost, unit="requests", at_most=limits[1]))
    return all(results)


def figures(log: Log, from_s: float, until_s: float) -> tuple[float, int, int]:
    """Return the requests per second that were let through, how many were refused, and how many in all."""
    passed = [is_let_through for at_s, is_let_through in log if from_s <= at_s < until_s]
    return sum(passed) / (until_s - from_s), passed.count(False), len(passed)


if __name__ == "__main__":
    raise SystemExit(not main())
