"""The assembled desk: guard, cache, runner, documents, models and what stands around them.

Main path: await Desk(servers, made).answer(request) -> Reply; what breaks costs the least it can.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import dspy

from course_lib import desk
from course_lib.adapters.tools import neutralise
from course_lib.concurrency import EventStream, ExponentialBackoff, Timeout, guarded_by, resilient
from course_lib.concurrency.events import Event
from course_lib.concurrency.policies import Policy, is_outage
from course_lib.errors import CourseError
from course_lib.flight.parts import Job, Made, Reply, Request, Servers
from course_lib.flight.reference import STREAM
from course_lib.measure import UsageTracker, usage_of
from course_lib.redaction import redact
from course_lib.resilience import CircuitBreaker, RetryBudget

DEADLINE_S = 4.0
ATTEMPT_S = 1.5
LONGEST_CHARS = 2_000
ARTICLES = {"1": 3, "2": 0}
"""How many articles a version of the program hands to the model: the second one has forgotten them."""
Ask = Callable[[Request], Awaitable[Reply]]
"""Searches and asks the models; raises when none of them answers."""
Replies = Callable[[Request, Made, Ask], Awaitable[Reply]]
_ORDERS = re.compile(r"(?i)\b(ignore|disregard|forget)\b.{0,40}\b(instructions|rules|articles|above)\b")


class Poisoned(CourseError):  # noqa: N818  (it says what it is)
    """A text that no program is to read."""


def check(text: str) -> None:
    """Refuse a text that is too long, has control characters or a prompt's marks, or gives orders.

    Raises:
        Poisoned: it does.
    """
    if len(text) > LONGEST_CHARS or neutralise(text) != text or _ORDERS.search(text):
        raise Poisoned("this text is too long, holds marks of a prompt, or gives orders; write it anew")


def policies(name: str, *, is_last: bool, off: Collection[str] = ()) -> Sequence[Policy]:
    """Return what stands around one model: the last one is asked again, each has a breaker."""
    budget = RetryBudget(0.5, burst=30)
    retry = ExponentialBackoff(attempts=4 if is_last else 1, longest_wait_s=3.0, budget=budget)
    breaker = CircuitBreaker(name, threshold=3, longest_wait_s=3.0, is_failure=is_outage)
    around: dict[str, Policy] = {
        "retry": retry,
        "breaker": guarded_by(breaker),
        "deadline": Timeout(ATTEMPT_S),
    }
    return [policy for mechanism, policy in around.items() if mechanism not in off]


async def answered(request: Request, made: Made, ask: Ask, *, within_s: float = DEADLINE_S) -> Reply:
    """Return what is kept, or else what `ask` answers, or else the best article: the least that is left."""
    version = made.canary.version(request.id)
    key = hashlib.sha256(json.dumps([request.tenant, version, request.text]).encode()).hexdigest()
    if kept := await _kept(key, made):
        return kept
    try:
        reply = await made.runner.run(partial(ask, request), within_s)
    except Exception:  # border: whatever is broken, an article is better than nothing
        return await _article(request, made)
    with suppress(Exception):  # border: a cache that fails costs a second question, and no answer
        await made.cache.set(key, json.dumps({"text": reply.text, "citations": reply.citations}))
    return reply


async def _kept(key: str, made: Made) -> Reply | None:
    with suppress(Exception):  # border: the same, and what is kept may be anything
        if kept := await made.cache.get(key):
            found = json.loads(kept)
            return Reply("cached", found["text"], tuple(found["citations"]))
    return None


async def _article(request: Request, made: Made) -> Reply:
    try:
        async with asyncio.timeout(1.0):
            articles = await made.documents.search(request.text, 1)
    except Exception:  # border: the documents are gone, too
        return Reply("failed")
    return Reply("degraded", articles[0]) if articles else Reply("failed")


class Desk:
    """System: ours, or with a learner's way to reply."""

    def __init__(
        self, servers: Servers, made: Made, *, reply: Replies | None = None, off: Collection[str] = ()
    ) -> None:
        """Join the parts.

        Args:
            servers: where its files and its stream of jobs are.
            made: the parts.
            reply: what becomes of one question; that of this module, or a learner's (stage 6.7.1).
            off: mechanisms that are switched off.
        """
        self._made, self._off = made, off
        within_s = 60.0 if "deadline" in off else DEADLINE_S
        self._reply = reply or partial(answered, within_s=within_s)
        models = made.models[:1] if "fallback" in off else made.models
        self._lm = resilient(*models, policies=partial(policies, off=off))
        self._program = desk.Answer()
        self._jobs = EventStream(servers.queue_url, STREAM)
        self._log = (servers.folder / "log.jsonl").open("a", encoding="utf-8")

    async def __aenter__(self) -> Desk:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._log.close()
        await self._jobs.aclose()

    async def answer(self, request: Request) -> Reply:
        """Answer; each reply is traced, counted and logged once."""
        began_s = time.perf_counter()
        text, reply = "", Reply("failed")  # nothing is logged before it is redacted
        try:
            with self._made.tracer.span("request"):
                text = self._admitted(request.text)
                reply = await self._reply(replace(request, text=text), self._made, self._ask)
        except Poisoned:
            reply = Reply("refused")
        finally:
            took_s = time.perf_counter() - began_s
            self._made.monitor.count(reply.outcome, took_s)
            line = {"request": request.id, "outcome": reply.outcome, "took_s": took_s, "question": text}
            self._log.write(f"{json.dumps(line)}\n")
        return reply

    async def submit(self, job: Job) -> None:
        """Put a job into the stream, without what is personal."""
        await self._jobs.publish(Event("ticket", {"text": self._admitted(job.text)}, job.tenant, job.id))

    def _admitted(self, text: str) -> str:
        if "guard" not in self._off:
            check(text)
        return text if "redaction" in self._off else redact(text)

    async def _ask(self, request: Request) -> Reply:
        made, tracker = self._made, UsageTracker()
        version = made.canary.version(request.id)
        with made.tracer.span("search"):
            context = list(await made.documents.search(request.text, 3))[: ARTICLES[version]]
        with dspy.context(lm=self._lm, usage_tracker=tracker), made.tracer.span("model"):
            found = await self._program.acall(question=request.text, context=context)
        made.canary.saw(version, is_good=bool(found.citations))
        cost_usd = usage_of(tracker.entries).cost_usd
        return Reply("answered", found.answer, tuple(found.citations), cost_usd)
