"""Exercise 2.3, the Redis tier under dspy.cache: an answer paid for once, in whichever process.

Main path: EXERCISE -> engine.registry; each check has a Redis of its own, and counts on lm.ledger().
Source: dspy.clients.cache.Cache, of which the learner overrides get and put (DSPy 3.4.1).
"""

from __future__ import annotations

import base64
import bz2
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
from functools import lru_cache, partial
from itertools import product, takewhile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dspy
import redis
from dspy.clients.cache import Cache
from pydantic import create_model

from course_lib import lm
from course_lib.exercises.engine.checks import expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import expect_requests, in_another_process, under_dspy
from course_lib.services import Server, running_redis

TTL_S, _SOON_S = 60, 3.0


@contextmanager
def _redis(cache_class: Any, ttl_s: int = TTL_S) -> Iterator[tuple[Server, Any, Any]]:
    """Give a Redis, a client of ours, to which it shows what it holds as it is, and a cache of this class."""
    new = tempfile.TemporaryDirectory(prefix="redis", ignore_cleanup_errors=True)
    with new as folder, running_redis(Path(folder) / "s") as server, redis.Redis.from_url(server.url) as ours:
        ours.config_set("rdbcompression", "no")
        yield server, ours, cache_class(server.url, ttl_s=ttl_s)


def _ask(cache: Any, **options: Any) -> Any:
    """Return the model's answer through this cache; its key is an argument, as most programs have it."""
    with under_dspy(cache), dspy.context(callbacks=[]):
        return lm.connect("sim-large", api_key=lm.key())("When does the parcel come? (2.3)", **options)


@lru_cache
def _put_by_dspy() -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Return what DSPy hands to put: a request, the answer, and the names that are not to be in the key."""
    with patch.object(Cache, "put") as put:
        _ask(Cache(enable_disk_cache=False, enable_memory_cache=False, disk_cache_dir=None))
    return put.call_args.args


class _Pair:
    """A request, of many about this text that differ in one place or two, and its answer."""

    def __init__(self, text: str = "Where is it?") -> None:
        request, value, self.ignored = _put_by_dspy()
        inside = [text.replace(*pair) for pair in ((" ", "  "), (" ", "\n"), ("é", "e\u0301"))]
        texts = text.upper(), f"{text} ", f" {text}", f"{text}?", f"{text}{time.time()}", *inside
        said = {"content": random.choice(texts)}
        system, user = ({"role": role, "content": text} for role in ("system", "user"))
        options: dict[str, Any] = {
            "messages": ([system, user], [user, system], [system | said, user], [system, user | said]),
            **dict.fromkeys(("temperature", "top_p"), (None, 0.7, 0.7 + 1e-9, 0.0)),
            **dict.fromkeys(("max_tokens", "rollout_id"), (None, 1, 2)),
            "model": ("course/sim-large", "course/sim-small", "other/sim-large"),
            "stop": (["###", "<end>"], ["<end>", "###"], None),
            "response_format": [{"type": "json_schema", "json_schema": {"strict": each}} for each in (0, 1)],
        }
        drawn = {name: random.choice(options[name]) for name in random.choices([*options, "messages"], k=2)}
        changes = {name: first for name, (first, *_) in options.items()} | drawn
        self.text = json.dumps(changes)
        asked = request | changes | {"api_key": lm.key()}
        self.request = {name: value for name, value in asked.items() if value is not None}
        by_text = random.Random(self.text)
        self.value = value | {"outputs": [f"é{by_text.randbytes(5100).hex()}"], "cost": by_text.random()}

    def get(self, cache: Any) -> Any:
        return cache.get(dict(self.request), self.ignored)

    def put(self, cache: Any) -> None:
        given = deepcopy(self.value)
        cache.put(dict(self.request), given, self.ignored)
        expect_equal(given, self.value, "the value that was handed to put, afterwards")


def keeps_apart(cache_class: Any) -> None:
    """Each request gets back its own value and no other's, whichever cache has put it."""
    hint = "All that the model is asked belongs in the key: self.cache_key(request, ...) sees to that."
    text, put = " ".join(random.choices(("Where", "is", "my café", "\n"), k=900)), dict[str, Any]()
    with _redis(cache_class) as (server, _, cache):
        caches = cache, cache_class(server.url, ttl_s=TTL_S)
        pairs = [_Pair(text if number < 120 else f"{number}") for number in range(250)]
        for pair in (*pairs, *pairs[:120]):
            what = f"get of the request {pair.text[:90]}...{pair.text[-200:]}, among others like it"
            expect_equal(pair.get(random.choice(caches)), put.get(pair.text), what, hint=hint)
            pair.put(random.choice(caches))
            put[pair.text] = pair.value


def _forms(value: bytes, depth: int = 2) -> Iterator[bytes]:
    """Give these bytes, and what is packed somewhere in them."""
    yield value
    b64, b16 = partial(base64.b64decode, validate=True), partial(base64.b16decode, casefold=True)
    words: Any = product((b64, partial(b64, altchars=b"-_"), b16), re.findall(rb"[\w+/-]{16,}=*", value))
    magic = re.finditer(rb"[\x08-\x78][\x01\x5e\x9c\xda]|\x1f\x8b|BZh|\xfd7z", value)
    starts = [value[found.start() :] for found in magic]
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
        for _ in "ab":
            _ask(cache)
        found = {"keys": [*ours.scan_iter()], "values": [ours.dump(key) for key in ours.scan_iter()]}
    hint = "request holds the api_key; self.cache_key(request, ignored_args_for_cache_key) leaves it out."
    for part, held in found.items():
        texts = [text for each in held for text in _forms(each)]
        leaks = sum(lm.key().encode() in text for text in texts)
        expect_equal(leaks, 0, f"{part} in Redis in which the model's api_key stands", hint=hint)
        why = "Who can write to Redis could run code in every process that loads a pickle from it. Use JSON."
        expect_equal(sum(map(_is_pickle, texts)), 0, f"{part} in Redis that are pickles", hint=why)


def _answers(ours: Any) -> list[bytes]:
    """Return the keys in Redis under which more lies than a counter or a mark."""
    return [key for key in ours.scan_iter() if len(ours.dump(key) or b"") > 500]


def forgets_in_time(cache_class: Any) -> None:
    """An answer counts for ttl_s seconds after each put, and then Redis has it no longer."""
    pair, ttl_s, hint = _Pair(), random.randint(100, 9000), "set() takes ex=seconds. A get prolongs nothing."
    with _redis(cache_class, ttl_s) as (server, ours, cache):
        new = cache_class(server.url, ttl_s=ttl_s)
        for name, part in {"a put": 1, "a get": 2, "another put": 1}.items():
            pair.get(new) if name == "a get" else pair.put(cache)
            left, most = sorted(map(ours.ttl, _answers(ours))), ttl_s // part
            is_so = left and 0.89 * most <= left[0] <= left[-1] <= most
            what, wanted = f"how long Redis keeps an answer after {name}", f"{most} s, for every key"
            expect(is_so, what, observed=left, expected=wanted, hint=hint)
            for key in _answers(ours):
                ours.expire(key, ttl_s // 2)
    with _redis(cache_class, 1) as (server, ours, _):
        caches, hint = [cache_class(server.url, ttl_s=1) for _ in "abc"], "A dictionary in front ages too."
        pair.put(caches[0])
        for pause_s, some in (0.0, caches[:2]), (0.5, caches), (0.6, caches):
            time.sleep(pause_s)
            left = [each for each in some if pair.get(each)]
        what = "caches that serve and keys in Redis after ttl_s seconds"
        expect_equal((len(left), len(_answers(ours))), (0, 0), what, hint=hint)


_FOREIGN = [*b'\x80\x04 not \xff!![1, 2]!!"a"!!7!!null!!!!{!!\xff{}!!true'.split(b"!!"), b"[" * 10**5, None]


def is_careful(cache_class: Any) -> None:
    """A value that is no JSON object is a miss, as is a request of which no key can be made."""
    hint = "An error that leaves get or put ends the model's call. Which errors can each line raise?"
    with _redis(cache_class) as (server, ours, cache):
        _ask(cache)
        keys, other = [*ours.scan_iter()], _Pair()
        other.put(cache)
        for foreign in random.sample(_FOREIGN, len(_FOREIGN)):
            for key in keys:
                ours.delete(key)
                ours.rpush(key, "an item") if foreign is None else ours.set(key, foreign)
            what = f"a value in Redis that is not yours ({foreign or 'a list of Redis'!r:.40})"
            ask = partial(without_error, partial(_ask, cache_class(server.url, ttl_s=TTL_S)), what, hint=hint)
            expect_requests(1, ask, f"requests with {what}", hint=hint)
            if foreign is not None:  # some leave Redis alone for a while after an error of its own
                more = "put takes the place of whatever lies under the key."
                expect_requests(0, ask, f"requests of the call after {what}", hint=more)
                expect_equal(other.get(cache), other.value, f"another answer after {what}", hint=more)
        classes = [{"response_format": create_model("Reply", text=(each, ...))} for each in (str, int)]
        for options in [dict[str, Any](stop=stop) for stop in ({"###", "<end>"}, {"###"})] + classes:
            what = "the model's call survives a request that holds a set or a class"
            ask = partial(without_error, partial(_ask, cache, **options), what, hint=hint)
            expect_requests(1, ask, f"requests of a call that first holds {options}", hint=hint)


def survives_a_kill(cache_class: Any) -> None:
    """With Redis killed the model answers all the same, and with Redis back answers are kept again."""
    pair, what, hint = _Pair(), "the model's call survives a Redis that is down", "put has to work again."
    with _redis(cache_class) as (server, ours, cache):
        server.kill()
        expect_requests(1, partial(without_error, partial(_ask, cache), what), "requests while Redis is down")
        give_up_at = time.monotonic() + 1
        for _ in takewhile(lambda _: time.monotonic() < give_up_at, range(9)):  # some give up late
            without_error(lambda: [step(cache) for step in (pair.get, pair.put)], what)
        server.start()
        new, end_s = cache_class(server.url, ttl_s=TTL_S), time.monotonic() + _SOON_S
        while not (got := _answers(ours) and pair.get(new) and pair.get(cache)) and time.monotonic() < end_s:
            pair.put(cache)
            time.sleep(0.05)
        expect_equal(got, pair.value, f"a value that is put {_SOON_S:.0f} s after Redis came back", hint=hint)


def never_hangs(cache_class: Any) -> None:
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
    """A call that was paid for is answered from Redis: the second, one of a new cache, of another process."""
    hint = "put stores what get looks for, under one key; hash() is another one in each process."
    with _redis(cache_class) as (server, _, cache):
        anew = partial(lambda url: _ask(cache_class(url, ttl_s=TTL_S)), server.url)
        words: Any = {"what": "another process can use your class", "expected": "an answer"}
        answer = expect_requests(1, partial(_ask, cache), "requests of the first call")
        for name, ask in {
            "the second call": partial(_ask, cache),
            "a call through a new cache on the same Redis": partial(anew),
            "another process that asks the same": partial(in_another_process, anew, **words),
        }.items():
            again = expect_requests(0, ask, f"requests of {name}", hint=hint)
            expect_equal(again, answer, f"the answer of {name}", hint=hint)


EXERCISE = Exercise(
    title="The Redis tier",
    minutes=15,
    difficulty="hard",
    hints=(
        "self.cache_key(request, ignored_args_for_cache_key) leaves the api_key out; set() takes ex=seconds.",
        "RedisError, ValueError, RecursionError, TypeError: in get each is a miss, in put a value not kept.",
        "from_url(url, socket_timeout=0.25, socket_connect_timeout=0.25, retry=Retry(NoBackoff(), 0)).",
    ),
    checks=(is_shared, keeps_apart, keeps_secrets, forgets_in_time, is_careful, survives_a_kill, never_hangs),
    deadline_s=100.0,
    why="A cache may save a call and must never cost one: every failure of Redis is a miss, and short. A "
    "pickle from a shared store is somebody else's program. TieredCache adds memory and a circuit breaker.",
)
