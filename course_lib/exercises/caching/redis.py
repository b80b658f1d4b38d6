"""Exercise 2.3, the Redis tier under dspy.cache: an answer paid for once, in whichever process.

Main path: EXERCISE -> engine.registry; each check has a Redis of its own, and counts on lm.ledger().
Source: dspy.clients.cache.Cache, of which the learner overrides get and put (DSPy 3.4.1).
"""

from __future__ import annotations

import base64
import os
import pickletools
import random
import re
import signal
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import dspy
import redis

from course_lib import lm
from course_lib.exercises.engine.checks import expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted, expect_requests, in_another_process, under_dspy
from course_lib.services import Server, running_redis

QUESTION = "How long does shipping to Norway take? (exercise 2.3)"
TTL_S = 60
_SOON_S = 3.0


@contextmanager
def _filled(cache_class: Any, ttl_s: int = TTL_S) -> Iterator[tuple[Server, Any, Any, Any]]:
    """Give a Redis, a client of ours, a cache of this class, and the answer to QUESTION that it has kept."""
    new = tempfile.TemporaryDirectory(prefix="redis", ignore_cleanup_errors=True)
    with new as folder, running_redis(Path(folder) / "s") as server, redis.Redis.from_url(server.url) as ours:
        cache = cache_class(server.url, ttl_s=ttl_s)
        answer = expect_requests(1, lambda: _ask(cache), "requests of the first call")
        yield server, ours, cache, answer


def _ask(cache: Any, question: str = QUESTION, *, model: str = "sim-large", **options: Any) -> Any:
    """Return the model's answer through this cache; its key is an argument, as most programs have it."""
    with under_dspy(cache), dspy.context(callbacks=[]):
        return lm.connect(model, api_key=lm.key())(question, **options)


def asks_once(cache_class: Any) -> None:
    """The second call is answered from Redis; another question, or another way of asking, is not."""
    with _filled(cache_class) as (server, _, cache, answer):
        new = cache_class(server.url, ttl_s=TTL_S)
        hint = "put stores in Redis what get looks for, under one key for one request."
        for what, each in (("the second call", cache), ("a call through a new cache on the same Redis", new)):
            again = expect_requests(0, partial(_ask, each), f"requests of {what}", hint=hint)
            expect_equal(again, answer, f"the answer of {what}", hint=hint)
        hint = "All that the model is asked belongs in the key: self.cache_key(request, ...) sees to that."
        for other in ({"question": "Why?"}, {"temperature": 0.5}, {"stop": ["#"]}, {"model": "sim-small"}):
            what = f"requests with another {next(iter(other))}"
            expect_requests(1, partial(_ask, cache, **other), what, hint=hint)


def _contents(ours: Any) -> list[bytes]:
    """Return each value in Redis as it is, and unpacked where it is packed."""
    values = [ours.get(key) for key in ours.scan_iter(_type="string")]
    values += [value for key in ours.scan_iter(_type="hash") for value in ours.hvals(key)]
    return [form for value in values for form in _forms(value)]


def _forms(value: bytes) -> Iterator[bytes]:
    yield value
    b64, b16 = partial(base64.b64decode, validate=True), partial(base64.b16decode, casefold=True)
    unpackers: list[Any] = [b64, partial(b64, altchars=b"-_"), b16, partial(zlib.decompress, wbits=47)]
    for unpack, word in product(unpackers, [value, *re.findall(rb"[\w+/-]{16,}=*", value)]):
        try:
            yield unpack(word)
        except (ValueError, zlib.error):
            continue


def _is_pickle(value: bytes) -> bool:
    try:
        return [at for step, _, at in pickletools.genops(value) if step.name == "STOP"] == [len(value) - 1]
    except Exception:  # border: pickletools meets bytes of any kind
        return False


def keeps_secrets(cache_class: Any) -> None:
    """Redis holds no pickle, and nowhere the account's key."""
    with _filled(cache_class) as (_, ours, _, _):
        keys, values = [form for key in ours.scan_iter() for form in _forms(key)], _contents(ours)
    hint = "request holds the api_key; self.cache_key(request, ignored_args_for_cache_key) leaves it out."
    for part, texts in (("keys", keys), ("values", values)):
        leaks = sum(lm.key().encode() in text for text in texts)
        expect_equal(leaks, 0, f"{part} in Redis in which the model's api_key stands", hint=hint)
    hint = "Who can write to Redis could run code in every process that loads a pickle from it. Use JSON."
    expect_equal(sum(map(_is_pickle, values)), 0, "values in Redis that are pickles", hint=hint)


def forgets_in_time(cache_class: Any) -> None:
    """An answer counts for ttl_s seconds, however often it is read, and then Redis no longer has it."""
    with _filled(cache_class, ttl_s=2) as (server, ours, cache, answer):
        new = cache_class(server.url, ttl_s=2)
        time.sleep(1)
        _ask(new)
        time.sleep(1.1)
        left = sum(answer[0].encode() in value for value in _contents(ours))
        hint = "redis' set() takes ex=seconds. A get prolongs nothing, and a dictionary in front ages too."
        expect_equal(left, 0, "answers in Redis after ttl_s seconds", hint=hint)
        for each in (new, cache):
            ours.flushdb()
            expect_requests(1, partial(_ask, each), "requests after ttl_s seconds", hint=hint)
    ttl_s = random.randint(100, 9000)
    with _filled(cache_class, ttl_s) as (_, ours, _, _):
        left_s = max(map(ours.ttl, ours.scan_iter()))
    what, wanted = "how long Redis will keep an answer", f"ttl_s={ttl_s}, or a little less"
    is_so = 0.8 * ttl_s <= left_s <= ttl_s  # some draw it a little shorter, so that not all run out at once
    expect(is_so, what, observed=f"{left_s} s", expected=wanted, hint="Use the ttl_s that is given.")


def _survives(when: str, ask: Callable[[], Any], answer: Any) -> None:
    """Fail the check unless the model is asked in spite of trouble with Redis, and that is its answer."""
    hint = "An error that leaves get or put ends the model's call. Which errors can each line raise?"
    what = f"the model's call survives {when}"
    again, calls = counted(lambda: without_error(ask, what, expected="an answer of the model", hint=hint))
    expect_equal((again, len(calls)), (answer, 1), f"answer and requests with {when}", hint=hint)


def is_careful(cache_class: Any) -> None:
    """A value that is not ours is a miss, as is a request of which no key can be made: the model is asked."""
    with _filled(cache_class) as (server, ours, cache, answer):
        for foreign in (b"\x80\x04 not yours \xff", b"[1, 2]", b'"text"', b"7", b"", None):
            for key in list(ours.scan_iter()):
                ours.delete(key)
                ours.rpush(key, "an item") if foreign is None else ours.set(key, foreign)
            new = cache_class(server.url, ttl_s=TTL_S)
            what = f"a value in Redis that is not yours ({foreign or 'a list of Redis'!r:.40})"
            _survives(what, partial(_ask, new), answer)
            if foreign is not None:  # some leave Redis alone for a while after an error of its own
                hint = "put takes the place of whatever lies under the key."
                expect_requests(0, partial(_ask, new), f"requests of the call after {what}", hint=hint)
        _survives("a request that holds a set", partial(_ask, cache, stop={"###", "<end>"}), answer)


def survives_a_kill(cache_class: Any) -> None:
    """With Redis killed the model answers all the same, and with Redis back answers are kept again."""
    with _filled(cache_class) as (server, _, _, answer):
        cache = cache_class(server.url, ttl_s=TTL_S)
        server.kill()
        _survives("a Redis that is down", partial(_ask, cache), answer)
        server.start()
        give_up_at = time.monotonic() + _SOON_S
        while (calls := counted(partial(_ask, cache))[1]) and time.monotonic() < give_up_at:
            time.sleep(0.1)
        what = f"requests of a call {_SOON_S:.0f} s after Redis came back"
        expect_equal(len(calls), 0, what, hint="Redis is empty then: put has to work again, and then get.")


def does_not_hang(cache_class: Any) -> None:
    """With Redis stopped in its tracks, the model's call comes back within a few seconds."""
    with _filled(cache_class) as (server, _, _, _), ThreadPoolExecutor(1) as thread:
        cache = cache_class(server.url, ttl_s=TTL_S)
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
    with _filled(cache_class) as (server, _, _, answer):
        ask, what = partial(asked, cache_class, server.url), "requests of another process that asks the same"
        again = expect_requests(0, partial(ask, expected="an answer"), what, hint=hint)
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
    checks=(asks_once, keeps_secrets, forgets_in_time, is_careful, survives_a_kill, does_not_hang, is_shared),
    deadline_s=45.0,
    why="A cache may save a call and must never cost one: every failure of Redis is a miss, and short. A "
    "pickle from a shared store is somebody else's program. TieredCache adds memory and a circuit breaker.",
)
