"""Dropping answers everywhere: a short log in Redis that every process reads, and a check on what is read.

Main path: InvalidationLog.add(tag) -> each process drops the tag when it next looks, at most `lag_s` later.

Every stored answer carries the place in the log that its question had seen. So an answer whose question was
asked before an invalidation is refused wherever it turns up later: the drop itself only frees the room. A
process that cannot find its place in the log again (trimmed, lost with the server) drops all it holds that
somebody could have invalidated.

What this cannot do: reach a process that cannot reach Redis, which goes on with what it holds until it can or
the time of an answer is over; call back an answer already on its way to the caller who asked for it; erase
what lies in the file of a process that does not run, though no one is ever given it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, NamedTuple

import redis

from course_lib.caching.forks import renew_in_children
from course_lib.caching.redis_tier import RedisTier

Place = tuple[int, int]
"""An entry's id in a Redis stream: milliseconds and a number within them."""

NOWHERE: Place = (0, 0)
"""Before all entries: a question that had seen no log."""

LONGEST = 5000
"""Entries kept in Redis. Who missed more than these starts empty."""


class Mark(NamedTuple):
    """What a question had seen when it was asked."""

    turn: int
    """Of this process: how many drops it had made."""
    place: Place
    """In the log that all processes share."""


class InvalidationLog:
    """What has been dropped, as far as this process knows.

    Args:
        shared: the Redis tier, or None: then drops reach this process alone.
        drop: drops a tag from what this process holds; returns how many.
        forget_all: empties what this process holds.
        lag_s: how long this process may go without looking.
        clock: seconds, for `lag_s`.
    """

    def __init__(
        self,
        shared: RedisTier | None,
        *,
        drop: Callable[[str], int],
        forget_all: Callable[[], None],
        lag_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.renew_locks()
        self.lost = 0
        """How often the place in the log was gone."""
        self._shared = shared
        self._drop = drop
        self._forget_all = forget_all
        self._lag_s = lag_s
        self._clock = clock
        self._looked_at = float("-inf")
        self._last: bytes | None = None
        self._floor = NOWHERE
        self._places: OrderedDict[str, Place] = OrderedDict()
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._turn = 0
        self._drops = 0
        self._oldest_turn = 0
        self._unsent: deque[str] = deque()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Make the locks anew (see forks.py)."""
        self.gate = threading.RLock()
        """Held while drops are applied; hold it from asking is_stale() until the answer is stored."""
        self._looking = threading.Lock()

    @property
    def is_known(self) -> bool:
        """Whether the log has been read once, so that answers of earlier processes can be judged."""
        return self._shared is None or self._last is not None

    @property
    def is_fresh(self) -> bool:
        """Whether it was looked at no longer than `lag_s` ago, or need not be."""
        return self._shared is None or self._clock() - self._looked_at < self._lag_s

    @property
    def trouble(self) -> str:
        """One line while other processes have not been told; else empty."""
        waiting = len(self._unsent)
        return f"{waiting} invalidations wait until Redis answers; other processes know nothing of them" * (
            waiting > 0
        )

    @property
    def epoch(self) -> int:
        """How many drops this process has made, its own, those that it read, and all at a loss of the log."""
        return self._drops + self.lost

    def mark(self) -> Mark:
        """Return what a question asked now has seen; waits for nobody, so that an event loop may ask.

        If a drop comes in between, one of the two is older than it, which is enough to refuse the answer.
        """
        return Mark(self._turn, self._place())

    def is_stale(self, tags: tuple[str, ...], mark: Mark) -> bool:
        """Return whether one of the tags was dropped in this process after `mark` (hold the gate)."""
        if mark.turn < self._oldest_turn:
            return bool(tags)
        return any(self._turns.get(tag, 0) > mark.turn for tag in tags)

    def is_outdated(self, tags: tuple[str, ...], place: Place) -> bool:
        """Return whether a stored answer's question was asked before one of its tags was dropped anywhere."""
        if self._shared is None:
            return False
        return bool(tags) and (
            place < self._floor or any(self._places.get(tag, NOWHERE) > place for tag in tags)
        )

    def add(self, tag: str) -> int:
        """Drop a tag here at once, and tell the others; returns how many were dropped here."""
        with self.gate:
            dropped = self._apply(tag)
            if self._shared is not None:
                self._unsent.append(tag)
        self.look(now=True)
        return dropped

    def look(self, *, now: bool = False) -> None:
        """Send what waits and read what is new; without `now`, only after `lag_s`, and never in a queue."""
        if self._shared is None or (self.is_fresh and not now):
            return
        if not self._looking.acquire(blocking=now or self._last is None):  # the first look is for all
            return
        if not now and self.is_fresh:
            self._looking.release()
            return
        try:
            self._looked_at = self._clock()  # also when it fails: the tier's own rest decides on the next
            self._exchange(self._shared)
        finally:
            self._looking.release()

    # -- with Redis ------------------------------------------------------------------------------------

    def _exchange(self, shared: RedisTier) -> None:
        """Send and read; what cannot be had now stays for the next look, and the tier says what is wrong."""
        name = f"{shared.prefix}log"
        while self._unsent:
            tag = self._unsent[0]
            if not shared.attempt(lambda client: _append(client, name, tag), None, writes=True):  # noqa: B023
                break
            self._unsent.popleft()
        last = self._last
        entries = shared.attempt(lambda client: _read_from(client, name, last or b"-"), None)
        if entries is None:
            return
        found_place = bool(entries) and entries[0][0] == last
        if not found_place:
            entries = shared.attempt(lambda client: _read_all(client, name), None, writes=True)
        if not entries:
            return
        with self.gate:
            if not found_place:
                self._begin_anew(_place(entries[0][0]))
            for identity, fields in entries[1:] if found_place else entries:
                self._read(_place(identity), fields, is_new=found_place)
            self._last = entries[-1][0]

    def _read(self, place: Place, fields: dict[bytes, bytes], *, is_new: bool) -> None:
        """Take an entry in; one that is not new is older than much of what a file holds, so nothing goes."""
        tag = fields.get(b"tag", b"").decode("ascii", "replace")
        if tag:
            if is_new:
                self._apply(tag)
            self._places.pop(tag, None)
            self._places[tag] = place
            while len(self._places) > LONGEST:
                self._floor = max(self._floor, self._places.popitem(last=False)[1])

    def _begin_anew(self, floor: Place) -> None:
        """Forget what this process holds: it cannot know what of it was dropped meanwhile."""
        self.lost += self._last is not None
        self._floor = floor
        self._places.clear()
        self._turn += 1
        self._oldest_turn = self._turn
        self._forget_all()

    def _apply(self, tag: str) -> int:
        self._drops += 1
        self._turn += 1
        self._turns.pop(tag, None)
        self._turns[tag] = self._turn
        while len(self._turns) > LONGEST:
            self._oldest_turn = max(self._oldest_turn, self._turns.popitem(last=False)[1])
        return self._drop(tag)

    def _place(self) -> Place:
        return _place(self._last) if self._last else NOWHERE


Entries = list[tuple[bytes, dict[bytes, bytes]]]


def _append(client: redis.Redis, name: str, tag: str) -> Any:
    return client.xadd(name, {"tag": tag}, maxlen=LONGEST, approximate=False)


def _read_from(client: redis.Redis, name: str, place: bytes) -> Entries:
    """Return the log from an entry on, that one included: when it is not first, the place is gone."""
    try:
        found: Any = client.xrange(name, place, "+")
    except redis.ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
        client.delete(name)  # somebody else's value stood under the log's name
        return []
    return list(found)


def _read_all(client: redis.Redis, name: str) -> Entries:
    """Return the whole log; a new one begins with an entry that drops nothing, so as to have a place."""
    found = _read_from(client, name, b"-")
    if not found:
        _append(client, name, "")
        found = _read_from(client, name, b"-")
    return found


def _place(identity: bytes) -> Place:
    """Return a stream id as numbers.

    >>> _place(b"1700000000000-3")
    (1700000000000, 3)
    """
    milliseconds, _, number = identity.partition(b"-")
    return int(milliseconds), int(number or 0)


class Asked:
    """Which questions are under way, and what each key's earliest had seen when it was asked.

    DSPy's get() and put() do not say which belong together, so while several ask the same, all of their
    answers are judged by the earliest.
    """

    def __init__(
        self, *, most: int = 10_000, longest_s: float = 600.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._longest_s = longest_s
        self._clock = clock
        self._asked: OrderedDict[str, tuple[Mark, float, int]] = OrderedDict()
        self.renew_locks()
        renew_in_children(self)

    def renew_locks(self) -> None:
        """Make the lock anew (see forks.py)."""
        self._lock = threading.Lock()

    def note(self, key: str, mark: Mark) -> None:
        """Remember that this key is being asked for."""
        now = self._clock()
        with self._lock:
            earliest, since, count = self._asked.get(key, (mark, now, 0))
            if now - since > self._longest_s:  # whoever asked then has failed, or answers too late to count
                earliest, since, count = mark, now, 0
            self._asked[key] = (earliest, since, count + 1)
            while len(self._asked) > self._most:
                self._asked.popitem(last=False)

    def answered(self, key: str) -> Mark:
        """Return what the key's earliest question had seen: nothing at all, if that is forgotten."""
        with self._lock:
            mark, since, count = self._asked.pop(key, (Mark(0, NOWHERE), 0.0, 1))
            if count > 1:
                self._asked[key] = (mark, since, count - 1)
            return mark
