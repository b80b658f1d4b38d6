# mypy: allow-subclassing-any
"""A cache of tiers under every dspy.LM call: memory, then Redis, then disk, fastest first.

Main path: dspy.cache = TieredCache(...); get -> the first tier that has it -> the faster ones are filled.
Source: dspy.clients.cache.Cache (DSPy 3.4.1). DSPy lets an error of get() or put() end the model's call, so
nothing that goes wrong in here leaves it: it is counted, and stats() says it.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cachetools import TTLCache
from dspy.clients.cache import Cache

from course_lib.caching.calls import CacheWatcher, current_call
from course_lib.caching.front import fronted
from course_lib.caching.invalidation import NOTHING_KNOWN, Invalidations, Stamp
from course_lib.caching.keys import Scope, UnkeyableError, current_scope, is_lost, key_of, tags_of
from course_lib.caching.memory import MemoryTier
from course_lib.caching.redis_tier import RedisTier
from course_lib.caching.stats import Stats, Tally
from course_lib.caching.tiers import Clock
from course_lib.caching.wire import Entry, Hit, NotPlain, cost_of, is_record, refusal, unpacked
from course_lib.errors import CourseError
from course_lib.notes import note
from course_lib.resilience.single_flight import SingleFlight

if TYPE_CHECKING:
    from course_lib.caching.disk import DiskTier

T = TypeVar("T")
MIB = 1024 * 1024
DAY_S = 86_400.0
_JITTER_SHARE = 0.1
_MOST_OPEN, _LONGEST_OPEN_S = 10_000, 600.0
_LOST = """this thread has no scope while others have one, so its calls are not cached from now on: use
dspy.Parallel, start it with contextvars.copy_context().run, or say `with scope(...):` in it"""
_warned = threading.local()


class CacheMisuseError(CourseError):
    """The cache was asked for something that it does not do, or that would drop nothing."""


class NotReached(CourseError):  # noqa: N818  (it says what happened)
    """Redis, through which processes tell one another what was dropped, does not answer."""


class TieredCache(Cache):
    """Memory, Redis and disk as one dspy.cache. Threads and tasks may share it.

    Args:
        memory_bytes: room in this process.
        redis_url: a Redis to share answers through; None for none.
        disk_path: a SQLite file for answers that outlive the process; None for none.
        disk_bytes: room in that file.
        ttl_s: how long an answer counts, less up to a tenth at random, so that not all expire at once; None:
            as long as there is room.
        namespace: keeps apart caches in one Redis; part of every key.
        signing_key: with it, only those who know it can put an answer into Redis or the file.
        require_tenant: cache nothing for a call without a tenant in its scope.
        lag_s: how long an invalidation by another process may go unseen while Redis can be reached.
        clock: seconds since 1970, for trials; answers carry the time at which they were kept.

    Raises:
        CacheMisuseError: a size or a time is no positive number, or a key or the namespace is empty.
    """

    def __init__(
        self,
        memory_bytes: int = 64 * MIB,
        *,
        redis_url: str | None = None,
        disk_path: str | Path | None = None,
        disk_bytes: int = 256 * MIB,
        ttl_s: float | None = DAY_S,
        namespace: str = "course",
        signing_key: bytes | None = None,
        require_tenant: bool = False,
        lag_s: float = 0.5,
        clock: Clock | None = None,
    ) -> None:
        self._settings = {k: v for k, v in locals().items() if k not in {"self", "__class__"}}
        _check(self._settings)
        super().__init__(enable_disk_cache=False, enable_memory_cache=False, disk_cache_dir=None)
        self.namespace, self.require_tenant = namespace, require_tenant
        self._ttl_s, self._clock = ttl_s, clock or time.time
        self._signing_key = signing_key
        self.memory = MemoryTier(memory_bytes, clock=clock or time.monotonic)
        self.shared = RedisTier(redis_url, prefix=f"{namespace}:") if redis_url else None
        self.disk: DiskTier | None = None
        if disk_path:
            from course_lib.caching.disk import DiskTier  # it brings SQLite, a megabyte

            self.disk = DiskTier(Path(disk_path), max_bytes=disk_bytes)
        self._lower = tuple(tier for tier in (self.shared, self.disk) if tier is not None)
        self.is_slow = bool(self._lower)
        """Whether find() and keep() may wait for Redis or a disk, so that a task calls them in a thread."""
        self.single_flight = SingleFlight()
        self._invalidations = Invalidations(self.shared, lag_s=lag_s)
        self._asked: TTLCache[str, list[Any]] = TTLCache(_MOST_OPEN, _LONGEST_OPEN_S)
        self._asking = threading.Lock()
        self._tally = Tally()
        _open_caches.add(self)

    # -- what DSPy calls -------------------------------------------------------------------------------

    def cache_key(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> str:
        """Return the key of a request in the current scope, the same for sync and async.

        Raises:
            UnkeyableError: it holds a value without a stable form, or has no tenant where one is required.
        """
        scope = current_scope()
        if is_lost():
            if not hasattr(_warned, "already"):
                _warned.already = True
                warnings.warn(_LOST, RuntimeWarning, stacklevel=2)
            raise UnkeyableError("a thread without a scope, while others have one")
        if self.require_tenant and scope.tenant is None:
            raise UnkeyableError("no tenant in its scope, and require_tenant is set")
        return key_of(request, scope, namespace=self.namespace, ignored=ignored_args_for_cache_key or ())

    def get(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> Any:
        """Return the answer to a request, an object of the caller's own, or None."""
        key = self._safely(self.cache_key, request, ignored_args_for_cache_key)
        if key is None:
            self._missed()
            return None
        hit, call = self.find(key), current_call.get()
        if call is not None and call.is_open:
            call.key, call.stamp = key, self.stamp
        elif hit is None:
            with self._asking:
                self._asked.setdefault(key, [self.stamp, 0])[1] += 1
        return hit and hit.record

    def put(
        self,
        request: dict[str, Any],
        value: Any,
        ignored_args_for_cache_key: list[str] | None = None,
        enable_memory_cache: bool = True,
    ) -> None:
        """Keep an answer in every tier, if it is worth keeping."""
        try:
            key = self.cache_key(request, ignored_args_for_cache_key)
        except Exception:  # border, as in get(), which has counted it
            return
        call = current_call.get()
        stamp = call.stamp if call is not None and call.key == key else None
        self.keep(key, value, stamp or self._earliest_stamp(key), in_memory=enable_memory_cache)

    def __contains__(self, key: str) -> bool:
        """Return whether a tier has this key; counts nothing."""
        return self._find(key, at_once=False) is not None

    def reset_memory_cache(self) -> None:
        """Empty the memory tier; Redis and disk keep what they have."""
        self.memory.clear()

    def save_memory_cache(self, filepath: str, allow_pickle: bool = False) -> None:  # noqa: ARG002
        """Refuse: DSPy's file is a pickle, which runs code when it is read."""
        raise CacheMisuseError(f"{filepath} would be a pickle; use TieredCache(disk_path=...), or warm()")

    load_memory_cache = save_memory_cache

    # -- by key ----------------------------------------------------------------------------------------

    @property
    def stamp(self) -> Stamp:
        """Which invalidations a question asked now knows; it changes with every one that is made or read."""
        return self._invalidations.stamp

    @property
    def is_fresh(self) -> bool:
        """Whether find(at_once=True) can find what belongs to a tenant; refresh() makes it so for `lag_s`."""
        return self._invalidations.is_fresh

    def refresh(self) -> None:
        """Read from Redis what other processes have dropped, if that was not done within `lag_s`."""
        self._safely(self._invalidations.look)

    def find(self, key: str, *, at_once: bool = False, counts_miss: bool = True) -> Hit | None:
        """Find a key in the fastest tier that has it, and fill the faster; counted.

        `at_once` looks in memory alone and counts no miss; it finds nothing that might have been dropped by
        another process, if Redis has not been looked at for `lag_s`.
        """
        found = self._safely(self._find, key, at_once)
        if found is not None:
            self._tally.add("hits", found.tier, found.entry.tokens, found.entry.cost_usd)
            note("cache.hit", tier=found.tier)
        elif counts_miss and not at_once:
            self._missed()
        return found

    def _missed(self) -> None:
        self._tally.add("misses")
        note("cache.miss")

    def keep(self, key: str, value: Any, stamp: Stamp, *, in_memory: bool = True) -> bool:
        """Put an answer into every tier, for the current scope, if it is worth keeping; counted.

        `stamp` is what the cache's stamp was when the question was asked; `in_memory=False` leaves the answer
        to the slower tiers.
        """
        return bool(self._safely(self._keep, key, value, stamp, in_memory))

    def count_shared(self, value: Any) -> None:
        """Count an answer that a caller was given by another call under way."""
        self._tally.add("hits", "in flight", *cost_of(value))
        note("cache.hit", tier="in flight")

    def forget(self, key: str, *, because: str = "dropped by its key") -> bool:
        """Drop an answer here, in Redis and on disk (not in other processes' memory); counted `because`."""
        dropped = sum([tier.delete([key]) for tier in (self.memory, *self._lower)]) > 0
        if dropped:
            self._tally.add("not_kept", because)
        return dropped

    def warm(self, pairs: Iterable[tuple[str, Any]]) -> int:
        """Put (key, record) pairs into every tier, for the current scope; returns how many were kept."""
        return sum(self.keep(key, record, self.stamp) for key, record in pairs)

    def invalidate(
        self,
        *,
        tenant: str | None = None,
        customer: str | None = None,
        version: str | None = None,
        everywhere: bool = False,
    ) -> int:
        """Drop what was kept for a tenant, a customer or a version; of several named, what fits all of them.

        Here and in Redis at once; elsewhere within `lag_s`, or when Redis can be reached again (without
        Redis, never). Answers under way are not kept. Returns how many the fullest tier lost.

        Raises:
            CacheMisuseError: nothing is named.
            NotReached: with `everywhere`, Redis did not take all of it; call it again.
        """
        tags = tags_of(Scope(tenant, customer, version))
        if not tags:
            raise CacheMisuseError("invalidate() drops nothing: name a tenant, a customer or a version")
        tag = tags[-1]  # of all that is named
        is_told = self._invalidations.add(tag)
        dropped = max(tier.drop_tag(tag) for tier in (self.memory, *self._lower))
        if everywhere and not (is_told and (self.shared is None or not self.shared.last_error)):
            raise NotReached("Redis did not take all of it, so other processes may serve it; call it again")
        return dropped

    def is_dropped(self, stamp: Stamp) -> bool:
        """Return whether anything that concerns the current scope was dropped since `stamp`, in any process.

        Raises:
            NotReached: Redis does not answer now.
        """
        if not self._invalidations.look(now=True):
            raise NotReached("Redis does not say what was dropped; ask again when it answers")
        return not self._invalidations.is_valid(tags_of(current_scope()), stamp)

    # -- around it -------------------------------------------------------------------------------------

    front = staticmethod(fronted)

    @cached_property
    def watcher(self) -> CacheWatcher:
        """A callback, for dspy.configure(callbacks=[...]), that drops answers which cannot be parsed."""
        return CacheWatcher(self)

    def stats(self) -> Stats:
        """Return what the cache did so far, and what is wrong now."""
        tiers = (self.memory, *self._lower)
        errors = [tier.last_error for tier in tiers] + [self._invalidations.last_error]
        if self.disk is not None and not self._invalidations.is_known:
            errors.append("what is on disk for a tenant is not served until Redis tells what was invalidated")
        return self._tally.snapshot(
            size_bytes={tier.name: tier.size_bytes() for tier in tiers},
            last_errors=tuple(line for line in errors if line),
        )

    def close(self) -> None:
        """Give back connections and files. The cache may still be asked, and misses."""
        _open_caches.discard(self)
        for tier in (self.memory, *self._lower):
            tier.close()

    # -- inside ----------------------------------------------------------------------------------------

    def _safely(self, work: Callable[..., T], *arguments: Any) -> T | None:
        """Return work()'s value; None after an error, which would end the model's call."""
        try:
            return work(*arguments)
        except UnkeyableError as error:
            self._tally.add("unkeyable", error.reason)
        except Exception as error:  # border: DSPy lets an error in here end the call
            self._tally.add("own_errors", f"the cache failed in {type(error).__name__}: {error!s:.120}")
        return None

    def _earliest_stamp(self, key: str) -> Stamp:
        """Return what was known when the first of those who now ask for this key did.

        DSPy's get() and put() do not say which belong together where no call of an LM is noted.
        """
        with self._asking:
            stamp, callers = self._asked.get(key, (NOTHING_KNOWN, 0))
            if callers > 1:
                self._asked[key][1] -= 1
            else:
                self._asked.pop(key, None)
            return stamp

    def _find(self, key: str, at_once: bool) -> Hit | None:
        """Return the valid entry of the fastest tier that has one."""
        entry = self.memory.get(key)
        if at_once and (entry is None or (entry.tags and not self._invalidations.is_fresh)):
            return None
        if entry is None or entry.tags:
            self._invalidations.look()
        if entry is not None:
            if self._counts(entry):
                return Hit("memory", entry, entry.answer(), None)
            self.memory.delete([key])
        for depth, tier in enumerate(() if at_once else self._lower):
            blob = tier.get(key)
            if blob is not None and (hit := self._checked(tier, key, blob)):
                entry, left_s = hit.entry, hit.entry.left_s(self._clock())
                self.memory.put(key, entry, ttl_s=left_s, tags=entry.tags, size_bytes=entry.size_bytes)
                for faster in self._lower[:depth]:
                    faster.put(key, blob, ttl_s=left_s, tags=entry.tags)
                return hit
        return None

    def _counts(self, entry: Entry) -> bool:
        is_valid = self._invalidations.is_valid(entry.tags, entry.stamp)
        return is_valid and entry.left_s(self._clock()) != 0

    def _checked(self, tier: RedisTier | DiskTier, key: str, blob: bytes) -> Hit | None:
        """Return an entry that is ours, whole, in time and not from before an invalidation."""
        hit = unpacked(blob, key, self._signing_key, tier=tier.name)
        if hit and hit.entry.tags and not self._invalidations.is_known:
            return None
        if hit and self._counts(hit.entry):
            return hit
        self._tally.add("refused", tier.name)
        if hit:
            tier.delete([key])
        return None

    def _keep(self, key: str, value: Any, stamp: Stamp, in_memory: bool) -> bool:
        tags, reason = tags_of(current_scope()), refusal(value)
        if tags and reason is None:
            self._invalidations.look(now=True)
            if not self._invalidations.is_valid(tags, stamp):
                reason = "asked before an invalidation"
        if reason is not None:
            self._tally.add("not_kept", reason)
            return False
        ttl_s = self._ttl_s and self._ttl_s * (1 - _JITTER_SHARE * random.random())
        entry = Entry.of(value, tags=tags, stamp=stamp, kept_s=self._clock(), ttl_s=ttl_s)
        if in_memory:
            self.memory.put(key, entry, ttl_s=ttl_s, tags=tags, size_bytes=entry.size_bytes)
        self._tally.add("puts")
        if self._lower:
            try:
                if entry.is_json and not is_record(value):  # whoever reads it could not check it
                    raise NotPlain("it is no record of DSPy's")
                blob = entry.packed(key, self._signing_key)
            except NotPlain as error:
                self._tally.add("not_kept", f"only in memory: {error}")
                return True
            for tier in self._lower:
                tier.put(key, blob, ttl_s=ttl_s, tags=tags)
        return True


def _check(settings: Mapping[str, Any]) -> None:
    """Refuse, with a CacheMisuseError, what keeps nothing, keeps nothing apart, or lets anybody sign."""
    for name in ("memory_bytes", "disk_bytes", "ttl_s"):
        value = settings[name]
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not (is_number and value > 0) and not (value is None and name == "ttl_s"):
            raise CacheMisuseError(f"{name}={value!r} cannot be; give a number above 0")
    key, namespace = settings["signing_key"], settings["namespace"]
    if key is not None and not (isinstance(key, bytes) and key):  # the value is a secret
        what = f"a {type(key).__name__}" if key else "nothing, with which anybody could sign"
        raise CacheMisuseError(f"signing_key takes bytes, not {what}")
    if not isinstance(namespace, str) or not namespace:
        raise CacheMisuseError(f"namespace={namespace!r} keeps nothing apart; give a text")


_open_caches: weakref.WeakSet[TieredCache] = weakref.WeakSet()
_of_the_parent: list[Any] = []


def _begin_anew() -> None:
    """Begin each cache anew in a forked child; what it had is only kept.

    A thread of the parent may hold its locks, and SQLite forbids even closing what a parent has opened.
    """
    vars(_warned).clear()
    for cache in tuple(_open_caches):
        _of_the_parent.append(dict(vars(cache)))
        TieredCache.__init__(cache, **cache._settings)  # noqa: SLF001


os.register_at_fork(after_in_child=_begin_anew)
