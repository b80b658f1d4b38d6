"""A cache in three levels, joined from the parts of project 2: memory, Redis and a file.

Main path: ThreeLevels(redis_url, folder) -> Lookup -> Counted(Memory, Shared, File); all but File can be a
learner's own. A level has get(key), set(key, value) and delete(key), async, and values are text.
Source: redis-py 8 (redis.asyncio); course_lib.flight.Cache is what it satisfies.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from course_lib.caching import DiskTier
from course_lib.exercises.engine.registry import is_stub

Make = Callable[[], Awaitable[str]]


def redis_client(url: str, within_s: float = 0.25) -> redis.asyncio.Redis:
    """Return a client that waits for an answer for so long, and tries nothing twice."""
    waits: dict[str, Any] = {"socket_timeout": within_s, "socket_connect_timeout": within_s}
    retry = redis.asyncio.retry.Retry(NoBackoff(), 0)
    return redis.asyncio.Redis.from_url(url, **waits, retry=retry)


class File:
    """A level in a file, which is there after a restart; what cannot be read or written is a miss."""

    def __init__(self, path: Path, ttl_s: float = 86_400.0, clock: Callable[[], float] = time.time) -> None:
        self._tier, self._ttl_s = DiskTier(path, 16_000_000, clock=clock), ttl_s
        self.close = self._tier.close

    async def get(self, key: str) -> str | None:
        """Return the value, or None."""
        value = await asyncio.to_thread(self._tier.get, key)
        return None if value is None else value.decode(errors="surrogatepass")

    async def set(self, key: str, value: str) -> None:
        """Keep a value."""
        text = value.encode(errors="surrogatepass")
        await asyncio.to_thread(self._tier.put, key, text, ttl_s=self._ttl_s)

    async def delete(self, key: str) -> None:
        """Forget a value."""
        await asyncio.to_thread(self._tier.delete, [key])


class Lookup:
    """Asks levels in turn; a hit fills the levels above it, and a miss is made once for all who wait."""

    def __init__(self, levels: list[Any]) -> None:
        self.levels = levels
        self._calls, self._changes, self._writing = dict[str, asyncio.Task[str]](), 0, asyncio.Lock()

    async def get(self, key: str, make: Make | None = None) -> str | None:
        """Return the value; without one, what `make` returns, which is kept, or None."""
        if make is None:
            return await self._find(key, self._changes)
        if key not in self._calls:
            self._calls[key] = asyncio.create_task(self._find_or_make(key, make))
        return await asyncio.shield(self._calls[key])

    async def set(self, key: str, value: str) -> None:
        """Keep a value in all levels."""
        await self._change(key, lambda level: level.set(key, value))

    async def delete(self, key: str) -> None:
        """Forget a value in all levels."""
        await self._change(key, lambda level: level.delete(key))

    async def _change(self, key: str, change: Callable[[Any], Awaitable[None]]) -> None:
        async with self._writing:
            try:
                for level in self.levels:
                    await change(level)
            finally:
                self._changes += 1
                self._calls.pop(key, None)

    async def _find(self, key: str, changes: int) -> str | None:
        for depth, level in enumerate(self.levels):
            value: str | None = await level.get(key)
            if value is not None:
                await self._fill(self.levels[:depth], key, value, changes)
                return value
        return None

    async def _find_or_make(self, key: str, make: Make) -> str:
        changes = self._changes
        try:
            value = await self._find(key, changes)
            if value is None:
                value = await make()
                await self._fill(self.levels, key, value, changes)
            return value
        finally:
            if self._calls.get(key) is asyncio.current_task():
                del self._calls[key]

    async def _fill(self, levels: list[Any], key: str, value: str, changes: int) -> None:
        async with self._writing:
            if changes == self._changes:  # else it may be older than what was set or deleted meanwhile
                for level in levels:
                    await level.set(key, value)


class Memory:
    """A level of at most `most` values, each for `ttl_s` seconds; the one unused for longest goes first."""

    def __init__(self, most: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self.ttl_s, self.clock, self.evictions = most, ttl_s, clock, 0
        self._kept = OrderedDict[str, tuple[float, str]]()

    async def get(self, key: str) -> str | None:
        """Return the value, or None."""
        until_s, value = self._kept.get(key, (-math.inf, ""))
        if self.clock() >= until_s:
            self._kept.pop(key, None)
            return None
        self._kept.move_to_end(key)
        return value

    async def set(self, key: str, value: str) -> None:
        """Keep a value."""
        self._kept[key] = self.clock() + self.ttl_s, value
        self._kept.move_to_end(key)
        while len(self._kept) > self.most:
            self._kept.popitem(last=False)
            self.evictions += 1

    async def delete(self, key: str) -> None:
        """Forget a value."""
        self._kept.pop(key, None)


class Shared:
    """A level in Redis; after a failure it is left alone for `rest_s` seconds. Nothing here raises."""

    def __init__(
        self, client: Any, ttl_s: float, rest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.client, self.ttl_s, self.rest_s, self.clock = client, ttl_s, rest_s, clock
        self._rests_until_s, self._owed = -math.inf, set[str]()

    async def get(self, key: str) -> str | None:
        """Return the value, or None; also for what somebody else put under this key."""
        raw = await self._attempt(lambda: self.client.get(key))
        try:
            kept = json.loads(raw)
            return kept["value"] if kept["key"] == key and isinstance(kept["value"], str) else None
        except (TypeError, ValueError, KeyError, RecursionError):
            return None

    async def set(self, key: str, value: str) -> None:
        """Keep a value."""
        text = json.dumps({"key": key, "value": value})
        self._owed.add(key)  # where this does not get through, what is there is out of date
        if await self._attempt(lambda: self.client.set(key, text, px=max(1, int(1000 * self.ttl_s)))):
            self._owed.discard(key)

    async def delete(self, key: str) -> None:
        """Forget a value: now, or before anything is asked of Redis again."""
        self._owed.add(key)
        await self._attempt(self.client.ping)

    async def _attempt(self, call: Callable[[], Awaitable[Any]]) -> Any:
        if self.clock() < self._rests_until_s:
            return None
        try:
            while self._owed:
                key = next(iter(self._owed))
                await self.client.delete(key)
                self._owed.discard(key)
            return await call()
        except ResponseError:  # it answers: what is under this key is no text
            return None
        except (RedisError, OSError):
            self._rests_until_s = self.clock() + self.rest_s
            return None


class _Level:
    """A level whose hits and misses are counted."""

    def __init__(self, level: Any) -> None:
        self._level, self.hits, self.misses = level, 0, 0
        self.set, self.delete = level.set, level.delete

    async def get(self, key: str) -> str | None:
        value: str | None = await self._level.get(key)
        self.hits += value is not None
        self.misses += value is None
        return value


class Counted:
    """Levels by name, and what became of what was asked of them."""

    def __init__(self, levels: Mapping[str, Any]) -> None:
        self._named, self._all = {name: _Level(level) for name, level in levels.items()}, [*levels.values()]
        self.levels = [*self._named.values()]

    def report(self) -> dict[str, Any]:
        """Return hits by level, misses of all, evictions, and the share of hits."""
        hits, misses = {name: each.hits for name, each in self._named.items()}, self.levels[-1].misses
        asked = sum(hits.values()) + misses
        rate = sum(hits.values()) / asked if asked else 0.0
        evictions = sum(getattr(level, "evictions", 0) for level in self._all)
        return {"hits": hits, "misses": misses, "evictions": evictions, "hit_rate": rate}


async def warm(
    cache: Any, log: Iterable[str], most: int, make: Callable[[str], Awaitable[str]], at_once: int = 4
) -> int:
    """Have the cache hold the `most` keys that a log names most often; returns how many it holds."""
    keys = iter([key for key, _ in Counter(log).most_common(most)])
    held = 0

    async def work() -> None:
        nonlocal held
        for key in keys:
            with suppress(Exception):  # border: one that fails is asked again when it is needed
                await cache.get(key, lambda key=key: make(key))
                held += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return held


def _sendable(key: str) -> str:
    """Return a key as it is, but for half characters, which no store takes."""
    return key.encode(errors="backslashreplace").decode()


class ThreeLevels:
    """Memory, Redis and a file as one cache, in an `async with`.

    Args:
        redis_url: where Redis is; it goes on without.
        folder: where the file is, or is made.
        parts: the learner's Lookup, Memory, Shared and Counted; ours where one is a stub, or is not given.
        most: values in memory.
        ttl_s: for how long memory and Redis keep a value.
    """

    def __init__(
        self, redis_url: str, folder: Path, *parts: Any, most: int = 1000, ttl_s: float = 3600.0
    ) -> None:
        ours: tuple[Any, ...] = (Lookup, Memory, Shared, Counted)
        chosen = zip([*parts, *ours[len(parts) :]], ours, strict=True)
        lookup, memory, shared, counted = (own if is_stub(part) else part for part, own in chosen)
        self._client, self._file = redis_client(redis_url), File(folder / "cache.sqlite3")
        redis_level = shared(self._client, ttl_s, 1.0, time.monotonic)
        levels = {"memory": memory(most, ttl_s, time.monotonic), "redis": redis_level, "file": self._file}
        self._counted = counted(levels)
        self._lookup = lookup(self._counted.levels)
        self.levels = levels

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
        self._file.close()

    async def get(self, key: str, make: Make | None = None) -> str | None:
        """Return what is kept under a key; else what `make` returns, or None."""
        value: str | None = await self._lookup.get(_sendable(key), make)
        return value

    async def set(self, key: str, value: str) -> None:
        """Keep a value under a key."""
        await self._lookup.set(_sendable(key), value)

    async def delete(self, key: str) -> None:
        """Forget what is kept under a key."""
        await self._lookup.delete(_sendable(key))

    def report(self) -> Mapping[str, Any]:
        """Return hits by level, misses, evictions and the share of hits."""
        told: Mapping[str, Any] = self._counted.report()
        return told
