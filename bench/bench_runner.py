"""AsyncRunner: its throughput to limit / latency, to gather with a semaphore, and to dspy.Parallel.

What is compared with the peers is the runner's own work: items that only wait. Through a model it disappears
in DSPy's, which needs the same processor time in a task as in a thread; that figure is shown without a limit,
for on a busy machine the process with more threads gets more of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.bench_batch import canned
from bench.ratio import Ratio, paired, report

LITTLE_AT_LEAST = 0.95
GATHER_AT_LEAST = 0.98
"""Never under it, but for the noise of the measurement."""
PARALLEL_AT_LEAST = 1.1
LIMIT, LATENCY_MS, CALLS = 8, 250, 80
FEW, MANY, ITEM_S = 32, 128, 0.02
"""Calls in flight where the processor is not the bound, and where threads are many."""


async def throughput_to_limit(model: Any) -> tuple[float, float]:
    """Return calls per second, and limit / latency with the latency that these calls had."""
    from course_lib.concurrency.runner import AsyncRunner

    begun = time.perf_counter()
    outcomes = await AsyncRunner(LIMIT).run(model.acall, [f"Question {n}?" for n in range(CALLS)])
    elapsed_s = time.perf_counter() - begun
    assert all(outcome.ok for outcome in outcomes)
    return CALLS / elapsed_s, LIMIT / (sum(outcome.took_s for outcome in outcomes) / CALLS)


def waits() -> Any:
    """Return a program that only waits."""
    import dspy

    class Waits(dspy.Module):
        def forward(self, **_: Any) -> Any:
            time.sleep(ITEM_S)
            return dspy.Prediction()

        async def aforward(self, **_: Any) -> Any:
            await asyncio.sleep(ITEM_S)
            return dspy.Prediction()

    return Waits()


async def with_runner(call: Any, items: list[Any], in_flight: int) -> None:
    from course_lib.concurrency.runner import AsyncRunner

    assert all(outcome.ok for outcome in await AsyncRunner(in_flight).run(call, items))


async def with_gather(call: Callable[..., Awaitable[Any]], items: list[Any], in_flight: int) -> None:
    slots = asyncio.Semaphore(in_flight)

    async def one(item: Any) -> Any:
        async with slots:
            return await call(**item.inputs())

    await asyncio.gather(*map(one, items))


def with_parallel(program: Any, items: list[Any], in_flight: int) -> None:
    import dspy

    parallel = dspy.Parallel(num_threads=in_flight, disable_progress_bar=True)
    assert None not in parallel([(program, item) for item in items])


def ours(program: Any, items: list[Any], in_flight: int) -> None:
    asyncio.run(with_runner(program, items, in_flight))


def gather(program: Any, items: list[Any], in_flight: int) -> None:
    asyncio.run(with_gather(program.acall, items, in_flight))


def per_second(run: Callable[..., None], program: Any, items: list[Any], in_flight: int) -> float:
    begun = time.perf_counter()
    run(program, items, in_flight)
    return len(items) / (time.perf_counter() - begun)


def main() -> bool:
    import dspy

    from course_lib import desk, lm

    lm.connect()
    lm.profile("bench-runner", ttft_p50_ms=LATENCY_MS, ttft_p99_ms=LATENCY_MS + 1)
    model = lm.connect("sim-large@bench-runner", cache=False)
    pairs = [asyncio.run(throughput_to_limit(model)) for _ in range(3)]
    shares = sorted(ours / ideal for ours, ideal in pairs)
    ratio = Ratio(*sorted(pairs)[1], shares[1], shares[0], shares[-1])
    name = f"runner to limit / latency, {CALLS} calls of {LATENCY_MS} ms, {LIMIT} in flight"
    results = [report(name, ratio, unit="calls/s", at_least=LITTLE_AT_LEAST)]

    examples = desk.examples("train")
    with dspy.context(lm=canned(ITEM_S)):
        for name, theirs, program, in_flight, limit in (
            ("asyncio.gather with a semaphore", gather, waits(), FEW, GATHER_AT_LEAST),
            ("dspy.Parallel", with_parallel, waits(), MANY, PARALLEL_AT_LEAST),
            ("dspy.Parallel, through a model", with_parallel, desk.Triage(), FEW, None),
        ):
            work = (program, (examples * in_flight)[: 10 * in_flight], in_flight)
            ratio = paired(
                lambda work=work: per_second(ours, *work),
                lambda work=work, theirs=theirs: per_second(theirs, *work),
                rounds=6,
            )
            load = f"items of {ITEM_S * 1e3:g} ms, {in_flight} in flight"
            results.append(report(f"runner to {name}, {load}", ratio, unit="items/s", at_least=limit))
    return all(results)


if __name__ == "__main__":
    raise SystemExit(not main())
