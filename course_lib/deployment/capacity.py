"""How many requests the service holds: a load test, a queueing model, and a simulation carried to a day.

Main path: work_of(ask, processor_s) -> Work, by the service itself; simulate(work, load) beside
open_loop(ask, load), which is the measurement; plan(work, requests_per_day, ...) -> Plan.

A replica is one core, which its event loop shares between requests, and waits for its model, for many at
once. In the open loop requests come when they come, as a Poisson process, and the time of each counts from
the moment it was due: a service that stalls meets those that came meanwhile. A closed loop hides that.
Source: G. Tene, "How NOT to measure latency", 2013 (coordinated omission); A. O. Allen, "Probability,
Statistics, and Queueing Theory", 2nd ed. 1990, 5.2 and 5.3 (Erlang's C, Allen and Cunneen's approximation);
P. Welch, "On a generalized M/G/1 queuing process in which the first customer of each busy period receives
exceptional service", Operations Research 12, 1964: a core that was idle works slower. Simulated by simpy 4.1.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import simpy

from course_lib.errors import CourseError

Floats = npt.NDArray[np.float64]
Ask = Callable[[int], Awaitable[int]]
"""Sends request number n, and returns its status when it was answered."""

AT_ONCE = 16
"""Requests under way at once keep a core busy, and are few enough that none is refused."""
_OK, _REFUSED = 200, 503
_KEEPS_UP_SHARE = 0.95
_BUSY_SHARE = 0.8
"""A replica is planned to be as busy as that at most: a little above, lines grow without end."""
_Seen = tuple[int, float, float]
"""Of one request: its status, when it was due, and how long it took from then."""
_Events = Generator[simpy.Event, Any, Any]


class CapacityError(CourseError):
    """A load that cannot be, or a service level that no number of replicas holds."""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that come by chance (a Poisson process): the same ones again with the same seed."""

    rate_per_s: float
    requests: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 < self.rate_per_s < math.inf and self.requests >= 1):
            raise CapacityError(f"{self} is no load: rate_per_s is above 0 and finite, requests at least 1")

    def due_s(self) -> list[float]:
        """Return when each request is due, in seconds from the beginning."""
        gaps_s = np.random.default_rng(self.seed).exponential(1 / self.rate_per_s, self.requests)
        due_s: list[float] = np.cumsum(gaps_s).tolist()
        return due_s


class Outcome:
    """What became of the requests of a load, measured or simulated."""

    def __init__(self, seen: Sequence[_Seen]) -> None:
        answered = np.array([(due_s, took_s) for status, due_s, took_s in seen if status == _OK])
        self.took_s: Floats = answered[:, 1] if len(answered) else np.zeros(0)
        """Of each request that was answered."""
        self.statuses = Counter(status for status, _, _ in seen)
        self.asked_per_s = _per_s(np.array([due_s for _, due_s, _ in seen]))
        self.answered_per_s = _per_s(answered.sum(axis=1)) if len(answered) else 0.0

    def ms(self, percent: float) -> float:
        """Return the milliseconds that so many percent of the answers took at most; infinite without any."""
        return 1000 * float(np.percentile(self.took_s, percent)) if len(self.took_s) else math.inf

    def keeps_up(self, p99_ms: float) -> bool:
        """Tell whether all were answered, as fast as they came, and 99 of 100 within `p99_ms`."""
        is_as_fast = self.answered_per_s >= _KEEPS_UP_SHARE * self.asked_per_s
        return set(self.statuses) == {_OK} and is_as_fast and self.ms(99) <= p99_ms


def _per_s(times_s: Floats) -> float:
    """Return how many come in a second, by the middle ones: the first and the last ones are few by nature."""
    if len(times_s) < 2:
        return 0.0
    low_s, high_s = np.percentile(times_s, [10, 90])
    return 0.8 * len(times_s) / float(high_s - low_s)


# -- measured --------------------------------------------------------------------------------------------


async def open_loop(ask: Ask, load: Load) -> Outcome:
    """Send each request when it is due, whatever became of those before."""
    begun_s, seen = time.perf_counter(), list[_Seen]()

    async def one(number: int, due_s: float) -> None:
        status = await ask(number)
        seen.append((status, due_s, time.perf_counter() - begun_s - due_s))

    async with asyncio.TaskGroup() as group:
        for number, due_s in enumerate(load.due_s()):
            await asyncio.sleep(max(0.0, begun_s + due_s - time.perf_counter()))
            group.create_task(one(number, due_s))
    return Outcome(seen)


async def closed_loop(ask: Ask, *, users: int, requests: int) -> Outcome:
    """Let so many users ask, each the next question when the last one is answered."""
    numbers, seen = iter(range(requests)), list[_Seen]()

    async def user() -> None:
        for number in numbers:
            sent_s = time.perf_counter()
            status = await ask(number)
            seen.append((status, sent_s, time.perf_counter() - sent_s))

    async with asyncio.TaskGroup() as group:
        for _ in range(users):
            group.create_task(user())
    return Outcome(seen)


@dataclass(frozen=True, slots=True)
class Work:
    """What one request takes of a replica, and what a replica has."""

    work_s: float
    """Processor time, while the core is busy."""
    elsewhere_s: Floats
    """Samples of the time that it waits for the model and the network, and the core is free for others."""
    first_work_s: float = 0.0
    """Processor time when the core was idle before: its caches are cold, it has to be woken. 0: as always."""
    spread: Floats = field(default_factory=lambda: np.ones(1))
    """Samples of a request's processor time, 1 on average: some meet a batch that is written just then."""
    hit_share: float = 0.0
    """Share of the requests that memory answers, without the model."""
    hit_work_s: float = 0.0
    """Processor time of these."""
    turns: int = 8
    """At each await the event loop goes on with another request; 1: first come, first served."""
    at_once: int = 32
    """Calls of the model under way at once in a replica; those above wait."""
    waiting: int = 64
    """So many wait at most; above that a request is refused."""

    def __post_init__(self) -> None:
        if not (self.work_s > 0 and len(self.elsewhere_s) and 0 <= self.hit_share < 1 and self.at_once >= 1):
            raise CapacityError(
                f"work_s {self.work_s}, {len(self.elsewhere_s)} samples elsewhere_s, hit_share "
                f"{self.hit_share}, at_once {self.at_once}: they must be above 0, and hit_share below 1"
            )

    @property
    def most_per_s(self) -> float:
        """What one replica answers at most: its core is always busy, or all places are taken."""
        asked_share = 1 - self.hit_share
        busy_s = asked_share * self.work_s + self.hit_share * self.hit_work_s
        place_s = asked_share * float(np.mean(self.elsewhere_s)) / self.at_once
        return 1 / max(busy_s, place_s)


async def work_of(ask: Ask, processor_s: Callable[[], float], *, requests: int = 200) -> Work:
    """Measure what a request takes, one at a time and AT_ONCE at a time; the replica has nothing else to do.

    Args:
        ask: sends a request to the one replica.
        processor_s: how many seconds of processor time the replica has used so far.
        requests: how many to send each time; more of them give a truer 99th percentile.
    """
    before_s = processor_s()
    alone = await closed_loop(ask, users=1, requests=requests)
    between_s = processor_s()
    await closed_loop(ask, users=AT_ONCE, requests=requests)
    first_s, work_s = (between_s - before_s) / requests, (processor_s() - between_s) / requests
    return Work(work_s, np.maximum(alone.took_s - first_s, 0.0), max(first_s, work_s))


def log_normal_s(p50_s: float, p99_s: float) -> Floats:
    """Return a thousand times of a model, spread as its profile says."""
    normal, spread = NormalDist(), math.log(p99_s / p50_s) / NormalDist().inv_cdf(0.99)
    return np.array([p50_s * math.exp(spread * normal.inv_cdf((n + 0.5) / 1000)) for n in range(1000)])


# -- calculated and simulated ----------------------------------------------------------------------------


def mean_wait_s(rate_per_s: float, service_s: float, *, variation: float = 0.0, servers: int = 1) -> float:
    """Return how long a request waits in line on average: exact for M/G/1 and M/M/c, else close to it.

    Args:
        rate_per_s: arrivals per second, a Poisson process.
        service_s: mean time of service.
        variation: of it, squared (variance / mean ** 2): 0 if all take as long, 1 if exponential.
        servers: that share the line.

    >>> round(mean_wait_s(80, 0.01), 4), round(mean_wait_s(80, 0.01, variation=1), 4), mean_wait_s(100, 0.01)
    (0.02, 0.04, inf)
    """
    offered = rate_per_s * service_s
    if offered >= servers:
        return math.inf
    blocked = 1.0  # Erlang's B by its recursion, then C
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    waits_share = blocked / (1 - offered / servers * (1 - blocked))
    return waits_share * service_s / (servers - offered) * (1 + variation) / 2


def simulate(work: Work, load: Load, *, replicas: int = 1) -> Outcome:
    """Let the requests of a load go through so many replicas, which the gateway takes in turn."""
    rng, seen, environment = np.random.default_rng((load.seed, 1)), list[_Seen](), simpy.Environment()
    cores = [simpy.Resource(environment, 1) for _ in range(replicas)]
    places = [simpy.Resource(environment, work.at_once) for _ in range(replicas)]
    elsewhere_s = rng.choice(work.elsewhere_s, load.requests).tolist()
    is_hit = (rng.random(load.requests) < work.hit_share).tolist()
    spread = rng.choice(work.spread, load.requests).tolist()

    def busy(core: simpy.Resource, share: float) -> _Events:
        was_idle = core.count == 0
        took_s = share * ((was_idle and work.first_work_s) or work.work_s)
        for _ in range(work.turns):
            with core.request() as turn:
                yield turn
                yield environment.timeout(took_s / work.turns)

    def asking(number: int, core: simpy.Resource, free: simpy.Resource) -> _Events:
        if is_hit[number]:
            yield from busy(core, spread[number] * work.hit_work_s / work.work_s)
            return _OK
        yield from busy(core, spread[number] / 2)
        if len(free.queue) >= work.waiting:
            return _REFUSED
        with free.request() as place:
            yield place
            yield environment.timeout(elsewhere_s[number])
        yield from busy(core, spread[number] / 2)
        return _OK

    def request(number: int, due_s: float) -> _Events:
        yield environment.timeout(due_s)
        status = yield from asking(number, cores[number % replicas], places[number % replicas])
        seen.append((status, due_s, environment.now - due_s))

    for number, due_s in enumerate(load.due_s()):
        environment.process(request(number, due_s))
    environment.run()
    return Outcome(seen)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a day's requests need."""

    peak_per_s: float
    replicas: int
    """With the spare ones."""
    p99_ms: float
    """Simulated, at the peak, while the spare ones are lost."""
    machine_usd: float
    """For a thousand answers; the replicas run all day."""
    model_usd: float
    """For a thousand answers."""


def plan(
    work: Work,
    requests_per_day: float,
    *,
    p99_ms: float,
    model_usd: float,
    machine_usd_per_hour: float,
    peak_to_mean: float = 3.0,
    spare: int = 1,
) -> Plan:
    """Return the fewest replicas that keep up at the peak with `spare` of them lost, and what they cost.

    Args:
        work: of one request.
        requests_per_day: over all tenants.
        p99_ms: the service level: 99 of 100 answers take no longer.
        model_usd: of one request that memory does not answer.
        machine_usd_per_hour: of the machine under one replica.
        peak_to_mean: how many times more requests come at the peak than on average.
        spare: how many replicas may be lost at once, by a crash or a release.

    Raises:
        CapacityError: no number of replicas holds it.
    """
    peak_per_s, asked_share = peak_to_mean * requests_per_day / 86_400, 1 - work.hit_share
    alone_s = work.work_s + float(np.quantile(work.elsewhere_s, max(0.0, 1 - 0.01 / asked_share)))
    if 1000 * alone_s > p99_ms:
        raise CapacityError(
            f"99 of 100 within {p99_ms:g} ms cannot be held: a request that meets nobody takes up to "
            f"{1000 * alone_s:.0f} ms; promise more than that, or take a faster model"
        )
    fewest = max(1, math.ceil(peak_per_s / (_BUSY_SHARE * work.most_per_s)))
    for needed in range(fewest, 2 * fewest + 10):
        outcome = simulate(work, Load(peak_per_s, 3_000), replicas=needed)
        if set(outcome.statuses) == {_OK} and outcome.ms(99) <= p99_ms:
            replicas = needed + spare
            machine_usd = 1000 * replicas * 24 * machine_usd_per_hour / requests_per_day
            return Plan(peak_per_s, replicas, outcome.ms(99), machine_usd, 1000 * asked_share * model_usd)
    raise CapacityError(
        f"99 of 100 within {p99_ms:g} ms is too close to the {1000 * alone_s:.0f} ms of one alone"
    )
