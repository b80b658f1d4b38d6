"""A cache for questions in other words: near in meaning, not refused by a guard, and never another tenant's.

Main path: get -> partition -> nearest vector -> guards -> Match, or None.

The partition is chosen first and by equality: tenant, program version and customer. Only then are vectors
compared, so no threshold, however low, can reach another tenant's answer. What a call does not name is taken
from `scope(tenant=..., customer=..., version=...)` of course_lib.caching.

What private_mark() finds a mark of is not kept: a question or an answer that names an order, a parcel, an
e-mail address or a card, and an answer that an agent made with tools, since it holds what the tools said
then. Such a question is not looked up either. What is private without a mark ("where is my parcel?") is for
the caller to keep apart: name the customer in the scope, or do not ask this cache. Nor is a question kept or
looked up that the embedding does not read whole: see MiniLM.sees.

Identical questions at the same moment are each computed; joining a call in flight is CachedLM's work.
"""

from __future__ import annotations

import copy
import re
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cachetools import LRUCache

from course_lib.caching.keys import current_scope, is_lost
from course_lib.caching.semantic.guards import GUARDS, Guard, Refusal, refusal
from course_lib.errors import CourseError
from course_lib.lm.encoder import Vectors, shared, unit
from course_lib.resilience import forks

__all__ = ["SemanticCache", "SemanticCacheError", "shared"]

Embed = Callable[[Sequence[str]], Any]
_ROUNDING = 1e-6  # a vector times itself may come out a little under 1


class SemanticCacheError(CourseError):
    """The cache is asked for something that it cannot do safely."""


@dataclass(frozen=True, slots=True)
class Match:
    """The nearest question that is cached, its answer, and whether a guard refuses it."""

    question: str
    answer: Any
    similarity: float
    refused_by: str = ""
    """Name of the guard, or empty."""
    reason: str = ""


class SemanticCache:
    """Answers a question with the answer to one that means the same.

    Guards are not sure: of near-misses in wholly other words some are answered, wrongly (see data/README.md).

    Args:
        embed: texts -> one vector per text, of any length; None for MiniLM. While it fails, nothing is a hit.
            If it has a method `sees(text)`, a text of which that is False is neither looked up nor kept.
        threshold: least cosine, 0 to 1; `calibrate` chooses it from labelled pairs.
        guards: each may refuse a pair of questions, however near they are; the last one may be a model that
            judges both questions, where a wrong answer costs more than a call. An error counts as a refusal.
        max_entries: kept in each partition; the ones unused for longest go first.
        max_partitions: kept at once; the one unused for longest goes with all it holds.
        ttl_s: age from which an answer is not served.
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
        max_entries: int = 10_000,
        max_partitions: int = 1_000,
        ttl_s: float = 3600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < threshold <= 1:
            raise SemanticCacheError(f"threshold {threshold!r} is no cosine above 0 and up to 1")
        if max_entries < 1 or max_partitions < 1:
            raise SemanticCacheError("max_entries and max_partitions are at least 1")
        self.threshold, self.guards = threshold, tuple(guards)
        self._embed, self._ttl_s, self._clock = embed, ttl_s, clock
        self._max_entries = max_entries
        self._partitions: LRUCache[tuple[str, ...], _Partition] = LRUCache(max_partitions)
        self._lock = threading.RLock()
        forks.things.add(self)
        self._counts = Counter[str](hits=0, misses=0, puts=0)

    def get(self, question: str, *, tenant: str | None = None, version: str = "") -> Match | None:
        """Return the answer to a question of this partition that means the same; None if there is none."""
        key = _partition_key(tenant, version)
        match = self._nearest(question, key)
        with self._lock:
            if match is not None and match.refused_by:
                self._counts[f"refused by {match.refused_by}"] += 1
            elif match is not None and key in self._partitions and self._partitions[key].use(match):
                self._counts["hits"] += 1
                return copy.deepcopy(match)
            self._counts["misses"] += 1
        return None

    def put(self, question: str, answer: Any, *, tenant: str | None = None, version: str = "") -> bool:
        """Keep an answer, and say whether it was kept; the module's text says what is not."""
        key = _partition_key(tenant, version)
        vector = self._vector(question, answer)
        if vector is None:
            return False
        entry = _Entry(question, copy.deepcopy(answer), self._clock())
        with self._lock:
            self._partitions.setdefault(key, _Partition(len(vector), self._max_entries)).put(entry, vector)
            self._counts["puts"] += 1
        return True

    def explain(self, question: str, *, tenant: str | None = None, version: str = "") -> Match | None:
        """Return the nearest question if it is near enough, and the guard that refuses it."""
        return copy.deepcopy(self._nearest(question, _partition_key(tenant, version)))

    def forget(
        self, *, tenant: str | None = None, version: str | None = None, customer: str | None = None
    ) -> int:
        """Drop the answers of a tenant, a version, a customer, or of several of these; without any, all."""
        wanted = tenant, version, customer
        with self._lock:
            pairs = [(key, zip(wanted, key, strict=True)) for key in self._partitions]
            keys = [key for key, parts in pairs if all(want in (None, part) for want, part in parts)]
            return sum(len(self._partitions.pop(key).rows) for key in keys)

    def stats(self) -> dict[str, int]:
        """Count what happened: "hits", "misses", "puts", "refused by order", "kept out: not read", ..."""
        with self._lock:
            return dict(self._counts)

    def _nearest(self, question: str, key: tuple[str, ...]) -> Match | None:
        """Return the nearest question, if it is near enough, with what the guards say of it.

        Only that one: where a guard refuses it, the question is a near-miss, and a farther one is no better.
        """
        vector = self._vector(question)
        with self._lock:
            partition = self._partitions.get(key)
            if vector is None or partition is None:
                return None
            entry, similarity = partition.nearest(vector, self._clock() - self._ttl_s)
        if entry is None or similarity < self.threshold - _ROUNDING:
            return None
        try:
            refused = refusal(question, entry.question, guards=self.guards)
        except Exception as error:  # border: a judge that is down costs a hit, not the customer's answer
            refused = Refusal("error", repr(error))
        return Match(entry.question, entry.answer, similarity, *(refused or ()))

    def _vector(self, question: str, answer: Any = "") -> Vectors | None:
        """Return the question's vector; None for what is kept out, or if a service of embeddings is down."""
        embed = self._embed or shared()
        try:
            mark = private_mark(question) or private_mark(answer)
            if not mark and getattr(embed, "sees", str.strip)(question):
                vector: Vectors = unit(embed([question]))[0]
                return vector
            why = f"kept out: {mark or 'not read by the embedding'}"
        except CourseError:  # MiniLM is not installed: the message says how to get it
            raise
        except Exception:  # border: the caller's embedding; without it questions are computed, not lost
            why = "embedding failed"
        with self._lock:
            self._counts[why] += 1
        return None


def _partition_key(tenant: str | None, version: str) -> tuple[str, ...]:
    """Return tenant, version and customer."""
    scope = current_scope()
    if is_lost():
        raise SemanticCacheError(
            "there is no scope here while others have theirs, so the customer is not known: say `with "
            "scope(...):` in this thread or task"
        )
    owner = tenant if tenant is not None else scope.tenant
    if not isinstance(owner, str) or not owner:
        raise SemanticCacheError(
            f"tenant {owner!r}: an answer belongs to one tenant, and is never served without one. "
            "Name it, here or by scope(tenant=...); one name for all will do if there is only one."
        )
    customer = scope.customer if scope.tenant == owner else None
    return owner, version or scope.version or "", customer or ""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One answer, and the question that it was given to."""

    question: str
    answer: Any
    stored_s: float


class _Partition:
    """Entries and their vectors, rows of a matrix that doubles when full; its cache holds the lock."""

    def __init__(self, dimensions: int, max_entries: int) -> None:
        self.rows: LRUCache[str, int] = LRUCache(max_entries)  # by question
        self._entries: list[_Entry] = []
        self._vectors: Vectors = np.empty((16, dimensions), np.float32)

    def put(self, entry: _Entry, vector: Vectors) -> None:
        """Keep an entry: in the row of its question, or of the one unused for longest, or in a new one."""
        row = self.rows.get(entry.question, len(self.rows))
        if row == self.rows.maxsize:
            _, row = self.rows.popitem()
        if row == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        self.rows[entry.question] = row
        self._vectors[row] = vector
        self._entries[row : row + 1] = [entry]

    def use(self, match: Match) -> bool:
        """Make a question the most recently used; return False if it has been dropped or answered anew."""
        row = self.rows.get(match.question)
        return row is not None and self._entries[row].answer is match.answer

    def nearest(self, vector: Vectors, stored_after_s: float) -> tuple[_Entry | None, float]:
        """Return the nearest entry that is not too old, and its similarity."""
        # einsum keeps to one thread: those of BLAS wait for each other when the cores are busy.
        similarities = np.einsum("ij,j->i", self._vectors[: len(self._entries)], vector)
        for row in np.argsort(-similarities, kind="stable"):
            if self._entries[row].stored_s > stored_after_s:
                return self._entries[row], float(similarities[row])
        return None, 0.0


# -- what belongs to one customer or one moment ----------------------------------------------------------

_PATTERNS = {
    "order number": re.compile(r"\bO-?\d{5}\b", re.IGNORECASE),
    "customer number": re.compile(r"\bC-\d{3}\b", re.IGNORECASE),
    "repair number": re.compile(r"\bR-\d{4}\b", re.IGNORECASE),
    "tracking number": re.compile(r"\bNP\d{9}\b", re.IGNORECASE),
    "invoice number": re.compile(r"\b(?:LN|CR)\d\d-\d{5}", re.IGNORECASE),
    "gift card code": re.compile(r"\bLG-\w{4,}", re.IGNORECASE),
    "e-mail address": re.compile(r"[\w.+-]+@[\w-]+\.\w+"),
    "card number": re.compile(r"\b(?:\d[ -]?){12,18}\d\b"),
}
_HYPHENS = re.compile("[\u2010-\u2015\u2212]")
_LEFT_BY_AGENTS = ("trajectory", "termination_reason", "actions")
"""Fields of a Prediction that ReAct, CodeAct, RLM, ReActV2 or desk.Act made."""


def private_mark(content: Any) -> str:
    """Return what in a text, a Prediction or a dict belongs to one customer or one moment; else "".

    >>> private_mark("Where is O-10154?"), private_mark("Do you ship to Norway?")
    ('order number', '')
    """
    if any(name in _LEFT_BY_AGENTS and value for name, value in _fields(content).items()):
        return "tools"
    text = _HYPHENS.sub("-", unicodedata.normalize("NFKC", "\n".join(_texts(content))))  # full-width, too
    return next((name for name, pattern in _PATTERNS.items() if pattern.search(text)), "")


def _fields(content: Any) -> dict[str, Any]:
    """Return the fields of a dict or a dspy.Prediction; none of anything else."""
    return dict(content.items()) if callable(getattr(content, "items", None)) else {}


def _texts(content: Any) -> Iterator[str]:
    content = list(_fields(content).items()) or content
    if isinstance(content, list | tuple | set | frozenset):
        for value in content:
            yield from _texts(value)
    else:
        yield str(content)
