# mypy: allow-subclassing-any
"""The programs of the service, with all that sections 1 to 4 put around them.

Main path: answering.answer("answer", question, tenant=...): asked() redacts -> at_once(): answer cache, then
the program with a model that answers from memory alone, on the event loop -> ask(), in a deadline.
Source: dspy.context and dspy.cache (DSPy 3.4.1). A cached hit of `acall` changes threads three times; the
same program called plainly, with a model that cannot wait, takes a third of that.

Everything that is kept has the tags of its tenant and customer, so that forget() drops it in every replica.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self

import dspy
import orjson
from cachetools import LRUCache

from course_lib import lm
from course_lib.caching import CachedLM, TieredCache, scope
from course_lib.caching.calls import calling
from course_lib.caching.front import fronted
from course_lib.caching.wire import copied
from course_lib.concurrency import Timeout, guarded_by, recommended, resilient
from course_lib.concurrency.policies import is_outage
from course_lib.concurrency.streaming import Final, Stream, stream
from course_lib.deployment.config import DeploymentConfig
from course_lib.deployment.database import ended
from course_lib.deployment.problems import Problem
from course_lib.deployment.programs import SERVED, ProgramError, load_program
from course_lib.deployment.registry import Registry
from course_lib.errors import CourseError
from course_lib.measure.calls import CallListener, Together
from course_lib.measure.usage import UsageTracker, usage_of
from course_lib.redaction import redact
from course_lib.resilience import CircuitBreaker, Deadline

MEMORY_BYTES = 2 * 1024 * 1024
"""Room for answers in a replica, and for what its models said: some 500 of each. Redis has the rest."""
_KNOWN = 512  # as many as memory has answers
_SHORT = 300
"""Characters of a text that is redacted on the event loop, in 10 ms at most; a thread takes longer ones."""
_MOST_WAITING, _KEPT_AT_ONCE = 10_000, 4
_FIRST_TOKENS = 1_000  # of an answer whose model tells nothing, or until one has told
_EVERY_S = 0.05
_log = logging.getLogger("course_lib.deployment")


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to one input."""

    id: str
    """The same for the same answer, however often it is given."""
    outputs: dict[str, Any]
    version: str
    is_cached: bool
    """Whether no model was asked."""
    key: str = ""
    """Under which it is found again."""
    tokens: int = 0
    """What the models asked for it used."""


class Asked(NamedTuple):
    """What was asked, and how its answer is found."""

    tenant: str
    customer: str | None
    program: str
    text: str
    """Redacted."""
    version: str
    key: str
    stamp: Any
    """Which erasures were known when it was asked."""


# -- a model that does not wait --------------------------------------------------------------------------


class NotCached(BaseException):
    """The answer is not in memory. Not an Exception, so that no adapter takes it for a model's failure."""


class _AtOnce(CachedLM):
    """Answers from this process's memory, or not at all: a program may call it on the event loop."""

    async def _answer(self, call: Any, kwargs: dict[str, Any], waits: Any) -> Any:
        cache = dspy.cache
        with calling(self, kwargs) as under_way:
            key = under_way.key = cache.cache_key(call.key(self, False), ["api_key", "api_base", "base_url"])
            hit = cache.find(key, at_once=True)
            if hit is None:
                raise NotCached
            entry, read = hit.entry, f"{key} as read"  # reading a record takes a tenth of such an answer
            if (known := cache.memory.get(read)) is None or known[0] is not entry:
                known = entry, await self._replayed(call, hit.record, waits)
                cache.memory.put(read, known, ttl_s=entry.left_s(time.time()), tags=entry.tags)
            return replace(known[1], outputs=copied(known[1].outputs))


# -- the service's side ----------------------------------------------------------------------------------


class Answering:
    """The programs by name and version; `async with` it, since it puts its cache under DSPy."""

    def __init__(
        self,
        config: DeploymentConfig,
        *listeners: CallListener,
        keep: Callable[[Asked, Answered], Awaitable[object]] | None = None,
    ) -> None:
        """Load the programs and connect the model.

        Args:
            config: the settings.
            listeners: a tracer, metrics: they hear every program that asks a model.
            keep: takes an answer that was given, later; what it raises is tried again.

        Raises:
            ProgramError: the program of the settings' version cannot be loaded.
            RegistryError: its file was changed.
        """
        self.version, self._deadline_s = config.program_version, config.deadline_s
        key = config.signing_key.get_secret_value().encode() if config.signing_key else None
        self._key = hashlib.sha256(b"answers" + (key or secrets.token_bytes(32))).digest()
        redis_url = config.redis_url.get_secret_value() if config.redis_url else None
        self.cache = TieredCache(
            MEMORY_BYTES, redis_url=redis_url, namespace="service", signing_key=key, require_tenant=True
        )
        model = lm.connect(config.model) if "/" not in config.model else dspy.LM(config.model)
        self.breaker = CircuitBreaker(config.model, threshold=5, is_failure=is_outage)
        self.lm = fronted(resilient(model, policies=self._policies)).copy(cache=True)
        self._at_once = fronted(self.lm, _AtOnce)
        self._listeners, self._together = listeners, functools.cache(Together)
        self._folder = config.programs_folder
        self.programs = {
            (name, version): program
            for name in config.programs
            for version, program in self._versions(name, config.programs_folder)
        }
        self._redacted: LRUCache[bytes, str] = LRUCache(_KNOWN)
        self._usual_tokens: dict[tuple[str, str], int] = {}  # by tenant and program
        self._redactor = ThreadPoolExecutor(1, "redact")
        self._given: LRUCache[tuple[str, Any], bool] = LRUCache(_KNOWN)  # an id, and what was erased by then
        self._keep = keep
        self._waiting: deque[tuple[Asked, Answered]] = deque(maxlen=_MOST_WAITING)
        self._keeper: asyncio.Task[None] | None = None
        self._former: Any = None

    def _policies(self, name: str, *, is_last: bool) -> list[Any]:
        """Return the recommended policies with this service's own breaker, which readiness tells of."""
        usual = recommended(name, is_last=is_last, without=("breaker", "timeout"))
        return [*usual, guarded_by(self.breaker), Timeout(0.9 * self._deadline_s)]

    def _versions(self, name: str, folder: Path | None) -> list[tuple[str, dspy.Module]]:
        files = Registry(folder).files(name, self.version) if folder else []
        found = []
        for file in files:
            try:
                found.append((file.stem, load_program(name, file)))
            except ProgramError as error:
                if file.stem == self.version:
                    raise
                _log.warning("version %s is not served: %s", file.stem, error)
        if self.version not in dict(found):
            if files:
                raise ProgramError(
                    f"{folder}/{name} has no version {self.version!r}; save it, or set another"
                )
            found.append((self.version, SERVED[name].make()))
        return found

    async def __aenter__(self) -> Self:
        self._former = vars(dspy).get("cache")
        dspy.cache = self.cache
        self._keeper = asyncio.create_task(self._keep_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Keep what was answered, and give DSPy its own cache back."""
        if self._keeper is None:
            return
        await ended(self._keeper)
        self._keeper = None
        try:
            await self._keep_waiting()
        except Exception as error:  # border: a database that is down
            _log.error("%d answers are not in the history: %s", len(self._waiting), type(error).__name__)
        if vars(dspy).get("cache") is self.cache:
            if self._former is None:
                del dspy.cache  # DSPy makes its own when it is asked for
            else:
                dspy.cache = self._former
        self._redactor.shutdown(wait=False)
        self.cache.close()

    async def answer(
        self, name: str, text: str, *, tenant: str, customer: str | None = None, version: str | None = None
    ) -> Answered:
        """Answer one input for a tenant; the parameters and errors are those of asked() and ask()."""
        asked = await self.asked(name, text, tenant=tenant, customer=customer, version=version)
        return self.at_once(asked) or await self.ask(asked)

    async def asked(
        self, name: str, text: str, *, tenant: str, customer: str | None = None, version: str | None = None
    ) -> Asked:
        """Return what is asked of a program; of what was written, the model sees no personal data.

        Raises:
            Problem: there is no such program or version here.
        """
        version = version or self.version
        self.program(name, version)
        text = await self.redacted(text)
        key = hashlib.sha256(orjson.dumps([tenant, customer, name, version, text])).hexdigest()
        await self.refreshed()
        return Asked(tenant, customer, name, text, version, key, self.cache.stamp)

    def at_once(self, asked: Asked) -> Answered | None:
        """Return the answer if memory has it, or all that the program's models said for it."""
        if (found := self.found(asked.key)) is not None:
            return found
        prediction = self._from_memory(asked)
        return None if prediction is None else self._said(asked, prediction, tokens=0)

    def _from_memory(self, asked: Asked) -> Any:
        """Return what the program says if memory has all that its models said; None otherwise."""
        with self._scoped(asked), dspy.context(lm=self._at_once, callbacks=[], **_LEAN):
            try:
                return self.program(asked.program, asked.version)(**self._inputs(asked))
            except NotCached:
                return None

    async def ask(self, asked: Asked) -> Answered:
        """Return the answer of the program, which asks its model or the slower tiers of the cache.

        Raises:
            DeadlineExceeded, dspy.LMError, AdapterParseError, ...: what problem_of() knows.
        """
        asked, used = asked._replace(stamp=self.cache.stamp), UsageTracker()  # known by now, at a start too
        with self._asking(asked, used):
            async with Deadline.after(self._deadline_s).held():
                prediction = await self.program(asked.program, asked.version).acall(**self._inputs(asked))
        return self._said(asked, prediction, _tokens(used))

    @contextmanager
    def _asking(self, asked: Asked, used: UsageTracker) -> Iterator[None]:
        heard = self._together(*(each for each in self._listeners if each.hears), self.cache.watcher)
        settings = {"lm": self.lm, "callbacks": [heard], "usage_tracker": used, **_LEAN}
        with self._scoped(asked), dspy.context(**settings):
            yield

    def stream(self, asked: Asked) -> tuple[Stream, Callable[[Final], Answered], Callable[[], int]]:
        """Return the stream of one answer, what keeps it when it is whole, and what it cost when it is not.

        A model reports its tokens at the end. So a stream that its reader has left costs as much as the last
        whole answer of its program to this tenant did, unless memory had it.
        """
        used = UsageTracker()
        outputs = SERVED[asked.program].outputs
        shown = [field for field in outputs if field != "citations"]
        sources = "citations" if "citations" in outputs else None
        with self._asking(asked, used), Deadline.after(self._deadline_s).applied():
            options: dict[str, Any] = {"fields": shown, "citations": sources, **self._inputs(asked)}
            events = stream(self.program(asked.program, asked.version), **options)

        def finished(final: Final) -> Answered:
            return self._said(asked, final.prediction, _tokens(used))

        def cost_when_left() -> int:
            reported = usage_of(used.entries).tokens
            is_free = not reported and self._from_memory(asked) is not None
            usual = self._usual_tokens.get((asked.tenant, asked.program), _FIRST_TOKENS)
            return 0 if is_free else max(reported, usual)

        return events, finished, cost_when_left

    def _scoped(self, asked: Asked) -> AbstractContextManager[object]:
        customer = self.tag(asked.tenant, asked.customer)
        return scope(tenant=asked.tenant, customer=customer, version=asked.version)

    def _inputs(self, asked: Asked) -> dict[str, str]:
        return {SERVED[asked.program].input: asked.text}

    def _said(self, asked: Asked, prediction: Any, tokens: int) -> Answered:
        """Return an answer; it is kept soon, unless it was since the last erasure that is known."""
        outputs = {field: prediction[field] for field in SERVED[asked.program].outputs}
        answer_id = self._id(asked.key, outputs)
        said = Answered(answer_id, outputs, asked.version, not tokens, asked.key, tokens)
        if tokens:
            self._usual_tokens[asked.tenant, asked.program] = tokens
        if (given := (answer_id, asked.stamp)) not in self._given:
            self._given[given] = True
            self._waiting.append((asked, said))
        return said

    def program(self, name: str, version: str) -> dspy.Module:
        """Return a program.

        Raises:
            Problem: it is not served here, or not in this version.
        """
        try:
            return self.programs[name, version]
        except KeyError:
            raise Problem("not_found", "This program is not served here in this version.") from None

    def learn(self, name: str, version: str) -> bool:
        """Return whether a version is here; one that came, or was retired, since the start is loaded.

        Raises:
            ProgramError, RegistryError: it cannot be loaded, or was changed.
        """
        if (name, version) not in self.programs and self._folder:
            for file in Registry(self._folder).files(name, version):
                if file.stem == version:
                    self.programs[name, version] = load_program(name, file)
        return (name, version) in self.programs

    def is_away(self, error: Exception) -> bool:
        """Return whether an error tells that the model is away, and nothing of what was asked."""
        return self.breaker.state != "closed" or isinstance(error, dspy.LMTransportError)

    async def inputs(self, name: str, texts: Sequence[str]) -> list[dict[str, str]]:
        """Return the inputs of a job as they are kept: redacted, under the name that the program has."""
        field = SERVED[name].input
        return [{field: await self._in_thread(text)} for text in texts]

    async def redacted(self, text: str) -> str:
        """Return a text without personal data; what was found is remembered by a digest of the text."""
        digest = hashlib.sha256(text.encode(errors="replace")).digest()
        if (known := self._redacted.get(digest)) is None:
            known = redact(text) if len(text) <= _SHORT else await self._in_thread(text)
            self._redacted[digest] = known
        return known

    async def _in_thread(self, text: str) -> str:
        """Return a text redacted by the one thread for it: several would leave the event loop less time."""
        return await asyncio.get_running_loop().run_in_executor(self._redactor, redact, text)

    # -- answers that were given -------------------------------------------------------------------------

    def tag(self, tenant: str, customer: str | None) -> str | None:
        """Return what stands for a customer in the cache: nobody without the service's key can make it."""
        if customer is None:
            return None
        return hmac.digest(self._key, f"{tenant}\n{customer}".encode(), "sha256").hex()[:32]

    async def refreshed(self) -> None:
        """Learn what other replicas have dropped, at most half a second ago; found() needs to know."""
        if not self.cache.is_fresh:
            await asyncio.to_thread(self.cache.refresh)

    def found(self, key: str) -> Answered | None:
        """Return an answer that was given before, if nobody has dropped it meanwhile."""
        hit = self.cache.find(key, at_once=True)
        if hit is None:
            return None
        answer_id, outputs, version = hit.record
        return Answered(answer_id, outputs, version, True, key)

    async def forget(self, tenant: str, customer: str) -> int:
        """Drop all that is cached for a customer, here at once and elsewhere within half a second.

        Raises:
            NotReached: Redis does not answer; other replicas may go on with what they hold till it is told.
        """
        mine = [each for each in self._waiting if each[0][:2] == (tenant, customer)]
        for each in mine:
            self._waiting.remove(each)
        tag = self.tag(tenant, customer)
        return await asyncio.to_thread(self.cache.invalidate, tenant=tenant, customer=tag, everywhere=True)

    async def is_forgotten(self, asked: Asked) -> bool:
        """Return whether the customer was erased since this was asked, by any replica.

        Raises:
            NotReached: Redis does not answer, so nobody knows.
        """
        with self._scoped(asked):
            return await asyncio.to_thread(self.cache.is_dropped, asked.stamp)

    def _id(self, key: str, outputs: dict[str, Any]) -> str:
        told = orjson.dumps([key, outputs], default=str)
        return f"ans_{hmac.digest(self._key, told, 'sha256').hex()[:24]}"

    async def _keep_all(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self._keep_waiting()
            except Exception as error:  # border: a database that is down; what waits is tried again
                _log.warning("answers are not kept at the moment: %s", type(error).__name__)
                await asyncio.sleep(1.0)

    async def _keep_waiting(self) -> None:
        """Keep what was answered, a few at once: one by one, they would be more and more under load."""
        while some := list(islice(self._waiting, _KEPT_AT_ONCE)):
            ended = await asyncio.gather(*(self._keep_one(*each) for each in some), return_exceptions=True)
            for each, error in zip(some, ended, strict=True):
                if error is None and each in self._waiting:  # not forgotten meanwhile
                    self._waiting.remove(each)
            for error in filter(None, ended):
                raise error

    async def keep_now(self, answer_id: str) -> bool:
        """Keep an answer that waits here to be kept; False if none does, or it cannot be kept now."""
        waiting = [each for each in self._waiting if each[1].id == answer_id]
        with suppress(CourseError):  # it is tried again
            for each in waiting:
                await self._keep_one(*each)
            return bool(waiting)
        return False

    async def _keep_one(self, asked: Asked, said: Answered) -> None:
        """Keep an answer, unless it was asked before its customer was erased."""
        if not await asyncio.to_thread(self._cached, asked, said):
            self._given.pop((said.id, asked.stamp), None)  # given again, it is kept then
        elif self._keep:
            await self._keep(asked, said)

    def _cached(self, asked: Asked, said: Answered) -> bool:
        with self._scoped(asked):
            return self.cache.keep(asked.key, [said.id, said.outputs, said.version], asked.stamp)


def _tokens(used: UsageTracker) -> int:
    """Return what the models that were asked report; an estimate if they were, and report nothing."""
    entries = used.entries
    return usage_of(entries).tokens or (_FIRST_TOKENS if entries else 0)


_LEAN: dict[str, Any] = {"disable_history": True, "max_trace_size": 0, "adapter": dspy.ChatAdapter()}
"""Settings of a service: nothing piles up between requests."""
