"""A cache of tiers under every dspy.LM call: memory, then Redis, then disk, fastest first.

Main path: dspy.cache = TieredCache(...); get -> the first tier that has it -> the faster ones are filled.
Source: dspy.clients.cache.Cache, the contract of get and put (DSPy 3.4.1). DSPy lets an error of either end
the model's call, so nothing that goes wrong in here leaves it: it is counted, and told by stats().
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from course_lib.caching import handover, judgement, wire
from course_lib.caching.disk import DiskTier
from course_lib.caching.entries import Entry, Sealer, handed_out, held_in_memory
from course_lib.caching.invalidation import Asked, InvalidationLog, Mark
from course_lib.caching.keys import Scope, UnkeyableError, current_scope, key_of, tag_of, tags_of
from course_lib.caching.memory import MemoryTier
from course_lib.caching.outside import Outside
from course_lib.caching.redis_tier import RedisTier
from course_lib.caching.seam import CacheMisuseError, Seam, check_settings
from course_lib.caching.stats import Stats, Tally
from course_lib.caching.tiers import Tier

if TYPE_CHECKING:
    import dspy

    from course_lib.caching.front import CachedLM
    from course_lib.caching.watcher import CacheWatcher

MIB = 1024 * 1024
DAY_S = 86_400.0
_OF_SOMEBODY = "of somebody"  # in memory, a further tag of every answer that could be invalidated


class TieredCache(Seam):
    """Memory, Redis and disk as one dspy.cache. Threads and tasks may share it.

    Args:
        memory_bytes: room in this process.
        redis_url: a Redis to share answers through; None for none.
        disk_path: a SQLite file for answers that outlive the process; None for none.
        disk_bytes: room in that file.
        ttl_s: how long an answer counts, where its scope says nothing; None: as long as there is room.
        ttl_jitter_share: up to this share of `ttl_s` is taken off at random: not all runs out at once.
        namespace: keeps apart caches in one Redis; part of every key.
        signing_key: with it, only who knows it can put an answer into Redis or the file.
        require_tenant: cache nothing for a call without a tenant in its scope.
        compress_over_bytes: longer answers are compressed outside memory.
        lag_s: how long an invalidation by another process may go unseen while Redis can be reached.
        clock: seconds since 1970; answers carry the time that they run out.

    Settings that make no sense raise a CacheMisuseError.
    """

    def __init__(
        self,
        memory_bytes: int = 64 * MIB,
        *,
        redis_url: str | None = None,
        disk_path: str | Path | None = None,
        disk_bytes: int = 256 * MIB,
        ttl_s: float | None = DAY_S,
        ttl_jitter_share: float = 0.1,
        namespace: str = "course",
        signing_key: bytes | None = None,
        require_tenant: bool = False,
        compress_over_bytes: int = wire.COMPRESS_OVER_BYTES,
        lag_s: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_settings(locals())
        super().__init__()
        self.namespace = namespace
        self.require_tenant = require_tenant
        self.memory = MemoryTier(memory_bytes, clock=clock)
        self.shared = RedisTier(redis_url, prefix=f"{namespace}:") if redis_url else None
        self.disk = DiskTier(Path(disk_path), max_bytes=disk_bytes) if disk_path else None
        self._ttl_s = ttl_s
        self._jitter_share = ttl_jitter_share
        self._jitter = random.Random()
        self._clock = clock
        self._tally = Tally()
        self._asked = Asked()
        self._log = InvalidationLog(
            self.shared, drop=self._drop_here, forget_all=self._forget_here, lag_s=lag_s
        )
        sealer = Sealer(signing_key, compress_over_bytes)
        self._outside = Outside(
            self.shared, self.disk, log=self._log, sealer=sealer, tally=self._tally, clock=clock
        )

    # -- what DSPy calls -------------------------------------------------------------------------------

    def cache_key(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> str:
        """Return the key of a request in the current scope, the same for sync and async.

        Raises:
            UnkeyableError: it holds a value without a stable form, or has no tenant where one is required.
        """
        scope = current_scope()
        if self.require_tenant and scope.tenant is None:
            raise UnkeyableError("no tenant in its scope, and require_tenant is set")
        return key_of(request, scope, namespace=self.namespace, ignored=ignored_args_for_cache_key or ())

    def get(self, request: dict[str, Any], ignored_args_for_cache_key: list[str] | None = None) -> Any:
        """Return the answer to a request, an object of the caller's own, or None."""
        try:
            held = handover.take_pin()
            if held is not None:
                return self._from_pin(held)
            key = self.cache_key(request, ignored_args_for_cache_key)
        except UnkeyableError as error:
            self._tally.unkeyable(error.reason)
            return None
        except Exception as error:  # border: an error in here would end the model's call
            self._tally.own_error(error)
            self._tally.miss()
            return None
        value = self.lookup(key)
        if value is None and not handover.note(key, self._log.mark()):
            self._asked.note(key, self._log.mark())
        return value

    def put(
        self,
        request: dict[str, Any],
        value: Any,
        ignored_args_for_cache_key: list[str] | None = None,
        enable_memory_cache: bool = True,
    ) -> None:
        """Keep an answer in every tier, if it is worth keeping."""
        handover.capture(value)
        try:
            key = self.cache_key(request, ignored_args_for_cache_key)
            mark = handover.mark_of(key) or self._asked.answered(key)
            self._keep(key, value, tags_of(current_scope()), mark, in_memory=enable_memory_cache)
        except UnkeyableError:
            pass  # counted when it was asked for
        except Exception as error:  # border: an error in here would end the model's call
            self._tally.own_error(error)

    def __contains__(self, key: str) -> bool:
        """Return whether a tier has this key; counts nothing."""
        return key in self.memory or self._outside.find(key) is not None

    def reset_memory_cache(self) -> None:
        """Empty the memory tier; Redis and disk keep what they have."""
        self.memory.clear()

    # -- by key ----------------------------------------------------------------------------------------

    def lookup(self, key: str) -> Any:
        """Return the answer under a key from the fastest tier that has it, and fill the faster; counted."""
        try:
            if not self._log.is_fresh:
                self._log.look()
            value = self._from_memory(key)
            if value is not None:
                self._tally.hit("memory", *judgement.spent(value))
                return handed_out(value)
            value = self._from_outside(key)
            if value is None:
                self._tally.miss()
        except Exception as error:  # border: an error in here would end the model's call
            self._tally.own_error(error)
            self._tally.miss()
            return None
        return value

    def peek(self, key: str) -> Any:
        """Return the answer under a key if memory has it, at once and uncounted.

        None also when other processes' invalidations have not been looked at for `lag_s`: get() does.
        """
        try:
            return handed_out(self._from_memory(key)) if self._log.is_fresh else None
        except Exception as error:  # border: a front must not fail because of its cache
            self._tally.own_error(error)
            return None

    def pinned(
        self, key: str, record: Any, *, counted_as: str | None = "memory"
    ) -> AbstractContextManager[None]:
        """Have the next get() in this block return `record`, once, without looking.

        `counted_as` names the tier of the hit, `flight` for an answer shared with a call under way; None for
        what lookup() has counted. A record of None is a miss that lookup() has counted.
        """
        return handover.pinned(handover.Pin(key, record, counted_as, self._log.mark()))

    def captured(self) -> AbstractContextManager[list[Any]]:
        """Yield a list that gets every value put in this block, also those that are not kept."""
        return handover.captured()

    def epoch(self) -> int:
        """Return a number that grows with every invalidation that this process has made or read."""
        return self._log.epoch

    def forget(self, key: str, *, because: str | None = None) -> bool:
        """Drop an answer here, in Redis and on disk (not in other processes' memory); counted `because`."""
        try:
            dropped = sum([tier.delete([key]) for tier in (self.memory, *self._outside.tiers)]) > 0
        except Exception as error:  # border: the watcher drops a bad answer while the program goes on
            self._tally.own_error(error)
            return False
        if dropped and because is not None:
            self._tally.not_kept(because)
        return dropped

    def warm(self, pairs: Iterable[tuple[str, Any]]) -> int:
        """Put (key, record) pairs into every tier, for the current scope; returns how many were kept."""
        tags, kept = tags_of(current_scope()), 0
        for key, record in pairs:
            kept += self._keep(key, record, tags, self._log.mark())
        return kept

    def invalidate(
        self, *, tenant: str | None = None, customer: str | None = None, version: str | None = None
    ) -> int:
        """Drop what was kept for a tenant, a customer or a version; of several named, what fits all of them.

        Here and in Redis at once; elsewhere within `lag_s`, or when Redis can be reached again (without
        Redis, never). Answers under way are not kept. Returns how many the fullest tier lost.

        Raises:
            CacheMisuseError: nothing is named.
        """
        named = Scope(tenant, customer, version)
        if not tags_of(named):
            raise CacheMisuseError("invalidate() drops nothing: name a tenant, a customer or a version")
        tag = tag_of(named)
        return max(self._log.add(tag), self.shared.drop_tag(tag) if self.shared else 0)

    # -- around it -------------------------------------------------------------------------------------

    def front(self, lm: dspy.LM) -> CachedLM:
        """Return an LM that also lets identical calls share one request, and replays hits as streams."""
        from course_lib.caching.front import fronted

        return fronted(lm, self)

    @cached_property
    def watcher(self) -> CacheWatcher:
        """A callback, for dspy.configure(callbacks=[...]), that drops answers which cannot be parsed."""
        from course_lib.caching.watcher import CacheWatcher

        return CacheWatcher(self)

    def stats(self) -> Stats:
        """Return what the cache did so far, and what is wrong now."""
        tiers: list[Tier] = [self.memory, *self._outside.tiers]
        trouble = [tier.trouble for tier in tiers] + [self._log.trouble]
        if self.disk is not None and not self._log.is_known:
            trouble.append("the disk is not read until Redis has told what was invalidated meanwhile")
        return self._tally.snapshot(
            size_bytes={tier.name: tier.size_bytes() for tier in tiers},
            trouble=tuple(line for line in trouble if line),
        )

    def reset_stats(self) -> None:
        """Count from zero again."""
        self._tally.reset()

    def close(self) -> None:
        """Give back connections and files. The cache may still be asked, and misses."""
        for tier in (self.memory, *self._outside.tiers):
            tier.close()

    # -- inside ----------------------------------------------------------------------------------------

    def _from_pin(self, held: handover.Pin) -> Any:
        handover.note(held.key, held.mark)
        if held.record is None:  # looked up by the front, a moment ago; meanwhile somebody may have answered
            value = self._from_memory(held.key)
            if value is not None:
                self._tally.hit("memory", *judgement.spent(value))
            return handed_out(value)
        if held.counted_as is not None:
            self._tally.hit(held.counted_as, *judgement.spent(held.record))
        return handed_out(held.record, is_shared=held.counted_as == "flight")

    def _from_memory(self, key: str) -> Any:
        held = self.memory.get(key)
        return orjson.loads(held) if type(held) is bytes else held

    def _from_outside(self, key: str) -> Any:
        found = self._outside.find(key)
        if found is None:
            return None
        entry = found.entry
        held, size_bytes = held_in_memory(entry.record, is_plain=True)
        tags = _in_memory(entry.tags)
        with self._log.gate:
            if self._log.is_outdated(entry.tags, entry.place):  # dropped since it was read
                return None
            self.memory.put(key, held, ttl_s=found.left_s, tags=tags, size_bytes=size_bytes)
        self._outside.fill(key, found)
        self._tally.hit(found.tier.name, *judgement.spent(entry.record))
        return entry.record

    def _keep(
        self, key: str, value: Any, tags: tuple[str, ...], mark: Mark, *, in_memory: bool = True
    ) -> bool:
        reason = judgement.refusal(value)
        if reason is not None:
            self._tally.not_kept(reason)
            return False
        ttl_s = current_scope().ttl_s or self._ttl_s
        if ttl_s is not None:
            ttl_s *= 1 - self._jitter_share * self._jitter.random()
        is_plain = judgement.is_plain(value)
        held, size_bytes = held_in_memory(value, is_plain=is_plain)
        sealed = None
        if is_plain:
            until_s = None if ttl_s is None else self._clock() + ttl_s
            sealed = self._outside.seal(key, Entry(value, tags, mark.place, until_s))
        else:
            self._tally.not_kept(f"only in memory, being no plain JSON ({type(value).__name__})")
        if tags:
            self._log.look(now=True)
        with self._log.gate:
            if self._log.is_stale(tags, mark) or self._log.is_outdated(tags, mark.place):
                self._tally.not_kept("asked before an invalidation")
                return False
            if in_memory:
                self.memory.put(key, held, ttl_s=ttl_s, tags=_in_memory(tags), size_bytes=size_bytes)
            if sealed is not None and self.disk is not None:
                self.disk.put(key, sealed, ttl_s=ttl_s, tags=tags)
        if sealed is not None and self.shared is not None:
            self.shared.put(key, sealed, ttl_s=ttl_s, tags=tags)
        self._tally.kept()
        return True

    def _drop_here(self, tag: str) -> int:
        return max(self.memory.drop_tag(tag), self.disk.drop_tag(tag) if self.disk else 0)

    def _forget_here(self) -> None:
        self.memory.drop_tag(_OF_SOMEBODY)


def _in_memory(tags: tuple[str, ...]) -> tuple[str, ...]:
    return (*tags, _OF_SOMEBODY) if tags else ()
