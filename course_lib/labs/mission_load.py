"""The load of mission control: questions and jobs for a running service, and what was seen of both sides.

Main path: async with Load(stack, run, rate_per_s, seen): ... -> run.answers, run.ticks, run.replicas.
Answers and jobs are what the load's own client saw, through the gateway; readiness, breaker and cache are
what each replica says of itself at /health/ready and /metrics.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from course_lib import desk
from course_lib.deployment import Stack
from course_lib.measure.strips import Band, Tick

GOOD = ("answered", "from cache")
BREAKERS = ("model breaker open", "Redis breaker open")
PARTS = ("jobs not done", "replicas ready", *BREAKERS)
"""At a moment: how many jobs, and how many replicas of which that is so."""
PERCENTILES = {"p50": 50, "p95": 95, "p99": 99}
_EVERY_S, _WINDOW_S, _SHORT_S = 0.5, 3.0, 0.05
_GIVE_UP_S, _RECOVERS_S, _JOBS_END_S, _JOBS_AT_ONCE = 9.0, 10.0, 15.0, 20
_SCRAPE_S = 1.5  # /metrics takes a second where the database is gone
_READ = ('service_requests_total{route="/v1/answers"', "dspy_cache_hits_total", "dspy_breaker_open")
_NOT_CLOSED, _BREAKER = "breakers not closed", {0.5: "half-open", 1.0: "open"}


class Answer(NamedTuple):
    """One answer, as the load's client saw it."""

    at_s: float
    """When it came, after the load began."""
    took_s: float
    said: str
    """One of GOOD, or the status and the code of a refusal, or "no answer"."""


@dataclass(slots=True)
class Run:
    """All that was seen since the load began."""

    answers: list[Answer] = field(default_factory=list)
    ticks: list[Tick] = field(default_factory=list)
    """How it stood: answers per second by what was said, PERCENTILES in ms of three seconds, PARTS."""
    faults: list[Band] = field(default_factory=list)
    replicas: list[dict[str, str]] = field(default_factory=list)
    """What each said last, as a row."""
    jobs: dict[str, None] = field(default_factory=dict)
    """Those that are not known to be done, the oldest first."""
    asked_until_s: float = math.inf
    begun_s: float = field(default_factory=time.perf_counter)

    def now_s(self) -> float:
        """Return the seconds since it began."""
        return time.perf_counter() - self.begun_s

    def phases(self) -> list[tuple[float, float, str]]:
        """Return (from second, until second, what was broken) of each while in which that was the same.

        The wait for the last jobs is none: nothing is asked in it.
        """
        end_s = min(self.ticks[-1]["at_s"] if self.ticks else 0.0, self.asked_until_s)
        edges = {0.0, end_s, *(edge for each in self.faults for edge in (each.from_s, each.until_s))}
        found = []
        for begin, end in itertools.pairwise(sorted(edge for edge in edges if edge <= end_s)):
            names = [each.name for each in self.faults if each.from_s <= begin and each.until_s >= end]
            found.append((begin, end, ", ".join(names) or "nothing"))
        return [each for each in found if each[1] - each[0] > _SHORT_S]


def percentiles_ms(came: Sequence[Answer]) -> dict[str, float]:
    """Return those of PERCENTILES; NaN where nothing came."""
    took_ms = [1000 * each.took_s for each in came] or [math.nan]
    return {name: float(np.percentile(took_ms, share)) for name, share in PERCENTILES.items()}


class Load:
    """Questions at a rate, half of them new, and a job a second; `seen` is called after each look."""

    def __init__(
        self, stack: Stack, run: Run, rate_per_s: Callable[[], float], seen: Callable[[], object]
    ) -> None:
        self._stack, self._run, self._rate_per_s, self._seen = stack, run, rate_per_s, seen
        limits = httpx.Limits(max_connections=None)
        options: dict[str, Any] = {"headers": stack.headers, "timeout": _GIVE_UP_S, "trust_env": False}
        self._client = httpx.AsyncClient(base_url=stack.url, limits=limits, **options)
        self._popular = [ticket.text for ticket in desk.tickets("train")[:8]]
        self._draw = random.Random()
        self._counted, self._tasks, self._looked = 0, list[asyncio.Task[None]](), asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(work) for work in (self._asking(), self._working(), self._looking())
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ask no more, and look once more."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._look()
        await self._client.aclose()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def is_there(self) -> bool:
        """Return whether the stack runs; whoever opened it may have ended it."""
        return bool(self._stack.parts["gateway"].pid)

    async def until(self, over: asyncio.Event, for_s: float) -> None:
        """Wait until `over` is set, the time is up, the stack was ended, or something in here has failed."""
        told = asyncio.create_task(over.wait())
        await asyncio.wait([told, *self._tasks], timeout=for_s, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()

    async def recover(self, say: Callable[[str], None]) -> None:
        """Wait until every replica asks the model again, while questions still come."""
        say(f"Ending: breakers are waited for, until they close, {_RECOVERS_S:.0f} s at most …")
        with suppress(TimeoutError):
            async with asyncio.timeout(_RECOVERS_S):
                while self._run.ticks and any(self._run.ticks[-1][name] for name in BREAKERS):
                    self._looked.clear()
                    await self._looked.wait()

    async def finish_jobs(self, say: Callable[[str], None]) -> None:
        """Ask no more questions, and wait until the jobs are done."""
        say(f"Ending: {len(self._run.jobs)} jobs are waited for, {_JOBS_END_S:.0f} s at most …")
        self._run.asked_until_s = self._run.now_s()
        for task in self._tasks[:-1]:
            task.cancel()
        give_up_s = time.monotonic() + _JOBS_END_S
        while self._run.jobs and self.is_there() and time.monotonic() < give_up_s:
            await self._ask_jobs()
            await asyncio.sleep(0.05)

    async def _asking(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                question = self._draw.choice(self._popular)
                if number % 2:
                    question = self._new(question)
                group.create_task(self._ask(question))
                await asyncio.sleep(1 / self._rate_per_s())

    def _new(self, text: str) -> str:
        return f"Question {self._draw.randbytes(4).hex()}: {text}"

    async def _ask(self, question: str) -> None:
        begun_s, said = time.perf_counter(), "no answer"
        with suppress(httpx.HTTPError):
            response = await self._client.post("/v1/answers", json={"question": question})
            told = _json(response)
            said = f"{response.status_code} {told.get('code', '')}".strip()
            if response.is_success:
                said = GOOD[told["cached"]]
        self._run.answers.append(Answer(self._run.now_s(), time.perf_counter() - begun_s, said))

    async def _working(self) -> None:
        """Send a job a second, and ask the oldest ones whether they are done."""
        while True:
            await asyncio.sleep(1.0)
            inputs = [self._new(text) for text in self._popular[:2]]
            with suppress(httpx.HTTPError):
                response = await self._client.post("/v1/jobs", json={"program": "triage", "inputs": inputs})
                if response.status_code == httpx.codes.ACCEPTED:
                    self._run.jobs[response.json()["id"]] = None
            await self._ask_jobs()

    async def _ask_jobs(self) -> None:
        async def ask(job: str) -> None:
            with suppress(httpx.HTTPError):
                if _json(await self._client.get(f"/v1/jobs/{job}")).get("status") in ("done", "dead"):
                    self._run.jobs.pop(job, None)

        await asyncio.gather(*map(ask, itertools.islice(self._run.jobs, _JOBS_AT_ONCE)))

    # -- how it stands ---------------------------------------------------------------------------------

    async def _looking(self) -> None:
        while self.is_there():
            await asyncio.sleep(_EVERY_S)
            await self._look()
            self._looked.set()
            self._seen()

    async def _look(self) -> None:
        run, at_s = self._run, self._run.now_s()
        new, self._counted = run.answers[self._counted :], len(run.answers)
        names = [name for name in self._stack.parts if name.startswith("replica")]
        urls = zip(names, self._stack.replicas, strict=True)
        rows = run.replicas = await asyncio.gather(*(self._replica(name, url) for name, url in urls))
        said = Counter(each.said.split()[0] if each.said[0].isdigit() else each.said for each in new)
        since_s = at_s - (run.ticks[-1]["at_s"] if run.ticks else 0.0)
        ready = sum(row["ready"].startswith("yes") for row in rows)
        unwell = [sum(name.split()[0] in row[_NOT_CLOSED] for row in rows) for name in BREAKERS]
        run.ticks.append(
            {
                "at_s": at_s,
                **{name: count / since_s for name, count in said.items()},
                **percentiles_ms([each for each in run.answers if each.at_s > at_s - _WINDOW_S]),
                **dict(zip(PARTS, (len(run.jobs), ready, *unwell), strict=True)),
            }
        )

    async def _replica(self, name: str, url: str) -> dict[str, str]:
        try:
            health = await self._client.get(f"{url}/health/ready", timeout=_SCRAPE_S)
            metrics = await self._client.get(f"{url}/metrics", timeout=_SCRAPE_S)
        except httpx.HTTPError:
            return {"replica": name, "ready": "no answer", _NOT_CLOSED: ""}
        missed = [part for part, text in _json(health).get("parts", {}).items() if text != "ok"]
        ready = "no" if not health.is_success else f"yes, without {', '.join(missed)}" if missed else "yes"
        samples = _samples(metrics.text)
        unwell = [
            f"{'Redis' if each.labels['breaker'].startswith('Redis') else 'model'} {_BREAKER[each.value]}"
            for each in samples["dspy_breaker_open"]
            if each.value
        ]
        counts = {
            told: f"{sum(each.value for each in samples[counter]):.0f}"
            for told, counter in (
                ("answers", "service_requests_total"),
                ("cache hits", "dspy_cache_hits_total"),
            )
        }
        return {"replica": name, "ready": ready, _NOT_CLOSED: ", ".join(unwell), **counts}


def _samples(text: str) -> dict[str, list[Any]]:
    """Return the samples of _READ by name; to parse all of a replica's metrics takes ten times as long."""
    lines = "\n".join(line for line in text.splitlines() if line.startswith(_READ))
    found: dict[str, list[Any]] = defaultdict(list)
    for family in text_string_to_metric_families(f"{lines}\n"):
        for sample in family.samples:
            found[sample.name].append(sample)
    return found


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        told = response.json()
    except ValueError:  # the gateway's own words
        told = None
    return told if isinstance(told, dict) else {}
