"""The flight: a system on real servers, what the script sends, what the script breaks, and what was seen.

Main path: fly(seed=7) -> Flown; `await flying(seed=7)` where an event loop runs.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

from anyio.from_thread import start_blocking_portal

from course_lib import lm
from course_lib.concurrency import tasks
from course_lib.errors import CourseError
from course_lib.flight.blame import SYSTEM, Blame
from course_lib.flight.help_centre import fill
from course_lib.flight.jobs import WorkerProcess, outbox, raised, waiting
from course_lib.flight.leaks import texts_of_postgres, texts_of_redis
from course_lib.flight.levels import MECHANISMS, Observed, judged
from course_lib.flight.parts import Job, Made, Outcome, Parts, Reply, Servers, System
from course_lib.flight.reference import ours
from course_lib.flight.result import Flown, Seen, versions
from course_lib.flight.script import JOBS, MAIN, OTHER, Plan, ScriptError, Sent, Weather, plan
from course_lib.flight.system import Desk
from course_lib.redaction import one_line
from course_lib.services import running_postgres, running_redis
from course_lib.services.server import Server

MODELS = "sim-large@flight-main", "sim-small@flight-other"
OURS = Parts()
_GIVE_UP_S = 30.0
_UNDER_WAY = threading.Lock()
_DRAIN_S, _SETTLED_S = 60.0, 2.0


class PartError(CourseError):
    """A part could not be made, or entered."""


@dataclass
class Tick:
    """How far a flight is; the same object each time."""

    at_s: float = 0.0
    scene: str = ""
    seen: list[Seen] = field(default_factory=list)
    """What has ended so far, in that order."""


def fly(parts: Parts = OURS, **options: Any) -> Flown:
    """Fly, and wait; `options` are those of flying(). An interrupt ends the flight."""
    with start_blocking_portal("asyncio") as portal:  # a loop may be running in this thread already
        flight = portal.start_task_soon(partial(flying, parts, **options))
        try:
            return flight.result()
        finally:
            flight.cancel()


async def flying(
    parts: Parts = OURS,
    *,
    seed: int = 7,
    only: Collection[str] = (),
    off: Collection[str] = (),
    on_tick: Callable[[Tick], object] | None = None,
) -> Flown:
    """Fly a system through the script and judge it.

    Args:
        parts: what it is assembled from.
        seed: of the script.
        only: names of scenes for a short flight: a short calm, and these.
        off: mechanisms of our parts that are switched off.
        on_tick: called twice a second in the flight's thread.

    Raises:
        ScriptError: there is no such scene, or another flight is under way in this process.
        ValueError: there is no such mechanism.
        ServerError, EndpointError: a server cannot be started.
        PartError: a part raises when it is made or entered: which one, and what.
    """
    if unknown := sorted(set(off) - MECHANISMS.keys()):
        raise ValueError(f"no mechanism {unknown[0]!r}; there are {', '.join(MECHANISMS)}")
    if not _UNDER_WAY.acquire(blocking=False):
        raise ScriptError(
            "a flight is under way in this process: its faults would be this one's; wait for it"
        )
    try:
        return await _flown(parts, seed, plan(seed, only), frozenset(off), on_tick)
    finally:
        _UNDER_WAY.release()


async def _flown(
    parts: Parts, seed: int, script_: Plan, off: frozenset[str], on_tick: Callable[[Tick], object] | None
) -> Flown:
    began = datetime.now(UTC).isoformat(timespec="seconds")
    async with _on_the_ground(parts, off, script_) as flight:
        observed = await flight.fly(on_tick)
    return Flown(
        seed=seed,
        began=began,
        versions=versions(),
        parts={each.name: "yours" if getattr(parts, each.name) else "ours" for each in fields(Parts)},
        scenes=list(script_.scenes),
        seen=observed.seen,
        levels=judged(observed),
    )


@asynccontextmanager
async def _on_the_ground(parts: Parts, off: frozenset[str], script_: Plan) -> AsyncIterator[_Flight]:
    """Start servers, parts, system and worker; all are gone afterwards."""
    temporary = Path(tempfile.gettempdir())
    with (
        running_redis(temporary) as kept,
        running_redis(temporary, durable=True) as queue,
        running_postgres(temporary) as database,
    ):
        folder = queue.folder / "flight"  # goes with the server, however this process ends
        folder.mkdir()
        servers = Servers(kept.url, database.url, folder, queue.url)
        for name, values in (("main", MAIN), ("other", OTHER), ("jobs", JOBS)):
            lm.profile(f"flight-{name}", seed=script_.seed, **values)
        fill(database.url)
        own = ours(off)
        makers = {each.name: getattr(parts, each.name) or getattr(own, each.name) for each in fields(Parts)}
        async with AsyncExitStack() as stack:
            worker = None
            if any(isinstance(each.what, Job) for each in script_.sent):
                with _making("worker"):
                    worker = stack.enter_context(WorkerProcess(makers["worker"], servers))
            blame = Blame()
            names = [each.name for each in fields(Made) if each.name != "models"]
            made = Made(
                models=tuple(lm.connect(name, cache=False, num_retries=0) for name in MODELS),
                **{
                    name: blame.noted(name, await _entered(stack, name, makers[name], servers))
                    for name in names
                },
            )
            make = makers["system"] or partial(Desk, off=off)
            system = await _entered(stack, SYSTEM, make, servers, made)
            blame.know(SYSTEM, system)
            yield _Flight(script_, servers, made, system, worker, kept, blame)


async def _entered(stack: AsyncExitStack, name: str, make: Callable[..., Any], *given: Any) -> Any:
    with _making(name):
        part = make(*given)
        if hasattr(part, "__aenter__"):
            return await stack.enter_async_context(part)
        return stack.enter_context(part) if hasattr(part, "__enter__") else part


@contextmanager
def _making(name: str) -> Iterator[None]:
    try:
        yield
    except CourseError:
        raise
    except Exception as error:  # border: the part may be the learner's
        told = one_line(f"{type(error).__name__}: {error}")
        todo = "mend it, or leave it out, and ours is taken"
        raise PartError(f"the part {name} could not be made: {told}; {todo}") from error


def _checked(reply: Any) -> Reply:
    """Return a reply whose fields are what they are to be."""
    expected: dict[str, Any] = {"text": str, "citations": list | tuple, "cost_usd": int | float}
    if not isinstance(reply, Reply) or reply.outcome not in get_args(Outcome):
        raise TypeError(f"answer() is to return a Reply with an outcome, not {reply!r:.80}")
    if wrong := [name for name, kind in expected.items() if not isinstance(getattr(reply, name), kind)]:
        raise TypeError(f"the {wrong[0]} of a Reply is {getattr(reply, wrong[0])!r:.80}")
    return reply


class _Flight:
    """One flight under way."""

    def __init__(
        self,
        script_: Plan,
        servers: Servers,
        made: Made,
        system: System,
        worker: WorkerProcess | None,
        kept: Server,
        blame: Blame,
    ) -> None:
        self._plan, self._servers, self._made, self._system = script_, servers, made, system
        self._worker, self._kept, self._blame = worker, kept, blame
        self._began_s, self._since = 0.0, 0
        self._tick = Tick()
        self._observed = Observed(script_, self._tick.seen, raised=blame.raised)

    def _now_s(self) -> float:
        return time.perf_counter() - self._began_s

    async def fly(self, on_tick: Callable[[Tick], object] | None) -> Observed:
        """Send all, break what is to be broken, and return what was seen."""
        observed, self._since = self._observed, (await asyncio.to_thread(lm.ledger)).requests
        with suppress(Exception):  # border: the learner's own; it is noted, and the levels tell
            async with asyncio.timeout(_GIVE_UP_S):
                await self._made.documents.search("tent", 1)
        self._began_s = time.perf_counter()
        beside = [asyncio.create_task(self._watch(on_tick))]
        if self._worker:
            beside.append(asyncio.create_task(self._worker.keep_running()))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._change_weather())
                for each in self._plan.sent:
                    await asyncio.sleep(each.at_s - self._now_s())
                    group.create_task(self._send(each))
            await self._drain()
        finally:
            await tasks.end(*beside)
        await self._look()
        with suppress(Exception):  # border: the learner's own; what cannot be read is not there
            spans = list(self._made.tracer.spans)
            observed.spans = sum(each["name"] == "request" for each in spans)
            observed.search("spans", str(spans))
        with suppress(Exception):  # border: the same
            observed.metrics = str(self._made.monitor.text())
        observed.search("metrics", observed.metrics)
        observed.search("PostgreSQL", await asyncio.to_thread(texts_of_postgres, self._servers.database_url))
        if self._worker:
            for name, count in raised(self._servers.folder).items():
                observed.raised["worker", name] += count
        for path in (each for each in self._servers.folder.parent.rglob("*") if each.is_file()):
            observed.search(f"file {path.name}", path.read_bytes().decode(errors="replace"))
        return observed

    async def _send(self, sent: Sent) -> None:
        """Send one, and note what its sender sees: a wait counts from the moment that it was due."""
        what, at_s, is_right = sent.what, sent.at_s, None
        try:
            async with asyncio.timeout(_GIVE_UP_S):
                if isinstance(what, Job):
                    self._observed.jobs[what.id] = sent.scene, at_s
                    await self._system.submit(what)
                    return
                reply = _checked(await self._system.answer(what))
        except (Exception, asyncio.CancelledError) as error:  # border: the system is the learner's
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # the flight is ended
                raise
            self._observed.errors[self._blame.guilty(error), type(error).__name__] += 1
            reply = Reply("failed")
        if isinstance(what, Job):
            return
        if reply.outcome in ("answered", "cached") and sent.article:
            is_right = sent.article in reply.citations
        self._observed.replies[what.id] = reply
        self._observed.search("a reply", reply.text)
        took_s = self._now_s() - at_s
        self._tick.seen.append(
            Seen(at_s, took_s, sent.scene, "question", reply.outcome, is_right, reply.cost_usd)
        )

    async def _change_weather(self) -> None:
        """Begin each scene in its time, with a profile of its own for each model."""
        for scene, weather in zip(self._plan.scenes, self._plan.weather, strict=True):
            await asyncio.sleep(scene.begins_s - self._now_s())
            self._tick.scene = scene.name
            await self._begin(weather, scene.ends_s)
            await asyncio.sleep(scene.ends_s - self._now_s() - 0.05)
            if weather.event == "redis lost":
                await asyncio.to_thread(self._kept.start)

    async def _begin(self, weather: Weather, ends_s: float) -> None:
        for name, usual, other in (("main", MAIN, weather.main), ("other", OTHER, weather.other)):
            await asyncio.to_thread(lm.profile, f"flight-{name}", seed=self._plan.seed, **{**usual, **other})
        if weather.event == "redis lost":
            await asyncio.to_thread(self._note_redis)
            await asyncio.to_thread(self._kept.kill)
        elif weather.event == "deploy":
            with suppress(Exception):  # border: the learner's own; it is noted
                self._made.canary.deploy("2")
        elif weather.event == "worker killed":
            await self._kill_at_work(ends_s)

    async def _kill_at_work(self, ends_s: float) -> None:
        """Kill the worker when it has just done a job of this scene: that one and others are under way."""
        before = outbox(self._servers.folder).total()
        while outbox(self._servers.folder).total() < before + 3 and self._now_s() < ends_s + 15:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        if self._worker is not None:
            self._worker.kill()

    async def _watch(self, on_tick: Callable[[Tick], object] | None) -> None:
        """Look at the models' ledger again and again, which keeps only the latest calls."""
        while True:
            await asyncio.sleep(0.5)
            self._tick.at_s = self._now_s()
            if on_tick is not None:
                on_tick(self._tick)
            await self._look()

    async def _look(self) -> None:
        observed = self._observed
        ledger = await asyncio.to_thread(lm.ledger, self._since)
        self._since += ledger.requests
        ours_ = [each for each in ledger.calls if each.profile in ("flight-main", "flight-other")]
        observed.calls += [(self._tick.scene, replace(each, messages=[])) for each in ours_]
        flown = [each for each in ledger.calls if each.profile.startswith("flight-")]
        observed.search("the models' prompts", str([each.messages for each in flown]))
        await asyncio.to_thread(self._note_redis)

    def _note_redis(self) -> None:
        self._observed.search("Redis", texts_of_redis(self._servers.redis_url))

    async def _drain(self) -> None:
        """Wait until no job waits or is under way, and a moment longer for those that nobody knows of."""
        jobs, began_s = self._observed.jobs, time.perf_counter()
        empty_s, is_over = began_s, not jobs
        while not is_over:
            await asyncio.sleep(0.2)
            now_s = time.perf_counter()
            if await asyncio.to_thread(waiting, self._servers.queue_url):
                empty_s = now_s
            is_over = now_s - empty_s > _SETTLED_S or now_s - began_s > _DRAIN_S
        done = outbox(self._servers.folder)
        for name, (scene, at_s) in jobs.items():
            count = done[name]
            outcome = "done" if count == 1 else "twice" if count else "lost"
            self._tick.seen.append(Seen(at_s, 0.0, scene, "job", outcome))
