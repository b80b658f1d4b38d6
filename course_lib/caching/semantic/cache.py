"""A cache for questions in other words: near in meaning, not refused by a guard, and never another tenant's.

Main path: get -> partition -> vectors near enough, best first -> guards -> verifier -> Hit, or None.

The partition is chosen first and by equality: tenant, program version, customer and whatever else the
caller names. Only then are vectors compared, so no threshold, however low, can reach another tenant's answer.
What a call does not name is taken from `scope(tenant=..., customer=..., version=...)` of course_lib.caching.

Three things are not kept: the answer to a question that names an order, a parcel, an e-mail address or a card
(private.py; such a question is not looked up either), an answer that names one, and an answer for which a
tool was called, since it holds what the tool said then; ask() notices that, put() only if the answer tells.
What is private without such a mark ("where is my parcel?") is for the caller to keep apart: name the customer
in the scope, or do not ask this cache.

Identical questions at the same moment are each computed; waiting for one another is CachedLM's work.
"""

from __future__ import annotations

import asyncio
import copy
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from course_lib.caching.semantic.guards import GUARDS, Guard, refusal
from course_lib.caching.semantic.partition import Entry, Partition
from course_lib.caching.semantic.private import Mark, private_mark, tools_watched, used_tools
from course_lib.caching.semantic.stats import SemanticStats
from course_lib.errors import CourseError

Embed = Callable[[Sequence[str]], Any]
Verifier = Callable[[str, str, Any], bool]
"""Says whether the answer of the second question also answers the first: (asked, cached_question, answer)."""


class SemanticCacheError(CourseError):
    """The cache is asked for something that it cannot do safely."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An answer that was given before, and to what question."""

    answer: Any
    question: str
    similarity: float
    age_s: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cached question that is near enough, and what became of it."""

    question: str
    similarity: float
    refused_by: str = ""
    """Name of the guard that refused it, or empty."""
    reason: str = ""


class SemanticCache:
    """Answers a question with the answer to one that means the same.

    Args:
        embed: texts -> one vector per text, of any length; None for MiniLM. While it fails, all is computed.
        threshold: least cosine, 0 to 1; `calibrate` chooses it from labelled pairs.
        guards: each may refuse a pair of questions, however near they are.
        verifier: asked last, about what the guards let through; an error of its own counts as a no.
        private: each may name a reason to keep a text out of the cache.
        max_entries: kept in each partition; the ones unused for longest go first.
        max_partitions: kept at once; the one unused for longest goes with all it holds.
        ttl_s: age at which an answer is dropped; None for never.
        candidates: how many near questions are tried, best first.
        clock: seconds, only ever rising.
    """

    def __init__(
        self,
        embed: Embed | None = None,
        *,
        threshold: float,
        guards: Sequence[Guard] = GUARDS,
        verifier: Verifier | None = None,
        private: Sequence[Mark] = (private_mark,),
        max_entries: int = 10_000,
        max_partitions: int = 1_000,
        ttl_s: float | None = 3600.0,
        candidates: int = 3,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < threshold <= 1:
            raise SemanticCacheError(f"threshold {threshold!r} is no cosine above 0 and up to 1")
        if max_entries < 1 or max_partitions < 1 or candidates < 1:
            raise SemanticCacheError("max_entries, max_partitions and candidates are at least 1")
        self.threshold = threshold
        self.guards = tuple(guards)
        self.verifier = verifier
        self._embed = embed
        self._private = tuple(private)
        self._max_entries, self._max_partitions = max_entries, max_partitions
        self._ttl_s, self._candidates, self._clock = ttl_s, candidates, clock
        self._partitions: OrderedDict[tuple[str, ...], Partition] = OrderedDict()
        self._lock = threading.RLock()
        self._stats = SemanticStats()

    def get(
        self, question: str, *, tenant: str | None = None, version: str = "", partition: Sequence[str] = ()
    ) -> Hit | None:
        """Return the answer to a question of this partition that means the same; None if there is none."""
        place = _place(tenant, version, partition)
        if mark := self._mark(question):
            self._count(misses=1, not_looked_up=mark)
            return None
        for entry, candidate in self._tried(question, place):
            if candidate.refused_by:
                self._count(refused_by=candidate.refused_by)
            elif self._verified(question, entry) and self._taken(place, entry):
                age_s = self._clock() - entry.stored_s
                return Hit(copy.deepcopy(entry.answer), entry.question, candidate.similarity, age_s)
        self._count(misses=1)
        return None

    def put(
        self,
        question: str,
        answer: Any,
        *,
        tenant: str | None = None,
        version: str = "",
        partition: Sequence[str] = (),
    ) -> bool:
        """Keep an answer, and say whether it was kept; see the module's text for what is not."""
        place = _place(tenant, version, partition)
        if mark := self._mark(question) or self._mark(answer) or used_tools(answer):
            self._count(not_kept=mark)
            return False
        vector = self._vector(question)
        if vector is None:
            return False
        now_s = self._clock()
        expires_s = now_s + self._ttl_s if self._ttl_s is not None else None
        entry = Entry(question, copy.deepcopy(answer), stored_s=now_s, expires_s=expires_s)
        with self._lock:
            held = self._partitions.setdefault(place, Partition(self._max_entries))
            self._partitions.move_to_end(place)
            self._stats.evicted += held.put(entry, vector)
            self._stats.puts += 1
            while len(self._partitions) > self._max_partitions:
                _, dropped = self._partitions.popitem(last=False)
                self._stats.evicted += len(dropped)
        return True

    def ask(
        self,
        question: str,
        compute: Callable[[str], Any],
        *,
        tenant: str | None = None,
        version: str = "",
        partition: Sequence[str] = (),
    ) -> Any:
        """Return the cached answer, or compute(question), which is then kept. An error of compute is not."""
        if hit := self.get(question, tenant=tenant, version=version, partition=partition):
            return hit.answer
        with tools_watched() as watch:
            answer = compute(question)
        if watch.was_used:
            self._count(not_kept="tools")
        else:
            self.put(question, answer, tenant=tenant, version=version, partition=partition)
        return answer

    async def ask_async(
        self,
        question: str,
        compute: Callable[[str], Awaitable[Any]],
        *,
        tenant: str | None = None,
        version: str = "",
        partition: Sequence[str] = (),
    ) -> Any:
        """Do as ask; the embedding and the verifier run in a thread, so the loop goes on meanwhile."""
        where: dict[str, Any] = {"tenant": tenant, "version": version, "partition": partition}
        if hit := await asyncio.to_thread(self.get, question, **where):
            return hit.answer
        with tools_watched() as watch:
            answer = await compute(question)
        if watch.was_used:
            self._count(not_kept="tools")
        else:
            await asyncio.to_thread(self.put, question, answer, **where)
        return answer

    def explain(
        self, question: str, *, tenant: str | None = None, version: str = "", partition: Sequence[str] = ()
    ) -> list[Candidate]:
        """Return what get would try, best first, and what a guard refuses; nothing is verified or counted."""
        place = _place(tenant, version, partition)
        return [candidate for _, candidate in self._tried(question, place)]

    def forget(
        self, *, tenant: str | None = None, version: str | None = None, customer: str | None = None
    ) -> int:
        """Drop the answers of a tenant, a version, a customer, or of several of these; without any, all."""
        with self._lock:
            dropped = [
                place
                for place in self._partitions
                if tenant in (None, place[0]) and version in (None, place[1]) and customer in (None, place[2])
            ]
            return sum(len(self._partitions.pop(place)) for place in dropped)

    def stats(self) -> SemanticStats:
        """Return the counts so far, as a copy."""
        with self._lock:
            return replace(
                self._stats, refused_by=dict(self._stats.refused_by), not_kept=dict(self._stats.not_kept)
            )

    def __len__(self) -> int:
        """Count the answers held, those too old to be served included until somebody looks at them."""
        with self._lock:
            return sum(map(len, self._partitions.values()))

    def _tried(self, question: str, place: tuple[str, ...]) -> Iterator[tuple[Entry, Candidate]]:
        with self._lock:
            if place not in self._partitions:
                return
        vector = self._vector(question)
        with self._lock:
            held = self._partitions.get(place)
            if held is None or vector is None:
                return
            self._partitions.move_to_end(place)
            near, expired = held.near(vector, self.threshold, self._candidates, self._clock())
            self._stats.expired += expired
        for entry, similarity in near:
            refused = refusal(question, entry.question, guards=self.guards)
            guard, reason = (refused.guard, refused.reason) if refused else ("", "")
            yield entry, Candidate(entry.question, similarity, guard, reason)

    def _verified(self, question: str, entry: Entry) -> bool:
        if self.verifier is None:
            return True
        try:
            is_same = bool(self.verifier(question, entry.question, copy.deepcopy(entry.answer)))
        except Exception:  # border: a judge that is down costs a hit, not the customer's answer
            self._count(verifier_errors=1)
            return False
        if not is_same:
            self._count(verifier_refusals=1)
        return is_same

    def _taken(self, place: tuple[str, ...], entry: Entry) -> bool:
        """Count a hit, unless the entry was dropped or replaced while the verifier was thinking."""
        with self._lock:
            held = self._partitions.get(place)
            if held is None or not held.holds(entry):
                return False
            held.touch(entry.question)
            self._stats.hits += 1
            return True

    def _vector(self, question: str) -> Any:
        """Return the question's vector, or None if a service of embeddings is down."""
        from course_lib.caching.semantic.minilm import shared, unit

        if self._embed is None:
            return unit(shared()([question]))[0]
        try:
            return unit(self._embed([question]))[0]
        except Exception:  # border: the caller's embedding; without it questions are computed, not lost
            self._count(embed_errors=1)
            return None

    def _mark(self, thing: Any) -> str:
        return next((mark for private in self._private if (mark := private(thing))), "")

    def _count(
        self, *, refused_by: str = "", not_kept: str = "", not_looked_up: str = "", **counts: int
    ) -> None:
        with self._lock:
            for name, count in counts.items():
                setattr(self._stats, name, getattr(self._stats, name) + count)
            if refused_by:
                self._stats.refused_by[refused_by] = self._stats.refused_by.get(refused_by, 0) + 1
            if mark := not_kept or not_looked_up:
                self._stats.not_kept[mark] = self._stats.not_kept.get(mark, 0) + 1


def _place(tenant: str | None, version: str, partition: Sequence[str]) -> tuple[str, ...]:
    """Return the partition's key: compared part by part, so that no part can run into the next."""
    keys = sys.modules.get("course_lib.caching.keys")  # not loaded, with DSPy: nobody can have set a scope
    scope = keys.current_scope() if keys else None
    who = tenant if tenant is not None else scope and scope.tenant
    if not isinstance(who, str) or not who:
        raise SemanticCacheError(
            f"tenant {who!r}: an answer belongs to one tenant, and is never served without one. "
            "Say which, here or by scope(tenant=...); one name for all will do if there is only one."
        )
    if isinstance(partition, str) or not all(isinstance(part, str) for part in partition):
        raise SemanticCacheError(f"partition {partition!r} is no list of texts, such as ('de', 'mobile')")
    customer = scope.customer if scope and scope.tenant == who else None
    return (who, version or (scope and scope.version) or "", customer or "", *partition)
