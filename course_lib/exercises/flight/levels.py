"""Project 2, a cache in three levels in three stages: lookup, eviction and failure, warming and statistics.

Main path: LOOKUP, LEVELS, WARMING -> engine.registry; a check that stops Redis has one of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import random
import signal
import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis.exceptions import ConnectionError as NotConnected

from course_lib.exercises.concurrency.watched import turns, until
from course_lib.exercises.engine.checks import SOON_S, expect, expect_equal, soon
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.flight.three_levels import Memory, redis_client
from course_lib.services import Server, running_redis

_ODD = ("", "é\n\u2028", "null", '{"value": 1}', "0", " ", "'\\\"", "\0")


class _Level:
    """A level that notes what it is asked; what `hold` names waits until it is released."""

    def __init__(self, **kept: str) -> None:
        self.kept, self.asked, self.evictions = kept, Counter[str](), 0
        self.hold, self.is_held, self.release = "", asyncio.Event(), asyncio.Event()

    async def get(self, key: str) -> str | None:
        value = self.kept.get(key)  # which another may change before it arrives
        await self._pass("get")
        return value

    async def set(self, key: str, value: str) -> None:
        await self._pass("set")
        self.kept[key] = value

    async def delete(self, key: str) -> None:
        await self._pass("delete")
        self.kept.pop(key, None)

    async def _pass(self, name: str) -> None:
        self.asked[name] += 1
        if self.hold == name:
            self.hold = ""
            self.is_held.set()
            await self.release.wait()
        await asyncio.sleep(0)


class _Make:
    """Makes values, each after `release`, and counts them."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.made, self.release, self.error = 0, asyncio.Event(), None
        if is_open:
            self.release.set()

    async def __call__(self) -> str:
        self.made += 1
        value = f"made {self.made}"
        await self.release.wait()
        if self.error:
            raise self.error
        return value


async def asks_in_turn(lookup: Any) -> None:
    """A hit is the first level's that has it; it fills those above and asks none below."""
    hint = "`is not None`: an empty text is a value, too."
    for depth, value in ((depth, value) for depth in range(4) for value in ("a value", "")):
        levels = [_Level(), _Level(), _Level()]
        for level in levels[depth:]:
            level.kept["key"] = value
        got = await soon(lookup(levels).get("key"), "get of a key")
        wanted = value if depth < 3 else None
        where = f"a key with {value!r} that levels {depth} and below have" if depth < 3 else "an unknown key"
        expect_equal(got, wanted, f"get of {where}", hint=hint)
        asked = [level.asked["get"] for level in levels]
        expect_equal(asked, [int(number <= depth) for number in range(3)], f"gets of each level for {where}")
        held = [level.kept.get("key") for level in levels]
        expect_equal(held, [wanted] * 3, f"what the levels hold after get of {where}", hint=hint)
        sets = sum(level.asked["set"] for level in levels)
        expect_equal(sets, depth % 3, f"values set by get of {where}")
    levels, cache = [_Level(), _Level()], None
    cache = lookup(levels)
    await cache.set("key", "new")
    expect_equal([level.kept.get("key") for level in levels], ["new"] * 2, "what the levels hold after set")
    await cache.delete("key")
    expect_equal([level.kept.get("key") for level in levels], [None] * 2, "what they hold after delete")


async def makes_once(lookup: Any) -> None:
    """A miss is made once for all who wait for that key, and kept in all levels; a hit makes nothing."""
    hint = "Write the task down under its key before the first await; all who come later wait for it."
    levels, makes = [_Level(), _Level(), _Level()], {key: _Make(is_open=False) for key in "abc"}
    cache = lookup(levels)
    tasks = [asyncio.ensure_future(cache.get(key, makes[key])) for key in "abc" * 8]
    await asyncio.sleep(0.02)
    await until(lambda: all(make.made for make in makes.values()))
    expect_equal([make.made for make in makes.values()], [1, 1, 1], "calls of make, 8 for each of 3 keys",
                 hint=hint)  # fmt: skip
    for make in makes.values():
        make.release.set()
    got = await soon(asyncio.gather(*tasks), "24 callers")
    expect_equal(got, ["made 1"] * 24, "what the 24 callers got", hint=hint)
    held = [dict(sorted(level.kept.items())) for level in levels]
    expect_equal(held, [dict.fromkeys("abc", "made 1")] * 3, "what the levels hold then")
    again = [await cache.get(key, makes[key]) for key in "abc"], [make.made for make in makes.values()]
    expect_equal(again, (["made 1"] * 3, [1, 1, 1]), "values and calls of make when they are asked again")

    async def nothing() -> str:
        calls.append("made")
        return ""

    calls = list[str]()
    texts = [await cache.get("empty", nothing) for _ in "ab"], len(calls)
    expect_equal(
        texts,
        (["", ""], 1),
        "values and calls of a make that returns ''",
        hint="An empty text is a value, too.",
    )
    for level in levels:
        level.kept.clear()
    got, hint = await cache.get("a", makes["a"]), "What the levels have forgotten nobody else remembers."
    expect_equal(got, "made 2", "get with make when it has expired in all levels", hint=hint)


async def survives_failures(lookup: Any) -> None:
    """An error of make goes to all who wait and keeps nothing; a caller that is cancelled ends no other's."""
    hint = "asyncio.shield(task) lets one caller go. What takes a key out is the end of its call."
    levels, make = [_Level(), _Level()], _Make(is_open=False)
    cache, make.error = lookup(levels), LookupError("of make")  # type: ignore[assignment]
    tasks = [asyncio.ensure_future(cache.get("key", make)) for _ in range(3)]
    await asyncio.sleep(0.02)
    make.release.set()
    ends = await soon(asyncio.gather(*tasks, return_exceptions=True), "3 callers of a make that fails")
    expect_equal([type(end).__name__ for end in ends], ["LookupError"] * 3, "how 3 callers ended", hint=hint)
    make.error = None
    got = await soon(cache.get("key", make), "a caller after a make that failed", hint=hint)
    expect_equal(got, "made 2", "what the next caller gets after an error", hint=hint)
    for number in (0, 2):
        key, make = f"key {number}", _Make(is_open=False)
        tasks = [asyncio.ensure_future(cache.get(key, make)) for _ in range(3)]
        await asyncio.sleep(0.02)
        tasks[number].cancel()
        await asyncio.wait([tasks[number]], timeout=0.5)
        is_gone = tasks[number].cancelled()
        expect(
            is_gone, "a caller that is cancelled", observed="it waits", expected="it ends at once", hint=hint
        )
        late = asyncio.ensure_future(cache.get(key, make))
        await asyncio.sleep(0.02)
        make.release.set()
        rest = [task for task in (*tasks, late) if task is not tasks[number]]
        ends = await soon(asyncio.gather(*rest, return_exceptions=True), "callers beside a cancelled one")
        what = f"the others and calls of make, when caller {number + 1} of 3 was cancelled"
        expect_equal((ends, make.made), (["made 1"] * 3, 1), what, hint=hint)


async def serves_nothing_older(lookup: Any) -> None:
    """After set or delete has returned, nothing older comes back, whatever was under way meanwhile."""
    hint = "Count the changes. What was read before the last one fills nothing; fill and change in one lock."
    for change, hold in (("set", "get"), ("set", "set"), ("delete", "get"), ("delete", "delete")):
        top, low = _Level(), _Level(key="old")
        cache = lookup([top, low])

        async def changed(cache: Any = cache, change: str = change) -> None:
            await (cache.set("key", "new") if change == "set" else cache.delete("key"))

        low.hold = hold
        works = [cache.get("key"), changed()] if hold == "get" else [changed(), cache.get("key")]
        tasks = [asyncio.ensure_future(works[0])]
        await soon(low.is_held.wait(), f"a {hold} of the lower level")
        tasks.append(asyncio.ensure_future(works[1]))
        await asyncio.wait([tasks[1]], timeout=0.05)
        low.release.set()
        await soon(asyncio.gather(*tasks), f"a get and a {change} at once")
        got, wanted = await cache.get("key"), "new" if change == "set" else None
        expect_equal(got, wanted, f"get after {change}, with an older get under way meanwhile", hint=hint)
    for change in ("set", "delete"):
        levels, make, again = [_Level(), _Level(), _Level()], _Make(is_open=False), _Make(is_open=False)
        cache = lookup(levels)
        task = asyncio.ensure_future(cache.get("key", make))
        await asyncio.sleep(0.02)
        await soon(cache.set("key", "new") if change == "set" else cache.delete("key"), f"a {change}")
        fresh = await soon(cache.get("other", _Make()), "get of another key")
        expect_equal(fresh, "made 1", f"get of another key after {change}, with an older make under way")
        late = [asyncio.ensure_future(cache.get("key", again))]
        if change == "delete":
            what, is_new = "get with make after delete, with an older make under way", lambda: again.made  # noqa: B023
            own = "a make of its own"
            expect(await until(is_new), what, observed="it waits for it", expected=own, hint=hint)
        make.release.set()
        await soon(task, "a make that was under way")
        wanted, held = "new" if change == "set" else None, [level.kept.get("key") for level in levels]
        expect_equal(held, [wanted] * 3, f"levels after {change}, when an older make ends", hint=hint)
        late.append(asyncio.ensure_future(cache.get("key", again)))
        await turns()
        again.release.set()
        got = await soon(asyncio.gather(*late), f"two callers with make after {change}")
        due, what = (["new"] * 2, 0) if wanted else (["made 1"] * 2, 1), f"make after {change}"
        expect_equal((got, again.made), due, f"what two callers get, and calls of their {what}", hint=hint)


LOOKUP = Exercise(
    title="Lookup through levels",
    minutes=12,
    difficulty="hard",
    hints=(
        "Keep one task for each key that is asked with make: it looks through the levels, then makes.",
        "return await asyncio.shield(task). The task takes its own key out of the dictionary in `finally`.",
        "changes += 1 at the end of set and delete. Who fills compares it with the number at its beginning, "
        "holding the same asyncio.Lock as set and delete.",
    ),
    checks=(asks_in_turn, makes_once, survives_failures, serves_nothing_older),
    deadline_s=30.0,
    why="Whatever was read or made is older than a change that came after its beginning, so a number that is "
    "compared when a level is filled is enough; the lock keeps a change from coming between two levels.",
)


async def evicts(memory: Any, _: Any) -> None:
    """Memory holds at most `most` values; the one that was unused for longest goes, and is counted."""
    most, keys, hint = (
        random.choice((3, 4)),
        "abcdefgh",
        "Both get and set are uses: move_to_end().",
    )
    level, model, evictions = memory(most, 1e6, lambda: 0.0), OrderedDict[str, str](), 0
    for number in range(400):
        key, act = random.choice(keys), random.choice(("get", "get", "set", "set", "delete"))
        if act == "set":
            await level.set(key, f"{number}")
            model[key] = f"{number}"
            model.move_to_end(key)
            if len(model) > most:
                model.popitem(last=False)
                evictions += 1
        elif act == "delete":
            await level.delete(key)
            model.pop(key, None)
        else:
            if key in model:
                model.move_to_end(key)
            what = f"get after {number} random acts on {len(keys)} keys, most={most}"
            expect_equal(await level.get(key), model.get(key), what, hint=hint)
    expect_equal(level.evictions, evictions, "evictions: those that went for want of room", hint=hint)


async def expires(memory: Any, _: Any) -> None:
    """Memory keeps a value for ttl_s seconds after its set, by clock(); a get prolongs nothing."""
    now_s, ttl_s = [random.uniform(0, 1e4)], random.choice((10.0, 700.0))
    level, hint = memory(9, ttl_s, lambda: now_s[0]), "Keep beside the value until when it counts."
    steps = [(0, "set", "v"), (0.6, "", "v"), (0.39, "", "v"), (0.02, "", None)]
    steps += [(1, "set", "v"), (0.6, "set", "v"), (0.6, "", "v"), (0.5, "", None)]
    for part, acts, wanted in steps:
        now_s[0] += part * ttl_s
        if acts:
            await level.set("key", "v")
        what = f"get after another {part * ttl_s:.0f} s{', and a set' if acts else ''}, ttl_s={ttl_s:.0f}"
        expect_equal(await level.get("key"), wanted, what, hint=hint)
    what = "evictions after two values whose time was over"
    expect_equal(level.evictions, 0, what, hint="Only what goes for want of room is counted.")


@asynccontextmanager
async def _clients(url: str, within_s: float = SOON_S) -> AsyncIterator[list[Any]]:
    clients = [redis_client(url, within_s) for _ in "ab"]
    try:
        yield clients
    finally:
        for client in clients:
            await client.aclose()


@contextmanager
def _own_redis() -> Iterator[Server]:
    new = tempfile.TemporaryDirectory(prefix="redis", ignore_cleanup_errors=True)
    with new as folder, running_redis(Path(folder)) as server:
        yield server


@contextmanager
def _away(client: Any) -> Iterator[None]:
    """Let a client find no connection meanwhile."""

    async def refused(*_: Any, **__: Any) -> None:
        raise NotConnected("connection refused")

    pool = client.connection_pool
    pool.get_connection, own = refused, pool.get_connection
    try:
        yield
    finally:
        pool.get_connection = own


class _Fired:
    """What a pickle does when it is read."""

    has = False

    def __reduce__(self) -> Any:
        return setattr, (_Fired, "has", True)


async def shares(_: Any, shared: Any) -> None:
    """Redis gives back to all objects the text that one has set, for ttl_s seconds, until it is deleted."""
    prefix, ttl_s = uuid4().hex, random.choice((7.5, 400.5))
    with _own_redis() as server:
        async with _clients(server.url) as (client, ours):
            one, other = shared(client, ttl_s, 1.0, time.monotonic), shared(ours, ttl_s, 1.0, time.monotonic)
            for number, text in enumerate(_ODD):
                key, before_s = f"{prefix} {number}", time.monotonic()
                await one.set(key, text)
                left_s = [await ours.pttl(each) / 1000 for each in await ours.keys()]
                took_s = time.monotonic() - before_s
                expect_equal(await other.get(key), text, "get of what another object has set")
                is_so = left_s and all(ttl_s - took_s - 0.01 <= each <= ttl_s + 0.01 for each in left_s)
                wanted, hint = f"{ttl_s} s", "client.set(key, text, px=milliseconds)"
                expect(is_so, "how long Redis keeps it", observed=left_s, expected=wanted, hint=hint)
                await one.delete(key)
                expect_equal(await other.get(key), None, "get after delete")


async def refuses_foreign(_: Any, shared: Any) -> None:
    """What lies in Redis and was not set there for this key is no answer; nothing is run, nothing raises."""
    prefix, _Fired.has = uuid4().hex, False
    hint = "Keep JSON with the key and the value in it, and look at both. Which errors can each line raise?"
    with _own_redis() as server:
        async with _clients(server.url) as (client, ours):
            level, names = shared(client, 60, 1e-6, time.monotonic), list[bytes]()
            for each in "ba":  # what it is called in Redis is its own affair
                await level.set(f"{prefix} {each}", f"of {each}")
                names += set(await ours.keys()) - set(names)
            expect(
                len(names) == 2, "keys in Redis after two sets", observed=names, expected="2, one for each"
            )
            key, name = names
            of_a, is_text = await ours.dump(name), await ours.type(name) == b"string"
            no_text = json.dumps({"key": f"{prefix} b", "value": 7})
            texts = [*_ODD, "text", "[1]", "7", "true", "[" * 99_999, "{}", no_text]
            values = [*texts, b"\xff\xfe", b"\x80\x04N.", pickle.dumps(_Fired()), None, of_a]
            if is_text:
                values.append((await ours.get(name))[:-1])
            for value in values:
                await ours.delete(key)
                if value is of_a:
                    await ours.restore(key, 60_000, of_a)
                else:
                    await (ours.rpush(key, "item") if value is None else ours.set(key, value, ex=60))
                what = f"get of {'a list' if value is None else value!r:.60}, which somebody else put there"
                work = level.get(f"{prefix} b")
                got = await soon(work, what, expected="None", hint=hint, errors=Exception)
                expect_equal(got, None, what, hint=hint)
            expect_equal(_Fired.has, False, "whether a pickle was read", hint=hint)


async def goes_on(_: Any, shared: Any) -> None:
    """Without Redis get is None and nothing raises; it is asked again rest_s seconds after a failure."""
    now_s, hint = [100.0], "RedisError, OSError: note until when it rests; before that, ask nothing."
    with _own_redis() as server:
        async with _clients(server.url) as (client, ours):
            level = shared(client, 60, 30.0, lambda: now_s[0])
            await level.set("key", "value")
            server.kill()
            for act in (level.get("key"), level.set("key", "value"), level.delete("key"), level.get("key")):
                got = await soon(act, "a call with Redis gone", hint=hint, errors=Exception)
                expect_equal(got, None, "what it returns with Redis gone")
            server.start()
            now_s[0] += 29.0
            await level.set("early", "value")
            what = "keys in Redis after a set 29 s after a failure, rest_s=30"
            expect_equal(await ours.dbsize(), 0, what, hint=hint)
            now_s[0] += 2.0
            await level.set("key", "value")
            expect_equal(await level.get("key"), "value", "get when Redis is back, 31 s after", hint=hint)


async def is_not_stale(_: Any, shared: Any) -> None:
    """What was deleted or set anew while Redis did not listen comes back from it no more."""
    now_s, hint = (
        [0.0],
        "Note which keys Redis was not told of, and delete them before you ask it.",
    )
    with _own_redis() as server:
        async with _clients(server.url, 0.5) as (client, _ours):
            level = shared(client, 600, 30.0, lambda: now_s[0])
            for key in ("kept", "deleted", "set", "late"):
                await level.set(key, "old")
            os.kill(server.pid, signal.SIGSTOP)
            try:
                await soon(level.delete("deleted"), "delete as Redis hangs")
            finally:
                os.kill(server.pid, signal.SIGCONT)
            what = "get of a key that Redis has, while it rests after it has hung"
            expect_equal(await level.get("kept"), None, what, hint=hint)
            await soon(level.set("set", "new"), "set as Redis rests")
            await soon(level.delete("late"), "delete as Redis rests")
            now_s[0] += 31.0
            for key, wanted in {"deleted": (None,), "late": (None,), "set": (None, "new")}.items():
                what, got = f"get when Redis is back of a key that was {key} meanwhile", await level.get(key)
                expect(got in wanted, what, observed=got, expected="not the old value", hint=hint)
            expect_equal(await level.get("kept"), "old", "get of a key that nobody touched")
            await level.set("deleted", "newest")
            expect_equal(await level.get("deleted"), "newest", "get of what was set after that", hint=hint)


async def minds_each_failure(_: Any, shared: Any) -> None:
    """Whichever call finds the failure: Redis rests, and what it was not told is told when it is back."""
    now_s, hint = [0.0], "One method for all calls of Redis: it rests after each failure, and forgets no key."
    with _own_redis() as server:
        async with _clients(server.url) as (client, _ours):
            level = shared(client, 600, 30.0, lambda: now_s[0])
            for act in ("set", "delete"):
                for key in ("kept", act):
                    await level.set(key, "old")
                with _away(client):
                    await soon(level.set(act, "new") if act == "set" else level.delete(act), act)
                what = f"get of a key that Redis has, after a {act} has failed, rest_s=30"
                expect_equal(await level.get("kept"), None, what, hint=hint)
                now_s[0] += 31.0
                with _away(client):  # it is asked again, in vain
                    await soon(level.get("kept"), "get with Redis gone")
                now_s[0] += 31.0
                got, what = await level.get(act), f"get when Redis is back of a key whose {act} failed"
                wanted = (None, "new") if act == "set" else (None,)
                expect(got in wanted, what, observed=got, expected="not the old value", hint=hint)
                expect_equal(await level.get("kept"), "old", "get of a key that nobody touched")


LEVELS = Exercise(
    title="Eviction and failure",
    minutes=15,
    difficulty="hard",
    hints=(
        "Memory: an OrderedDict of (until_s, value). Shared: JSON of {'key': ..., 'value': ...}.",
        "One method makes every call of Redis: resting? delete what is owed; call; rest after RedisError.",
        "A set of owed keys: delete adds to it, set adds before and takes out after; before each call of "
        "Redis, delete what is in it. A ResponseError means that Redis answers.",
    ),
    checks=(evicts, expires, shares, refuses_foreign, goes_on, is_not_stale, minds_each_failure),
    deadline_s=60.0,
    why="A cache may save work and must never cost an answer: each failure is a miss, and short. The set of "
    "owed keys makes it honest, too: what Redis was not told is told before its word counts again.",
)


async def counts(counted: Any, _: Any) -> None:
    """report() tells hits by level, misses, evictions and the share of hits; levels work as before."""
    hint = "A miss is one that the last level has not, either. Give each level a wrapper that counts."
    names = ("memory", "redis", "file")
    levels = {name: _Level() for name in names}
    made, other = counted(levels), counted({"memory": _Level()})
    empty = {"hits": dict.fromkeys(names, 0), "misses": 0, "evictions": 0, "hit_rate": 0.0}
    expect_equal(made.report(), empty, "report() at first", hint=hint)
    hits, misses = Counter[str](), 0
    for number in range(60):
        where, key = random.choice((*names, "")), f"key {number}"
        if where:
            await made.levels[names.index(where)].set(key, "")
        got = [await level.get(key) for level in made.levels[: names.index(where) + 1 if where else 3]]
        expect_equal(got[-1], "" if where else None, "get through a level of .levels")
        hits[where], misses = hits[where] + bool(where), misses + (not where)
    await made.levels[0].set("gone", "value")
    await made.levels[0].delete("gone")
    expect_equal(levels["memory"].kept.get("gone"), None, "what the level holds after set and delete")
    levels["memory"].evictions, levels["file"].evictions = 7, 2
    wanted = {"hits": {name: hits[name] for name in names}, "misses": misses, "evictions": 9,
              "hit_rate": (60 - misses) / 60}  # fmt: skip
    got = made.report()
    close = abs(got.get("hit_rate", 0) - wanted["hit_rate"]) < 0.006
    expect_equal(got | {"hit_rate": wanted["hit_rate"]} if close else got, wanted, "report()", hint=hint)
    expect_equal(sum(other.report()["hits"].values()), 0, "hits of another object")
    memory = Memory(1, 60.0)
    made = counted(
        {"memory": memory, "plain": type("Plain", (), {"get": None, "set": None, "delete": None})()}
    )
    for key in "abc":
        await made.levels[0].set(key, "value")
    expect_equal(made.report()["evictions"], 2, "evictions of a level that has them beside one that has none")


class _Cache:
    """A cache that a check looks into."""

    def __init__(self, *held: str) -> None:
        self.held, self.asked = dict.fromkeys(held, "held"), list[str]()

    async def get(self, key: str, make: Any = None) -> str | None:
        self.asked.append(key)
        if key not in self.held and make:
            self.held[key] = await make()
        return self.held.get(key)


async def warms(_: Any, warm: Any) -> None:
    """The `most` keys that the log names most often are asked of the cache, in that order, each once."""
    hint = "Counter(log).most_common(most). Which key does a function made in a loop see when it is called?"
    log = [key for number, key in enumerate("abcdefgh", 1) for _ in range(number)]
    random.shuffle(log)
    made = list[str]()

    async def make(key: str) -> str:
        made.append(key)
        await asyncio.sleep(0.001)
        return f"made {key}"

    for most, cache in ((3, _Cache()), (20, _Cache("g", "a"))):
        made.clear()
        held = await soon(warm(cache, iter(log), most, make, 1), "warm")
        wanted = list("hgfedcba")[:most]
        expect_equal(cache.asked, wanted, f"keys that are asked, most={most}, at_once=1", hint=hint)
        expect_equal(held, len(wanted), "what warm returns: how many keys the cache holds then", hint=hint)
        new = [key for key in wanted if most == 3 or key not in "ga"]
        expect_equal(made, new, "keys that are made: those that the cache has not", hint=hint)
        values = {key: cache.held.get(key) for key in new}
        expect_equal(values, {key: f"made {key}" for key in new}, "what the cache holds of each", hint=hint)


async def is_gentle(_: Any, warm: Any) -> None:
    """At most `at_once` are made at a time, and as many as that; one that fails stops no other."""
    at_once, hint = random.choice((2, 3)), "So many workers that take keys from one iterator."
    inside, most, ended, is_full, cache = 0, 0, 0, asyncio.Event(), _Cache()
    are_others_made = asyncio.Event()

    async def make(key: str) -> str:
        nonlocal inside, most, ended
        inside += 1
        most = max(most, inside)
        if inside == at_once:
            is_full.set()
        await (are_others_made if key == "key 0" else is_full).wait()
        await asyncio.sleep(0.005)
        inside, ended = inside - 1, ended + 1
        if ended == 11:
            are_others_made.set()
        if key in ("key 1", "key 4"):
            raise LookupError(key)
        return key

    log = [f"key {number}" for number in range(12) for _ in range(20 - number)]
    what, wanted = f"warm, at_once={at_once}, when make fails for two keys", "it goes on with the others"
    work = warm(cache, log, 12, make, at_once)
    held = await soon(work, what, expected=wanted, hint=hint, errors=LookupError)
    expect_equal(most, at_once, f"most that were made at a time, at_once={at_once}", hint=hint)
    what = "keys that warm says are held, and that are, when make fails for two of 12"
    expect_equal((held, len(cache.held)), (10, 10), what, hint="Only what did not fail counts.")
    asked = Counter(cache.asked)
    expect_equal(set(asked.values()), {1}, "how often each key is asked, when make fails for two of 12")

    async def nothing(_: str) -> str:
        return ""

    held = await soon(warm(_Cache(), log, 3, nothing, at_once), "warm")
    expect_equal(held, 3, "what warm returns of 3 keys whose value is ''", hint="An empty text is held, too.")


WARMING = Exercise(
    title="Warming and statistics",
    minutes=10,
    difficulty="medium",
    hints=(
        "Counted: a small class around each level, whose get counts; getattr(level, 'evictions', 0).",
        "warm: `keys = iter(...)`, and at_once workers, each `for key in keys:`, in an asyncio.TaskGroup.",
        "await cache.get(key, lambda: make(key)) within a function that has `key` as its argument; "
        "try around it, and count after it.",
    ),
    checks=(counts, warms, is_gentle),
    deadline_s=30.0,
    why="Warming goes through the same door as every caller, so what is there already costs nothing and what "
    "somebody asks meanwhile is made once. It is bounded: a new copy must not be a wave of its own.",
)
