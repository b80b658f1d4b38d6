"""Exercise 5.3, one limit for all replicas: exact over two of them, and Redis may be lost.

Main path: EXERCISE -> engine.registry; each check has a Redis of its own, and looks at what lies in it.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from redis import Redis, RedisError

from course_lib.exercises.engine.checks import CheckFailed, expect, expect_equal
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import in_another_process
from course_lib.services import Server, running_redis

Check = Callable[[Any, Server, Any], Awaitable[None]]

_LONG_S, _TAKE_S, _BACK_S = 3_600, 4.0, 3.0
_MOST_S = 2.2
"""Two seconds for a take, and what a busy machine adds; `_TAKE_S` is when a check no longer waits."""
_TRIES, _SLOW_S = 6, 0.2
_took_s: list[float] = []  # of each take


async def _take(limit: Any, tenant: str, what: str = "take") -> float:
    """Return what take says: 0 for let through, or the seconds to wait."""
    began_s, wanted, hint = time.monotonic(), "0.0, or seconds to wait", ""
    try:
        wait_s: Any = await asyncio.wait_for(limit.take(tenant), _TAKE_S)
    except TimeoutError:
        wait_s, wanted = f"no answer after {_TAKE_S:g} s", "an answer within two seconds"
        hint = "redis-py waits 5 s for an answer and tries ten times more. What else can it be told?"
    except (RedisError, OSError) as error:
        wait_s = f"it raised {type(error).__name__}: {error}"
    else:
        _took_s.append(time.monotonic() - began_s)
    is_right = isinstance(wait_s, int | float) and not isinstance(wait_s, bool) and wait_s >= 0
    expect(is_right, what, observed=wait_s, expected=wanted, hint=hint)
    return float(wait_s)


def _on_redis(check: Check, tries: int = 1) -> Callable[[Any], Awaitable[None]]:
    """Give a check a Redis and a client of ours."""

    @wraps(check)
    async def tried(limit_class: Any) -> None:
        for left in reversed(range(tries)):
            _took_s.clear()
            folder = TemporaryDirectory(prefix="r", ignore_cleanup_errors=True)
            try:
                with folder as name, running_redis(Path(name)) as server, Redis.from_url(server.url) as ours:
                    await check(limit_class, server, ours)
                break
            except CheckFailed:
                if not left or max(_took_s, default=0.0) < _SLOW_S:
                    raise

    del tried.__wrapped__  # it takes the learner's class alone
    return tried


def _unhurried(check: Check) -> Callable[[Any], Awaitable[None]]:
    """Try a check again that failed while Redis was slow, since a replica may then have taken it for lost."""
    return _on_redis(check, _TRIES)


async def _let_through(limits: Iterable[Any], tenant: str, times: int, what: str = "take") -> int:
    """Return how many of so many requests each of these replicas lets through, one after another."""
    return sum([not await _take(limit, tenant, what) for _ in range(times) for limit in limits])


def _replicas(limit_class: Any, url: str, limit: int, window_s: float = _LONG_S, count: int = 2) -> list[Any]:
    return [limit_class(url, limit, window_s, count) for _ in range(count)]


@_unhurried
async def shares_limit(limit_class: Any, server: Server, _: Any) -> None:
    """All replicas together let exactly `limit` requests of a tenant through, one by one and all at once."""
    hint = "Looking and counting are one step for Redis: a script, or a transaction."
    for count in (2, 3):
        limit = random.randint(8, 20)
        replicas = _replicas(limit_class, server.url, limit, count=count)
        got = await _let_through(replicas, f"t{count}", limit)
        expect_equal(got, limit, f"let through of {count * limit} by {count} replicas, limit={limit}")
        at_once = [_take(each, f"u{count}") for each in replicas for _ in range(limit)]
        got = sum(not wait_s for wait_s in await asyncio.gather(*at_once))
        what = f"let through of {count * limit} at once by {count} replicas, limit={limit}"
        expect_equal(got, limit, what, hint=hint)


_PAIRS = [
    *(("shop", "Shop"), ("shop", "shop "), ("a", "a:b"), ("", " "), ("1", "01"), ("café", "cafe\u0301")),
    *(("tenant-" + "x" * 60 + "1", "tenant-" + "x" * 60 + "2"), ("*", "shop*"), ("a\nb", "a b")),
    ("x" * 5_000 + "1", "x" * 5_000 + "2"),
    *(("é", "ü"), ("xé", "x"), ("a\0b", "a\0c"), ("a\nb", "a\nc")),
    ("plumless", "buckeroo"),  # of the same CRC-32, whatever stands before them
]


async def _apart_from_keys(other: Any, tenant: str, second: str, limit: int, ours: Any) -> None:
    """Fail the check if a tenant with the name of another one's second key gets less than its own."""
    await _let_through([other], tenant, 1)
    for name in {key.removeprefix(b"limit:").decode(errors="replace") for key in ours.scan_iter()}:
        if name not in (tenant, second):
            got = await _let_through([other], name, limit + 1)
            what, hint = (
                f"let through for {name!r:.60}, which is a key of {tenant!r:.60}",
                "limit:a:end is also a:end's.",
            )
            expect_equal(got, limit, what, hint=hint)


@_unhurried
async def keeps_apart(limit_class: Any, server: Server, ours: Any) -> None:
    """A tenant never spends another one's requests."""
    limit = random.randint(2, 5)
    (one, other), mark = _replicas(limit_class, server.url, limit), f"{random.randint(100, 999)}"
    for first, second in random.sample(_PAIRS, len(_PAIRS)):
        ours.flushall()
        await _let_through([one], mark + first, limit + 1)
        got = await _let_through([other], mark + second, limit + 1)
        what = f"let through for {mark + second!r:.60} after {mark + first!r:.60} spent its {limit}"
        expect_equal(got, limit, what, hint="The key in Redis has the whole name in it, as it is.")
        await _apart_from_keys(other, mark + first, mark + second, limit, ours)
    once, many = limit_class(server.url, 1, _LONG_S, 2), 120
    passed = sum([not await _take(once, f"{mark} {random.random()}") for _ in range(many)])
    expect_equal(passed, many, f"let through of {many} tenants that ask once, limit=1")
    await _take(one, "")
    keys = [key for key in ours.scan_iter() if not key.startswith(b"limit:")]
    expect_equal(keys, [], "keys in Redis that do not begin with limit:")


@_unhurried
async def tells_wait(limit_class: Any, server: Server, _: Any) -> None:
    """A refusal tells the seconds until requests get through again, and does not put that moment off."""
    await _expect_waits(lambda window_s: _replicas(limit_class, server.url, 2, window_s), 2, "")


@_on_redis
async def tells_own_wait(limit_class: Any, server: Server, _: Any) -> None:
    """Without Redis a replica's own window ends and is told like the shared one."""
    server.kill()

    def replicas(window_s: float) -> list[Any]:
        return _replicas(limit_class, server.url, 4, window_s)[:1] * 2  # each lets two through

    await _expect_waits(replicas, 2, ", while Redis is down")


async def _expect_waits(replicas: Callable[[float], list[Any]], most: int, when: str) -> None:
    """Fail the check unless a window of `most` requests ends when each refusal says so."""
    for window_s in (random.randint(100, 900) + 0.9, random.randint(5, 9) + 0.9):
        limit = replicas(window_s)[0]
        await _let_through([limit], "earlier", 1)  # whose window is another one
        await asyncio.sleep(0.1)
        before_s = time.monotonic()
        await _let_through([limit], f"{window_s}", 1)
        after_s = time.monotonic()
        await asyncio.sleep(0.15)
        await _let_through([limit], f"{window_s}", most - 1)
        least_s = time.monotonic() - after_s
        wait_s = await _take(limit, f"{window_s}")
        low_s, high_s = window_s - (time.monotonic() - before_s) - 0.015, window_s - least_s + 0.05
        what = (
            f"seconds to wait, {least_s:.2f} s after the first request of a window of {window_s:.2f} s{when}"
        )
        wanted, hint = f"{low_s:.2f} to {high_s:.2f}", "PTTL says what is left, in milliseconds."
        hint = "The end of the window, less the time now." if when else hint
        expect(low_s <= wait_s <= high_s, what, observed=wait_s, expected=wanted, hint=hint)
    one, other = replicas(0.7)
    await _let_through([one], "u", most)
    for _ in range(20):  # more than once where the machine stood still for a window
        if wait_s := await _take(other, "u"):
            break
    until_s = time.monotonic() + wait_s + 0.02
    while (left_s := until_s - time.monotonic()) > 0:
        await asyncio.sleep(min(0.1, left_s))
        if until_s - time.monotonic() > 0.1:
            await _take(one, "u")
    what = f"seconds to wait after the {wait_s:.2f} s that a refusal told, with refusals meanwhile{when}"
    hint = "Only the first request of a window sets its end."
    expect_equal([await _take(each, "u") for each in (other, one)], [0.0, 0.0], what, hint=hint)


@_on_redis
async def forgets(limit_class: Any, server: Server, ours: Any) -> None:
    """When the window is over Redis holds nothing of the tenant."""
    limit = limit_class(server.url, 2, 0.3, 2)
    await _let_through([limit], "t", 3)
    end_s = time.monotonic() + 2
    while (keys := list(ours.scan_iter())) and time.monotonic() < end_s:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    what = "keys in Redis two seconds after a window of 0.3 s began"
    expect_equal(keys, [], what, hint="PEXPIRE takes milliseconds.")


@asynccontextmanager
async def _cut_after(server: Server, messages: int, hold_s: float = 0.0) -> AsyncIterator[str]:
    """Give an address that leads to Redis for so many messages, answers the last one no more, and ends.

    Each message takes `hold_s` seconds.
    """
    path, left = server.folder / f"cut{messages}", messages

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal left
        back, there = await asyncio.open_unix_connection(str(server.folder / "s"))
        with suppress(OSError):
            while left > 0 and (data := await reader.read(65_536)):
                left -= 1
                await asyncio.sleep(hold_s)
                there.write(data)
                answer = await back.read(65_536)  # so Redis has done it
                if left:
                    writer.write(answer)
        for each in (there, writer):
            each.close()

    async with await asyncio.start_unix_server(lead, path):
        yield f"unix://{path}"


@_on_redis
async def survives_cuts(limit_class: Any, server: Server, ours: Any) -> None:
    """A replica that is killed between two messages to Redis locks nobody out."""
    hint = "INCR, then EXPIRE: who is killed in between leaves a count without an end. MULTI, or a script."
    cuts = [(messages, 0.0, _LONG_S) for messages in range(1, 9)]
    for messages, hold_s, window_s in (*cuts, (99, 0.06, 0.05)):  # a window ends between two messages
        async with _cut_after(server, messages, hold_s) as url:
            limit = limit_class(url, 5, window_s, 2)
            with suppress(Exception):  # it was killed
                await _take(limit, f"t{messages}")
    stuck = [key for key in ours.scan_iter() if ours.ttl(key) == -1]
    what = "counts without an end in Redis, of replicas that were killed after 1 to 8 messages or waited"
    expect_equal(len(stuck), 0, what, hint=hint)


@_unhurried
async def ignores_clocks(limit_class: Any, server: Server, _: Any) -> None:
    """The clocks of replicas may differ."""
    limit = random.randint(6, 12)
    one, other = _replicas(limit_class, server.url, limit)
    got, real = await _let_through([one], "t", limit // 2), time.time
    for shift_s in (-1_800, 1_800, 90_000):
        with patch("time.time", lambda shift_s=shift_s: real() + shift_s):
            got += await _let_through([other], "t", limit)
    what = f"let through by two replicas, limit={limit}, when the clock of one is wrong"
    expect_equal(got, limit, what, hint="Redis has a clock that all share: an expiry, or TIME.")


@_on_redis
async def goes_on(limit_class: Any, server: Server, _: Any) -> None:
    """Without Redis each replica lets limit // replicas requests of a window through by itself."""
    hint = "Neither all nor none: each replica counts for itself, up to its share."
    for number, (limit, count) in enumerate(((10, 2), (11, 3), (1, 2))):
        server.start()
        replicas = _replicas(limit_class, server.url, limit, count=count)
        if number:
            await _let_through(replicas, "t", 1)
        server.kill()
        for each in replicas:
            got = await _let_through([each], "t", limit + 2, "take while Redis is down")
            what = f"let through by one of {count} replicas while Redis is down, limit={limit}"
            expect_equal(got, limit // count, what, hint=hint)
        for other in ("u", "T", "t "):
            got = await _let_through(replicas[:1], other, limit + 2, "take while Redis is down")
            what = f"let through for another tenant, limit={limit}, 't' and then {other!r}"
            expect_equal(got, limit // count, what, hint=hint)


@_on_redis
async def takes_errors(limit_class: Any, server: Server, ours: Any) -> None:
    """An error that Redis answers is raised by no take."""
    limit = limit_class(server.url, 4, _LONG_S, 2)
    await _take(limit, "t")
    ours.config_set("maxmemory", 1)
    await _take(limit, "t", "take while Redis has no memory left, and answers with an error")


@_on_redis
async def never_hangs(limit_class: Any, server: Server, _: Any) -> None:
    """While Redis stands still, take comes back within two seconds, and lets a first request through."""
    (*others, last), pid = _replicas(limit_class, server.url, 40, count=4), server.pid
    await _let_through([*others, last], "t", 1)
    took_s, now = _TAKE_S, "while Redis stands still"
    os.kill(pid, signal.SIGSTOP)
    try:
        for each in others:  # the first that is in time counts, since the machine may be busy
            begun_s = time.monotonic()
            wait_s = await _take(each, "v", f"take {now}")
            expect_equal(wait_s, 0.0, f"seconds to wait of a first request {now}")
            took_s = min(took_s, time.monotonic() - begun_s)
            if took_s <= _MOST_S:
                break
        what, hint = f"how long take takes {now}", "Connecting, waiting and trying again count together."
        expect(took_s <= _MOST_S, what, observed=f"{took_s:.1f} s", expected="two seconds at most", hint=hint)
        at_once = [_take(last, "w", f"take, 40 at once, {now}") for _ in range(40)]
        got = sum(not wait_s for wait_s in await asyncio.gather(*at_once))
        expect_equal(got, 10, f"let through of 40 at once by one of 4 replicas {now}, limit=40")
    finally:
        os.kill(pid, signal.SIGCONT)


@_on_redis
async def keeps_connections(limit_class: Any, server: Server, ours: Any) -> None:
    """A replica opens no new connection for each request."""
    limit, count = limit_class(server.url, 100, _LONG_S, 2), 60
    before = ours.info("stats")["total_connections_received"]
    await _let_through([limit], "t", count)
    opened = ours.info("stats")["total_connections_received"] - before
    what, hint = (
        f"connections that Redis got for {count} requests, one by one",
        "from_url belongs in __init__.",
    )
    expect(opened <= count / 2, what, observed=opened, expected="a few", hint=hint)


async def _expect_back(one: Any, other: Any, limit: int, when: str) -> str:
    """Fail the check unless two replicas soon share the limit, and return what was looked at."""
    end_s, number, got = time.monotonic() + _BACK_S, 0, [0]
    while got != [limit, 0] and (number < 10 or time.monotonic() < end_s):
        number += 1
        got = [await _let_through([each], f"v{number} {when}", limit + 1) for each in (one, other)]
        await asyncio.sleep(0.1)
    what = f"let through by one replica and then another, with Redis back {when}, limit={limit}"
    hint = "Each request asks Redis again, or some of them do."
    expect_equal(got, [limit, 0], what, hint=hint)
    return what


@_unhurried
async def comes_back(limit_class: Any, server: Server, _: Any) -> None:
    """When Redis is back, the shared limit soon holds again, with the same objects."""
    limit = 2 * random.randint(4, 8)
    one, other = _replicas(limit_class, server.url, limit)
    await _let_through([one, other], "t", 1)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        await asyncio.gather(*(_take(each, "s", "take while Redis stands still") for each in (one, other)))
    finally:
        os.kill(server.pid, signal.SIGCONT)
    _took_s.clear()  # which were slow because Redis stood still
    await _expect_back(one, other, limit, "after it stood still")
    server.kill()
    await _let_through([one, other], "u", 2)
    alone = [await _let_through([each], "w", 2) for each in (one, other)]
    server.start()
    what = await _expect_back(one, other, limit, "for long")
    got = [await _let_through([each], "u", limit + 1) for each in (one, other)]
    expect_equal(got, [limit, 0], f"{what}, for a tenant that asked while it was away")
    server.kill()
    more = [await _let_through([each], "w", limit) for each in (one, other)]
    got = [first + then for first, then in zip(alone, more, strict=True)]
    what = f"let through by each of two replicas in two times without Redis, in one window, limit={limit}"
    hint = "What a replica counted alone stays until that window is over."
    expect_equal(got, [limit // 2] * 2, what, hint=hint)


def _taken(limit_class: Any, url: str, limit: int) -> int:
    return asyncio.run(_let_through([limit_class(url, limit, _LONG_S, 2)], "t", limit))


@_unhurried
async def is_shared(limit_class: Any, server: Server, _: Any) -> None:
    """A replica is a process of its own."""
    limit = random.randint(5, 9)
    (one, _) = _replicas(limit_class, server.url, limit)
    await _let_through([one], "t", 2)
    words: Any = {"what": "another process can use your class", "expected": "requests let through"}
    got = await asyncio.to_thread(in_another_process, _taken, limit_class, server.url, limit, **words)
    hint = "What a process remembers, others do not know."
    what = f"let through by another process after 2 of {limit}"
    expect_equal(got, limit - 2, what, hint=hint)


EXERCISE = Exercise(
    title="One limit for all replicas",
    minutes=20,
    difficulty="hard",
    hints=(
        "A script is one step for Redis: client.register_script(text), and await script(keys=[...], "
        "args=[...]). In it, redis.call('PTTL', KEYS[1]) says how many milliseconds are left.",
        "Count only what is let through, and set the expiry where the count begins, in the same script. "
        "Return 0 or the milliseconds that are left, at least 1.",
        "from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 1)). At a "
        "RedisError, count in a dict of this object: (count, end) of each tenant, up to limit // replicas.",
    ),
    checks=(
        *(shares_limit, keeps_apart, survives_cuts, ignores_clocks, goes_on, takes_errors, comes_back),
        *(forgets, tells_wait, tells_own_wait, never_hangs, keeps_connections, is_shared),
    ),
    deadline_s=30.0,
    why="One script counts and sets the end, so nothing can come between, and whoever dies leaves no count "
    "without an end. Quotas does the same for leases of many requests, so that a request costs a "
    "microsecond and no round trip; its windows slide, and Redis is left alone for a moment after a failure.",
)
