"""Dropping answers everywhere: the time of each invalidation per tag in Redis, and a check on what is read.

Main path: Invalidations.add(tag) notes the time; each answer carries the Stamp of its question, and
is_valid(tags, stamp) says whether it may still be served. Other processes look at most `lag_s` later.

A stamp is the newest invalidation that was known when the question was asked, so it needs no clock but that
of Redis: an answer is refused if one of its tags was dropped later than its stamp, wherever it turns up, and
however late. Redis holds one sorted set: each tag with its time, and "" with the time from which on the set
is complete. If Redis lost it, or older times were trimmed, answers with an older stamp are refused.

What this cannot do: reach a process that cannot reach Redis; call back an answer that is on its way to a
caller; erase at once what other processes hold, though it is never served again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any

import redis

from course_lib.caching.redis_tier import RedisTier

Stamp = tuple[int, int]
"""The newest invalidation known from Redis, in microseconds of its clock (without Redis, of our own), and
how many were made here since then that Redis does not know."""

NOTHING_KNOWN: Stamp = (0, 0)
MOST_TAGS = 5000  # whose times are remembered; an answer that is older than all of these is refused

_LATEST_US = 2**53
"""The last time that a number of Redis tells from the next one, in the year 2255. No later one is ours."""

_ADD = f"""
redis.call('ZREMRANGEBYSCORE', KEYS[1], '({_LATEST_US}', '+inf')
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2] or 0
local time = redis.call('TIME')
local now = math.max(time[1] * 1000000 + time[2], last + 1, ARGV[2] + 1)
redis.call('ZADD', KEYS[1], 'NX', now, '')
redis.call('ZADD', KEYS[1], now, ARGV[1])
local excess = redis.call('ZCARD', KEYS[1]) - 1 - ARGV[3]
if excess > 0 then
  local gone = redis.call('ZPOPMIN', KEYS[1], excess + 1)
  redis.call('ZADD', KEYS[1], gone[#gone], '')
end
return now
"""
"""Notes a tag, at a time later than all before it though the clock go back. The tag "" begins the set
anew."""


class Invalidations:
    """When each tag was last dropped, as far as this process knows.

    Without a Redis tier, drops reach this process alone; with one, it may go `lag_s` without looking.
    """

    def __init__(self, shared: RedisTier | None, *, lag_s: float = 0.5) -> None:
        self.stamp: Stamp = NOTHING_KNOWN
        """What a question asked now knows; reading it waits for nobody, so that an event loop may."""
        self._shared, self._lag_s = shared, lag_s
        self._looked_s = float("-inf")
        self._times: OrderedDict[str, Stamp] = OrderedDict()
        self._complete_since: Stamp = NOTHING_KNOWN
        self._unsent: dict[str, Stamp] = {}
        self._changing, self._looking = threading.Lock(), threading.Lock()

    @property
    def is_known(self) -> bool:
        """Whether Redis has been read once, so that answers of earlier processes can be checked."""
        return self._shared is None or self._complete_since > NOTHING_KNOWN

    @property
    def is_fresh(self) -> bool:
        """Whether Redis was looked at no longer than `lag_s` ago, or need not be."""
        return self._shared is None or time.monotonic() - self._looked_s < self._lag_s

    @property
    def last_error(self) -> str:
        """One line while other processes do not know of an invalidation; else empty."""
        line = f"{len(self._unsent)} invalidations wait until Redis answers; other processes do not know them"
        return line if self._unsent else ""

    def is_valid(self, tags: tuple[str, ...], stamp: Stamp) -> bool:
        """Return whether nothing that would drop an answer with these tags is known since its question."""
        if not tags:
            return True
        is_earlier = (self._times.get(tag, NOTHING_KNOWN) <= stamp for tag in tags)
        return stamp >= self._complete_since and all(is_earlier)

    def add(self, tag: str) -> bool:
        """Drop a tag: here at once, and elsewhere as soon as Redis answers; return whether it has."""
        with self._changing:
            known, here = self.stamp
            if self._shared is None:  # then the clock of this machine is that of all who share a disk
                made = max(int(1e6 * time.time()), known + 1), 0
            else:
                made = self._unsent[tag] = known, here + 1
            self._set(tag, made)
            self.stamp = made
        return self.look(now=True)

    def look(self, *, now: bool = False) -> bool:
        """Tell Redis what waits and read what is new, if `now` or the last look is older than `lag_s`.

        Returns:
            False if Redis was asked and did not answer.
        """
        if self._shared is None or (self.is_fresh and not now):
            return True
        if not self._looking.acquire(blocking=now or not self.is_known):  # the first look is for all
            return True
        try:
            if now or not self.is_fresh:
                self._looked_s = time.monotonic()  # also when it fails: the breaker decides on the next
                return self._exchange(self._shared)
            return True
        finally:
            self._looking.release()

    def _exchange(self, shared: RedisTier) -> bool:
        for tag, made in list(self._unsent.items()):
            time_us = self._send(shared, tag)
            if time_us is None:
                break
            with self._changing:
                self._set(tag, (time_us, 0))
                if self._unsent[tag] == made:  # not dropped again meanwhile
                    del self._unsent[tag]
        known = self.stamp[0]
        found = shared.attempt(lambda client: _read_since(client, f"{shared.prefix}invalidated", known), None)
        if found is not None and (not found or found[-1][1] < known):  # the set is gone, or as it was earlier
            if self._send(shared, "") is None:
                return False
            found = shared.attempt(lambda client: _read_since(client, f"{shared.prefix}invalidated", 0), None)
        if found:
            self._take_in(found)
        return found is not None and not self._unsent

    def _send(self, shared: RedisTier, tag: str) -> int | None:
        arguments = (f"{shared.prefix}invalidated", tag, self.stamp[0], MOST_TAGS)
        time_us: Any = shared.attempt(lambda client: client.eval(_ADD, 1, *arguments), None, writes=True)
        return None if time_us is None else int(time_us)

    def _take_in(self, found: list[tuple[str, int]]) -> None:
        with self._changing:
            for tag, time_us in found:
                if tag == "":
                    self._complete_since = max(self._complete_since, (time_us, 0))
                elif tag not in self._unsent:
                    self._set(tag, (time_us, 0))
            newest = max(time_us for _, time_us in found), self.stamp[1]
            for tag in self._unsent:  # unsent ones count as made after all that Redis has
                self._set(tag, newest)
            self.stamp = newest  # last: who reads it finds the times that it stands for

    def _set(self, tag: str, stamp: Stamp) -> None:
        # Others read meanwhile, without the lock: at no step may a time be missing.
        self._times[tag] = max(stamp, self._times.get(tag, stamp))
        self._times.move_to_end(tag)
        while len(self._times) > MOST_TAGS:
            self._complete_since = max(self._complete_since, next(iter(self._times.values())))
            self._times.popitem(last=False)


def _read_since(client: redis.Redis, name: str, time_us: int) -> list[tuple[str, int]]:
    """Return the tags dropped since a time and "", the newest last; nothing if there is no set."""
    pipe = client.pipeline(transaction=True)
    pipe.zscore(name, "")
    pipe.zrange(name, time_us, "+inf", byscore=True, withscores=True)
    pipe.zrange(name, -1, -1, withscores=True)
    since, *ranges = pipe.execute(raise_on_error=False)
    if isinstance(since, redis.ResponseError):
        if not str(since).startswith("WRONGTYPE"):
            raise since
        client.delete(name)  # somebody else's value stands under the name
    if not isinstance(since, float):
        return []
    found: dict[Any, float] = {b"": since, **dict(pair for one in ranges for pair in one)}
    wrong = [tag for tag, at in found.items() if not 0 <= at <= _LATEST_US]
    if wrong:  # somebody else's
        client.zrem(name, *wrong)
        return _read_since(client, name, time_us)
    return sorted(((tag.decode(), int(at)) for tag, at in found.items()), key=lambda pair: pair[1])
