"""The simulated 50th and 99th percentile, and the saturation point, beside those of a real replica.

The replica has a core of its own, and the load, the model and the servers have the others. The simulation
gets the times that a request was elsewhere and its processor time, but none of the replica's latencies under
load: one request at a time tells the way, and the endpoint's own ledger how long it had the calls of each
load. A core that has pauses works slower, by half on some machines, so that processor time is taken at each
load (for the saturation point: some at once). Both have the same arrivals.
Other work on the replica's core (other processes, the kernel, the host) makes its event loop wait, ready to
run. Linux counts that, and here it is a part of what a request takes of the core: near saturation, a tenth of
the core makes p50 a fifth longer. With more than that, nothing is decided.
Source: Documentation/scheduler/sched-stats.rst of Linux, /proc/PID/task/TID/schedstat.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
import numpy as np
import psutil

from course_lib import lm
from course_lib.deployment import Load, Outcome, Work, open_loop, running_stack, simulate, work_of
from course_lib.deployment.capacity import Floats

LOADS, ROUNDS, SECONDS = (0.3, 0.5, 0.7), 5, 20.0
"""Shares of what one replica answers at most; the seconds are of one round, a thousand requests or more."""
WITHIN, UNDISTURBED = 0.15, 0.1
P99_MS = 250.0
"""The saturation point: the highest rate with a 99th percentile below this, all answered as they come."""
HALVINGS = 4
MODEL = {"ttft_p50_ms": 50, "ttft_p99_ms": 150}
CALIBRATING = 400
_STEPS = (0.7, 1.15)
"""The saturation point is looked for between these shares."""


def apart(pid: int) -> int:
    """Give a process a core of its own, and all others that we started the rest; returns its core."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    if len(cores) < 2:
        return -1
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cores[:1] if process.pid == pid else cores[1:])
    return cores[0]


class Replica:
    """One replica under load."""

    def __init__(self, session: aiohttp.ClientSession, pid: int) -> None:
        self._session, self._process, self._core = session, psutil.Process(pid), apart(pid)
        self._begun, self.most_disturbed = self._times(), 0.0
        self.begin()

    def begin(self) -> None:
        """Count core_s() from now on."""
        self._processor_s, self._loop_s = self.processor_s(), self._ran_and_waited_s()

    def core_s(self) -> float:
        """Return what it needed of its core: the time of its threads, or its event loop's with its waits.

        The loop waits for others and for its own threads; their time is in both, so the larger one counts.
        """
        loop_s = self._ran_and_waited_s() - self._loop_s
        return max(self.processor_s() - self._processor_s, loop_s)

    def processor_s(self) -> float:
        """Return the processor time that it has used."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def _ran_and_waited_s(self) -> float:
        """Return how long the event loop's thread ran or was ready to; 0 where the system does not tell."""
        counted = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/schedstat")
        ran_ns, waited_ns = counted.read_text().split()[:2] if counted.exists() else (0, 0)
        return (int(ran_ns) + int(waited_ns)) / 1e9

    def _times(self) -> tuple[float, float]:
        of_core = psutil.cpu_times(percpu=True)[max(self._core, 0)]
        return sum(of_core) - of_core.idle - of_core.iowait - self.processor_s(), sum(of_core)

    def others_share(self) -> float:
        """Return the share of its core that others have had since this was asked last."""
        (busy_s, all_s), before = self._times(), self._begun
        self._begun = busy_s, all_s
        share = max(0.0, (busy_s - before[0]) / max(all_s - before[1], 0.01))
        self.most_disturbed = max(self.most_disturbed, share)
        return share

    async def spread(self, requests: int) -> Floats:
        """Return what requests take of the event loop, one at a time, each beside the mean of all."""
        took_s = list[float]()
        for number in range(requests):
            before_s = self._ran_and_waited_s()
            await self.ask(number)
            took_s.append(self._ran_and_waited_s() - before_s)
        return np.array(took_s) / (np.mean(took_s) or 1.0) if any(took_s) else np.ones(1)

    async def ask(self, _number: int) -> int:
        """Ask what nobody has asked yet; returns the status."""
        question = f"Question {os.urandom(4).hex()}: do you have tents?"
        async with self._session.post("/v1/answers", json={"question": question}) as response:
            await response.read()
            return response.status


def model_s(since: int) -> Floats:
    """Return how long the model's endpoint had each call, by its own ledger, after its first so many."""
    return np.array([call.duration_ms for call in lm.ledger(since=since).calls]) / 1000


async def tested(replica: Replica, load: Load) -> tuple[Outcome, Floats]:
    """Measure a load; returns also how late the tester's own event loop was, every 5 ms."""
    late_s = list[float]()

    async def watch() -> None:
        while True:
            due_s = time.perf_counter() + 0.005
            await asyncio.sleep(0.005)
            late_s.append(time.perf_counter() - due_s)

    watching = asyncio.create_task(watch())
    outcome = await open_loop(replica.ask, load)
    watching.cancel()
    return outcome, np.array(late_s)


def compare(name: str, simulated: float, measured: float, unit: str, note: str = "") -> bool:
    """Print both and their ratio; returns whether it is within the limit."""
    holds = abs(simulated / measured - 1) <= WITHIN
    verdict = "holds" if holds else "MISSED"
    print(
        f"{name}: simulated {simulated:.4g} {unit}, measured {measured:.4g}{note}, "
        f"ratio {simulated / measured:.2f} (within {WITHIN:.0%}): {verdict}"
    )
    return holds


def spread(outcomes: list[Outcome], percent: float) -> str:
    """Return how far the rounds lie apart."""
    found = [each.ms(percent) for each in outcomes]
    return f"; rounds {min(found):.4g} to {max(found):.4g}"


def saturation(low_per_s: float, high_per_s: float, keeps_up: Callable[[float, int], bool]) -> float:
    """Return the highest rate that is kept up with, by halving; each step is decided by most of three."""
    for step in range(HALVINGS):
        rate_per_s = (low_per_s + high_per_s) / 2
        votes = [keeps_up(rate_per_s, 10 * step + number) for number in range(3)]
        low_per_s, high_per_s = (rate_per_s, high_per_s) if sum(votes) >= 2 else (low_per_s, rate_per_s)
    return (low_per_s + high_per_s) / 2


def percentiles(runner: asyncio.Runner, replica: Replica, work: Work, alone_s: Floats) -> bool:
    """Compare both at each load; `alone_s` is how long the endpoint had the calls when it had few."""
    holds, way_s = True, float(np.median(work.elsewhere_s) - np.median(alone_s))
    for share in LOADS:
        rate_per_s = share * work.most_per_s
        loads = [Load(rate_per_s, int(rate_per_s * SECONDS), seed) for seed in range(ROUNDS)]
        measured, simulated = list[Outcome](), list[Outcome]()
        for load in loads:  # each with what was so in its own seconds: times in line do not average
            replica.others_share()
            replica.begin()
            used_s, calls = replica.processor_s(), lm.ledger().requests
            outcome, late_s = runner.run(tested(replica, load))
            measured.append(outcome)
            each_s, used_s = (
                total / load.requests for total in (replica.core_s(), replica.processor_s() - used_s)
            )
            taken_share = replica.others_share()
            had_s = model_s(calls)
            there_s = np.maximum(had_s + way_s + 2 * late_s.mean(), 0.0)
            then = replace(work, work_s=each_s, first_work_s=0.0, elsewhere_s=there_s)
            simulated.append(simulate(then, load))
            print(
                f"{share:.0%} of the most, {rate_per_s:.0f} requests/s: {1000 * used_s:.1f} ms of processor "
                f"time each, {1000 * each_s:.1f} with waits for the core, "
                f"others had {taken_share:.0%} of it, the model took "
                f"{1000 * (np.median(had_s) - np.median(alone_s)):+.1f} ms, "
                f"the tester was {1000 * late_s.mean():.1f} ms late, at most {1000 * late_s.max():.0f}"
            )
        for percent in (50, 99):
            both = [median(each.ms(percent) for each in outcomes) for outcomes in (simulated, measured)]
            holds &= compare(f"  p{percent}", *both, "ms", spread(measured, percent))
    return holds


def main() -> bool:
    lm.profile("bench-capacity", **MODEL)
    options: dict[str, Any] = {"requests_per_minute": 10**7, "tokens_per_day": 10**10, "queue": "nats"}
    with (
        running_stack(versions=(None,), model="sim-large@bench-capacity", **options) as stack,
        asyncio.Runner() as runner,
    ):
        part = stack.parts["replica-1"]

        async def session() -> aiohttp.ClientSession:
            connector = aiohttp.TCPConnector(limit=0)
            return aiohttp.ClientSession(part.url, headers=stack.headers, connector=connector)

        opened = runner.run(session())
        replica = Replica(opened, part.pid)
        try:
            runner.run(work_of(replica.ask, replica.core_s, requests=100))  # warm
            replica.others_share()
            replica.begin()
            calls = lm.ledger().requests
            work = runner.run(work_of(replica.ask, replica.core_s, requests=CALIBRATING))
            alone_s = model_s(calls)[:CALIBRATING]
            work = replace(work, spread=runner.run(replica.spread(CALIBRATING)))
            print(
                f"a request: {1000 * work.first_work_s:.1f} ms of the core alone, {1000 * work.work_s:.1f} "
                f"among others; other work had {replica.others_share():.0%} of the core; "
                f"at most {work.most_per_s:.0f} requests/s; spread {np.std(work.spread):.2f}"
            )
            holds = percentiles(runner, replica, work, alone_s)

            def load(rate_per_s: float, seed: int) -> Load:
                return Load(rate_per_s, int(rate_per_s * SECONDS / 4), seed)

            def measured(rate_per_s: float, seed: int) -> bool:
                return runner.run(open_loop(replica.ask, load(rate_per_s, seed))).keeps_up(P99_MS)

            def simulated(rate_per_s: float, seed: int) -> bool:
                return simulate(work, load(rate_per_s, seed)).keeps_up(P99_MS)

            between = [share * work.most_per_s for share in _STEPS]
            points = [saturation(*between, each) for each in (simulated, measured)]
            holds &= compare(f"saturation (p99 below {P99_MS:g} ms)", *points, "requests/s")
            if replica.most_disturbed > UNDISTURBED:
                print(f"not decided: others had up to {replica.most_disturbed:.0%} of the replica's core")
            return holds and replica.most_disturbed <= UNDISTURBED
        finally:
            runner.run(opened.close())


if __name__ == "__main__":
    raise SystemExit(not main())
