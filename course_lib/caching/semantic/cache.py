"""A cache for questions in other words: near in meaning, not refused by a guard, and never another tenant's.

Main path: get -> partition -> vectors near enough, best first -> guards -> Hit, or None.

The partition is chosen first and by equality: tenant, program version, customer and whatever else the
caller names. Only then are vectors compared, so no threshold, however low, can reach another tenant's answer.
What a call does not name is taken from `scope(tenant=..., customer=..., version=...)` of course_lib.caching.

Three things are not kept: the answer to a question that names an order, a parcel, an e-mail address or a card
(private.py; such a question is not looked up either), an answer that names one, and an answer for which a
tool was called, since it holds what the tool said then; ask() notices that, put() only if the answer's fields
say so. What is private without such a mark ("where is my parcel?") is for the caller to keep apart: name the
customer in the scope, or do not ask this cache.

Identical questions at the same moment are each computed; joining a call in flight is CachedLM's work.
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import numpy as np

from course_lib.caching.keys import current_scope
from course_lib.caching.semantic.blas import one_blas_thread
from course_lib.caching.semantic.guards import GUARDS, Guard, Refusal, refusal
from course_lib.caching.semantic.minilm import Vectors, shared, unit
from course_lib.caching.semantic.private import Mark, private_mark, tools_watched, used_tools
from course_lib.errors import CourseError

Embed = Callable[[Sequence[str]], Any]


class SemanticCacheError(CourseError):
    """The cache is asked for something that it cannot do safely."""


class Where(TypedDict, total=False):
    """Whose answers a call may see; compared by equality, before any similarity."""

    tenant: str | None
    """Required, here or by `scope`."""
    version: str
    """Of the program and of all that its answers rest on."""
    partition: Sequence[str]
    """What else must be equal, such as ("de", "mobile")."""


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
        guards: each may refuse a pair of questions, however near they are; the last one may be a model that
            judges both questions, where a wrong answer costs more than a call. An error counts as a refusal.
        private: each may name a reason to keep a text out of the cache.
        max_entries: kept in each partition; the ones unused for longest go first.
        max_partitions: kept at once; the one unused for longest goes with all it holds.
        ttl_s: age at which an answer is dropped; None for never.
        candidates: how many near questions are tried, best first.
        clock: seconds, only ever rising.

    Raises:
        SemanticCacheError: a threshold or a limit that makes no sense.
    """

    def __init__(
        self,
        embed: Embed | None = None,
        *,
        threshold: float,
        guards: Sequence[Guard] = GUARDS,
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
        self.threshold, self.guards = threshold, tuple(guards)
        self._embed, self._private = embed, tuple(private)
        self._max_entries, self._max_partitions = max_entries, max_partitions
        self._ttl_s, self._candidates, self._clock = ttl_s, candidates, clock
        self._partitions: OrderedDict[tuple[str, ...], _Partition] = OrderedDict()
        self._lock = threading.RLock()
        self._counts = Counter[str](hits=0, misses=0, puts=0)

    def get(self, question: str, **where: Unpack[Where]) -> Hit | None:
        """Return the answer to a question of this partition that means the same; None if there is none."""
        key = _partition_key(**where)
        near = [] if self._is_private(question) else self._near(question, key)
        for entry, candidate in near:
            if candidate.refused_by:
                self._count(f"refused by {candidate.refused_by}")
            elif self._use(key, entry):
                age_s = self._clock() - entry.stored_s
                return Hit(copy.deepcopy(entry.answer), entry.question, candidate.similarity, age_s)
        self._count("misses")
        return None

    def put(self, question: str, answer: Any, **where: Unpack[Where]) -> bool:
        """Keep an answer, and say whether it was kept; the module's text says what is not."""
        key = _partition_key(**where)
        if self._is_private(question) or self._is_private(answer, used_tools):
            return False
        vector = self._vector(question)
        if vector is None:
            return False
        entry = _Entry(question, copy.deepcopy(answer), self._clock())
        with self._lock:
            partition = self._partitions.setdefault(key, _Partition(self._max_entries, len(vector)))
            self._partitions.move_to_end(key)
            evicted = partition.put(entry, vector)
            if len(self._partitions) > self._max_partitions:
                evicted += len(self._partitions.popitem(last=False)[1])
            self._counts.update(puts=1, evicted=evicted)
        return True

    def ask(self, question: str, compute: Callable[[str], Any], **where: Unpack[Where]) -> Any:
        """Return the cached answer, or compute(question), which is then kept. An error of compute is not."""
        if hit := self.get(question, **where):
            return hit.answer
        with tools_watched() as watch:
            answer = compute(question)
        self._put_unless(watch.was_used, question, answer, where)
        return answer

    async def ask_async(
        self, question: str, compute: Callable[[str], Awaitable[Any]], **where: Unpack[Where]
    ) -> Any:
        """Do as ask; embedding and guards run in a thread, so the loop goes on meanwhile."""
        if hit := await asyncio.to_thread(self.get, question, **where):
            return hit.answer
        with tools_watched() as watch:
            answer = await compute(question)
        await asyncio.to_thread(self._put_unless, watch.was_used, question, answer, where)
        return answer

    def explain(self, question: str, **where: Unpack[Where]) -> list[Candidate]:
        """Return what get would try, best first, and what a guard refuses; no hit is counted."""
        return [candidate for _, candidate in self._near(question, _partition_key(**where))]

    def forget(
        self, *, tenant: str | None = None, version: str | None = None, customer: str | None = None
    ) -> int:
        """Drop the answers of a tenant, a version, a customer, or of several of these; without any, all."""
        wanted = (tenant, version, customer)
        with self._lock:
            dropped = [
                key
                for key in self._partitions
                if all(want in (None, part) for want, part in zip(wanted, key, strict=False))
            ]
            return sum(len(self._partitions.pop(key)) for key in dropped)

    def stats(self) -> dict[str, int]:
        """Count what happened so far: "hits", "misses", "puts", "refused by terms", "kept out: tools", ..."""
        with self._lock:
            return dict(self._counts)

    def __len__(self) -> int:
        """Count the answers held, those too old to be served included until a question comes near them."""
        with self._lock:
            return sum(map(len, self._partitions.values()))

    def _near(self, question: str, key: tuple[str, ...]) -> Iterator[tuple[_Entry, Candidate]]:
        """Yield the cached questions that are near enough, best first, with what the guards say of them."""
        if key not in self._partitions:
            return
        vector = self._vector(question)
        with self._lock:
            partition = self._partitions.get(key)
            if vector is None or partition is None:
                return
            self._partitions.move_to_end(key)
            dropped_until_s = float("-inf") if self._ttl_s is None else self._clock() - self._ttl_s
            near, expired = partition.near(vector, self.threshold, dropped_until_s)
            self._counts["expired"] += expired
        for entry, similarity in near[: self._candidates]:
            yield entry, self._judged(question, entry.question, similarity)

    def _judged(self, question: str, cached: str, similarity: float) -> Candidate:
        try:
            refused = refusal(question, cached, guards=self.guards)
        except Exception as error:  # border: a judge that is down costs a hit, not the customer's answer
            refused = Refusal("error", repr(error))
        return Candidate(cached, similarity, *((refused.guard, refused.reason) if refused else ()))

    def _use(self, key: tuple[str, ...], entry: _Entry) -> bool:
        """Count a hit, unless the entry was dropped or replaced while a guard was at work."""
        with self._lock:
            partition = self._partitions.get(key)
            if partition is None or not partition.touch(entry):
                return False
            self._counts["hits"] += 1
            return True

    def _put_unless(self, has_used_tools: bool, question: str, answer: Any, where: Where) -> None:
        if has_used_tools:
            self._count("kept out: tools")
        else:
            self.put(question, answer, **where)

    def _vector(self, question: str) -> Vectors | None:
        """Return the question's vector, or None if a service of embeddings is down."""
        try:
            vector: Vectors = unit((self._embed or shared())([question]))[0]
        except CourseError:  # MiniLM is not installed: the message says how to get it
            raise
        except Exception:  # border: the caller's embedding; without it questions are computed, not lost
            self._count("embedding failed")
            return None
        return vector

    def _is_private(self, content: Any, *more: Mark) -> bool:
        """Say whether a question or an answer must stay out, and count the reason."""
        mark = next((mark for private in (*self._private, *more) if (mark := private(content))), "")
        if mark:
            self._count(f"kept out: {mark}")
        return bool(mark)

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1


def _partition_key(
    *, tenant: str | None = None, version: str = "", partition: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return the partition's key: compared part by part, so that no part can run into the next."""
    scope = current_scope()
    owner = tenant if tenant is not None else scope and scope.tenant
    if not isinstance(owner, str) or not owner:
        raise SemanticCacheError(
            f"tenant {owner!r}: an answer belongs to one tenant, and is never served without one. "
            "Name it, here or by scope(tenant=...); one name for all will do if there is only one."
        )
    if isinstance(partition, str) or not all(isinstance(part, str) for part in partition):
        raise SemanticCacheError(f"partition {partition!r} is no list of texts, such as ('de', 'mobile')")
    customer = scope.customer if scope and scope.tenant == owner else None
    return (owner, version or (scope and scope.version) or "", customer or "", *partition)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One answer, and the question that it was given to."""

    question: str
    answer: Any
    stored_s: float


class _Partition:
    """Entries by question, the least recently used first; its cache holds the lock.

    Their vectors are the first rows of a matrix that doubles when it is full; what is dropped is overwritten
    by the last of these rows.
    """

    def __init__(self, max_entries: int, dimensions: int) -> None:
        self._max_entries = max_entries
        self._entries: list[_Entry] = []
        self._rows: OrderedDict[str, int] = OrderedDict()
        self._vectors: Vectors = np.empty((16, dimensions), np.float32)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: _Entry, vector: Vectors) -> int:
        """Keep an entry in place of the one with the same question; return how many others had to go."""
        is_new = entry.question not in self._rows
        is_full = is_new and len(self) >= self._max_entries
        if is_full or not is_new:
            self._drop(next(iter(self._rows)) if is_full else entry.question)
        row = self._rows[entry.question] = len(self)
        if row == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        self._vectors[row] = vector
        self._entries.append(entry)
        return int(is_full)

    def touch(self, entry: _Entry) -> bool:
        """Make an entry the most recently used; return False if it was dropped or replaced."""
        row = self._rows.get(entry.question)
        if row is None or self._entries[row] is not entry:
            return False
        self._rows.move_to_end(entry.question)
        return True

    def near(
        self, vector: Vectors, threshold: float, dropped_until_s: float
    ) -> tuple[list[tuple[_Entry, float]], int]:
        """Return (entry, similarity) at or over the threshold, best first, and how many were too old."""
        with one_blas_thread():
            similarities = self._vectors[: len(self)] @ vector
        rows = np.flatnonzero(similarities >= threshold - _ROUNDING)
        best_first = rows[np.argsort(-similarities[rows], kind="stable")]
        close = [(self._entries[row], float(similarities[row])) for row in best_first]
        expired = [entry.question for entry, _ in close if entry.stored_s <= dropped_until_s]
        for question in expired:
            self._drop(question)
        return [each for each in close if each[0].stored_s > dropped_until_s], len(expired)

    def _drop(self, question: str) -> None:
        row, last = self._rows.pop(question), self._entries.pop()
        if last.question != question:
            self._entries[row], self._rows[last.question] = last, row
            self._vectors[row] = self._vectors[len(self)]


_ROUNDING = 1e-6  # a vector times itself may come out a little under 1
