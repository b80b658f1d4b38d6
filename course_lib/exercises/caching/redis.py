"""Exercise 2.3, the Redis tier under dspy.cache: an answer paid for once, in whichever process.

Main path: EXERCISE -> engine.registry; each check has a Redis of its own, and counts on lm.ledger().
Source: dspy.clients.cache.Cache, of which the learner overrides get and put (DSPy 3.4.1).
"""

from __future__ import annotations

import base64
import bz2
import functools
import inspect
import json
import lzma
import os
import pickletools
import random
import re
import signal
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import dspy
import redis
from dspy.clients.cache import Cache

from course_lib import lm
from course_lib.exercises.engine.checks import expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import expect_requests, in_another_process, under_dspy
from course_lib.services import Server, running_redis

QUESTION = "How long does shipping to Norway take? (exercise 2.3)"
TTL_S = 60
_SOON_S = 3.0


@contextmanager
def _redis(cache_class: Any, ttl_s: int = TTL_S) -> Iterator[tuple[Server, Any, Any]]:
    """Give a Redis, a client of ours, to which it shows what it holds as it is, and a cache of this class."""
    new = tempfile.TemporaryDirectory(prefix="redis", ignore_cleanup_errors=True)
    with new as folder, running_redis(Path(folder) / "s") as server, redis.Redis.from_url(server.url) as ours:
        ours.config_set("rdbcompression", "no")
        yield server, ours, cache_class(server.url, ttl_s=ttl_s)


def _ask(cache: Any, question: str = QUESTION, **options: Any) -> Any:
    """Return the model's answer through this cache; its key is an argument, as most programs have it."""
    with under_dspy(cache), dspy.context(callbacks=[]):
        return lm.connect("sim-large", api_key=lm.key())(question, **options)


@functools.cache
def _put_by_dspy() -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Return what DSPy hands to put: a request, the answer, and the names that are not to be in the key."""
    found: list[Any] = []

    class Recorder(Cache):  # type: ignore[misc]
        def put(self, *args: Any, **options: Any) -> None:
            found.extend(inspect.signature(super().put).bind(*args, **options).args[:3])

    _ask(Recorder(enable_disk_cache=False, enable_memory_cache=False, disk_cache_dir=None))
    return found[0], found[1], (found + [None])[2]


def _a_text() -> str:
    return "".join(
        random.choice(("Where", "is", " ", "my parcel", "\n")) for _ in range(random.choice((4, 900)))
    )


class _Pair:
    """A request, of many about this text that are nearly equal, and its answer."""

    def __init__(self, text: str) -> None:
        request, value, self.ignored = _put_by_dspy()
        said = random.choice(
            (text, text.upper(), f"{text} ", f" {text}", f"{text}?", f"{text}{random.random()}")
        )
        roles = {"system": random.choice(("Be kind.", "Be brief.")), "user": said}
        changes = {
            "messages": [{"role": role, "content": content} for role, content in roles.items()],
            "temperature": random.choice((None, 0.0, 0.01, 0.7, 0.74)),
            "max_tokens": random.choice((None, 100)),
            "model": random.choice(("course/sim-large", "course/sim-small", "other/sim-large")),
        }
        self.text = json.dumps(changes)
        self.request = request | changes | {"api_key": lm.key()}
        self.value = value | {
            "outputs": [f"{'é' * 9000}{self.text}"],
            "cost": random.Random(self.text).random(),
        }

    def get(self, cache: Any) -> Any:
        return cache.get(dict(self.request), self.ignored)

    def put(self, cache: Any) -> None:
        given = deepcopy(self.value)
        cache.put(dict(self.request), given, self.ignored)
        expect_equal(given, self.value, "the value that was handed to put, afterwards")


def asks_once(cache_class: Any) -> None:
    """The second call is answered from Redis, also through a new cache."""
    with _redis(cache_class) as (server, _, cache):
        answer, new = (
            expect_requests(1, partial(_ask, cache), "first requests"),
            cache_class(server.url, ttl_s=TTL_S),
        )
        hint = "put stores in Redis what get looks for, under one key for one request."
        for what, each in (("the second call", cache), ("a call through a new cache on the same Redis", new)):
            again = expect_requests(0, partial(_ask, each), f"requests of {what}", hint=hint)
            expect_equal(again, answer, f"the answer of {what}", hint=hint)


def keeps_apart(cache_class: Any) -> None:
    """Each request gets back its own value and no other's, whichever cache has put it."""
    hint = "All that the model is asked belongs in the key: self.cache_key(request, ...) sees to that."
    with _redis(cache_class) as (server, _, cache):
        caches, put = (cache, cache_class(server.url, ttl_s=TTL_S)), dict[str, Any]()
        text = _a_text()
        pairs = [_Pair(text) for _ in range(250)]
        for pair in (*pairs, *pairs):
            got, what = (
                pair.get(random.choice(caches)),
                f"get of the request {pair.text[-300:]}, among others like it",
            )
            expect_equal(got, put.get(pair.text), what, hint=hint)
            pair.put(random.choice(caches))
            put[pair.text] = pair.value


def _forms(value: bytes, depth: int = 2) -> Iterator[bytes]:
    """Give these bytes, and what is packed somewhere in them."""
    yield value
    b64, b16 = partial(base64.b64decode, validate=True), partial(base64.b16decode, casefold=True)
    words = product((b64, partial(b64, altchars=b"-_"), b16), re.findall(rb"[\w+/-]{16,}=*", value))
    starts = [
        value[found.start() :]
        for found in re.finditer(rb"[\x08-\x78][\x01\x5e\x9c\xda]|\x1f\x8b|BZh|\xfd7z", value)
    ]
    openers = (partial(zlib.decompressobj, 47), bz2.BZ2Decompressor, lzma.LZMADecompressor)
    packed = [(lambda word, new=new: new().decompress(word), word) for new, word in product(openers, starts)]
    for unpack, word in (*words, *packed) if depth else ():
        with suppress(ValueError, zlib.error, OSError, EOFError, lzma.LZMAError):
            yield from _forms(unpack(word), depth - 1)


def _is_pickle(value: bytes) -> bool:
    """Say whether a pickle of some length begins somewhere in these bytes."""
    for found in re.finditer(rb"\x80[\x02-\x05]|\((?:dp|lp|\w)", value):
        with suppress(Exception):  # pickletools meets bytes of any kind
            if len(list(pickletools.genops(value[found.start() :]))) > 12:
                return True
    return False


def keeps_secrets(cache_class: Any) -> None:
    """Redis holds no pickle, and nowhere the account's key."""
    with _redis(cache_class) as (_, ours, cache):
        pair = _Pair(_a_text())
        pair.get(cache), pair.put(cache), pair.get(cache)
        keys = list(ours.scan_iter())
        found = {"keys": list(map(_forms, keys)), "values": [_forms(ours.dump(key)) for key in keys]}
    hint = "request holds the api_key; self.cache_key(request, ignored_args_for_cache_key) leaves it out."
    for part, forms in found.items():
        texts = [text for each in forms for text in each]
        leaks = sum(lm.key().encode() in text for text in texts)
        expect_equal(leaks, 0, f"{part} in Redis in which the model's api_key stands", hint=hint)
        why = "Who can write to Redis could run code in every process that loads a pickle from it. Use JSON."
        expect_equal(sum(map(_is_pickle, texts)), 0, f"{part} in Redis that are pickles", hint=why)


def forgets_in_time(cache_class: Any) -> None:
    """An answer counts for ttl_s seconds after each put, however often it is read; then Redis has it no longer."""
    pair, ttl_s, hint = (
        _Pair(_a_text()),
        random.randint(100, 9000),
        "redis' set() takes ex=seconds. A get prolongs nothing.",
    )
    with _redis(cache_class, ttl_s) as (server, ours, cache):
        for what, given_s in (("a put", None), ("another put", ttl_s / 2), ("another put, late", 5)):
            for key in ours.scan_iter():
                ours.pexpire(key, int(1000 * (given_s or 0)))
            if given_s:
                pair.get(cache_class(server.url, ttl_s=ttl_s))
                left_s = max([*map(ours.ttl, ours.scan_iter())], default=0)
                expect(
                    left_s <= given_s,
                    "reading prolongs nothing",
                    observed=left_s,
                    expected=f"{given_s}",
                    hint=hint,
                )
            pair.put(cache)
            left = sorted({ours.ttl(key) for key in ours.scan_iter()})
            is_so, wanted = (
                left and 0.89 * ttl_s <= left[0] <= left[-1] <= ttl_s,
                f"ttl_s={ttl_s}, for every key",
            )
            expect(
                is_so,
                f"how long Redis keeps an answer after {what}",
                observed=left,
                expected=wanted,
                hint=hint,
            )
    with _redis(cache_class, 1) as (server, ours, cache):
        new = cache_class(server.url, ttl_s=1)
        pair.put(cache)
        time.sleep(0.5)
        pair.get(new), pair.get(cache)
        time.sleep(0.6)
        left, hint = [each for each in (cache, new) if pair.get(each)], "A dictionary in front ages too."
        expect_equal(
            (len(left), ours.dbsize()),
            (0, 0),
            "caches that serve and keys in Redis after ttl_s seconds",
            hint=hint,
        )


_FOREIGN = (
    b"\x80\x04 not yours \xff",
    b"[1, 2]",
    b'"text"',
    b"7",
    b"null",
    b"",
    b"{",
    b"[" * 100_000,
    b"\xff{}",
    None,
)


def is_careful(cache_class: Any) -> None:
    """A value that is no JSON object is a miss, as is a request of which no key can be made: the model is asked."""
    hint = "An error that leaves get or put ends the model's call. Which errors can each line raise?"
    with _redis(cache_class) as (server, ours, cache):
        _ask(cache)
        for foreign in random.sample(_FOREIGN, len(_FOREIGN)):
            for key in list(ours.scan_iter()):
                ours.delete(key)
                ours.rpush(key, "an item") if foreign is None else ours.set(key, foreign)
            new = cache_class(server.url, ttl_s=TTL_S)
            what = f"a value in Redis that is not yours ({foreign or 'a list of Redis'!r:.40})"
            ask = partial(_ask, new)
            expect_requests(
                1, lambda: without_error(ask, what, hint=hint), f"requests with {what}", hint=hint
            )  # noqa: B023
            if foreign is not None:  # some leave Redis alone for a while after an error of its own
                hint2 = "put takes the place of whatever lies under the key."
                expect_requests(0, ask, f"requests of the call after {what}", hint=hint2)
        what = "the model's call survives a request that holds a set"
        without_error(partial(_ask, cache, stop={"###", "<end>"}), what, hint=hint)


def survives_a_kill(cache_class: Any) -> None:
    """With Redis killed the model answers all the same, and with Redis back answers are kept again."""
    pair = _Pair(_a_text())
    with _redis(cache_class) as (server, _, cache):
        pair.put(cache)
        server.kill()
        what = "the model's call survives a Redis that is down"
        expect_requests(1, lambda: without_error(partial(_ask, cache), what), "requests while Redis is down")
        give_up_at = time.monotonic() + 1
        for _ in range(9):
            if time.monotonic() < give_up_at:
                without_error(lambda: (pair.get(cache), pair.put(cache)), what)
        server.start()
        give_up_at = time.monotonic() + _SOON_S
        new = cache_class(server.url, ttl_s=TTL_S)
        while not (is_kept := pair.get(new)) and time.monotonic() < give_up_at:
            pair.put(cache)
            time.sleep(0.05)
        what = f"a value that is put {_SOON_S:.0f} s after Redis came back"
        expect(
            is_kept,
            what,
            observed="not kept",
            expected="kept",
            hint="Redis is empty then: put has to work again.",
        )


def does_not_hang(cache_class: Any) -> None:
    """With Redis stopped in its tracks, the model's call comes back within a few seconds."""
    with _redis(cache_class) as (server, _, cache), ThreadPoolExecutor(1) as thread:
        _ask(cache)
        os.kill(server.pid, signal.SIGSTOP)
        asking = thread.submit(_ask, cache)
        is_late = not wait([asking], timeout=_SOON_S).done
        os.kill(server.pid, signal.SIGCONT)
    hint = "redis-py waits 5 s for an answer and tries ten times more. What else can it be told?"
    expect(not is_late, observed=f"no answer after {_SOON_S:.0f} s", expected="an answer soon", hint=hint)
    without_error(asking.result, "the model's call survives a Redis that hangs", expected="an answer")


def is_shared(cache_class: Any) -> None:
    """What one process has paid for, another process gets without a request."""
    hint = "Does the key depend on something that differs between processes, such as hash()?"
    asked: Any = partial(in_another_process, answer_through, what="another process can use your class")
    with _redis(cache_class) as (server, _, cache):
        answer, ask = _ask(cache), partial(asked, cache_class, server.url, expected="an answer")
        again = expect_requests(0, ask, "requests of another process that asks the same", hint=hint)
    expect_equal(again, answer, "the answer in another process", hint=hint)


def answer_through(cache_class: Any, url: str) -> Any:
    """Ask the question through a cache of this class, in whichever process this is."""
    return _ask(cache_class(url, ttl_s=TTL_S))


EXERCISE = Exercise(
    title="The Redis tier",
    minutes=15,
    difficulty="hard",
    hints=(
        "self.cache_key(request, ignored_args_for_cache_key) leaves the api_key out. get: json.loads of "
        "self.redis.get(key); put: self.redis.set(key, json.dumps(value), ex=self.ttl_s).",
        "RedisError, ValueError, RecursionError, TypeError: in get each is a miss, in put a value not kept.",
        "redis.Redis.from_url(url, socket_timeout=0.25, socket_connect_timeout=0.25, "
        "retry=Retry(NoBackoff(), 0)); both names are in redis.retry and redis.backoff.",
    ),
    checks=(
        asks_once,
        keeps_apart,
        keeps_secrets,
        forgets_in_time,
        is_careful,
        survives_a_kill,
        does_not_hang,
        is_shared,
    ),
    deadline_s=45.0,
    why="A cache may save a call and must never cost one: every failure of Redis is a miss, and short. A "
    "pickle from a shared store is somebody else's program. TieredCache adds memory and a circuit breaker.",
)
