"""Exercise 2.3, the Redis tier under dspy.cache: an answer paid for once, in whichever process.

Main path: EXERCISE -> engine.registry; each check has a Redis of its own, and counts on lm.ledger().
Source: dspy.clients.cache.Cache, of which the learner overrides get and put (DSPy 3.4.1).
"""

from __future__ import annotations

import os
import pickletools
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from course_lib import lm
from course_lib.exercises.engine.checks import expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise, stub_methods
from course_lib.exercises.engine.seen import counted, expect_requests, in_another_process, under_dspy
from course_lib.services import Server, running_redis

CacheClass = Callable[..., Any]
QUESTION = "How long does shipping to Norway take? (exercise 2.3)"
TTL_S = 60
_SOON_S = 3.0
_GARBAGE = b"\x80\x04 this is not yours \xff"


@contextmanager
def _own_redis() -> Iterator[Server]:
    new = tempfile.TemporaryDirectory(prefix="redis", ignore_cleanup_errors=True)
    with new as folder, running_redis(Path(folder) / "s") as server:
        yield server


def _ask(cache: Any, question: str = QUESTION) -> Any:
    """Return the model's answer through this cache; its key is an argument, as most programs have it."""
    import dspy

    model = lm.connect("sim-large", api_key=lm.key())
    with under_dspy(cache), dspy.context(callbacks=[]):
        return model(question)


def _paid(requests: int, cache: Any, what: str, answer: Any, *, hint: str = "") -> None:
    """Ask through this cache; fail unless that costs so many requests, and gives that answer."""
    again = expect_requests(requests, lambda: _ask(cache), f"requests of {what}", hint=hint)
    expect_equal(again, answer, f"the answer of {what}")


def _stored(server: Server) -> dict[bytes, bytes]:
    """Return what is in Redis: each key, with its value as bytes, whatever its type."""
    import redis

    with redis.Redis.from_url(server.url) as client:
        found: dict[bytes, Any] = {}
        for key in client.scan_iter():
            kind = client.type(key)
            read = {b"string": client.get, b"hash": client.hgetall}.get(kind, client.dump)
            value = read(key)
            found[key] = value if isinstance(value, bytes) else repr(value).encode()
        return found


def asks_once(cache_class: CacheClass) -> None:
    """The second call is answered from Redis, by the same cache and by a new one on the same Redis."""
    with _own_redis() as server:
        cache = cache_class(server.url, ttl_s=TTL_S)
        answer = expect_requests(1, lambda: _ask(cache), "requests of the first call")
        hint = "put has to store what get will look for, under one key."
        _paid(0, cache, "the second call", answer, hint=hint)
        hint = "A new object knows nothing but the address: the answer has to be in Redis."
        new = cache_class(server.url, ttl_s=TTL_S)
        _paid(0, new, "a call through a new cache on the same Redis", answer, hint=hint)
        another = QUESTION + " And to Iceland?"
        expect_requests(1, lambda: _ask(cache, another), "requests of a call with another question")


def keeps_json_and_no_secrets(cache_class: CacheClass) -> None:
    """Redis holds no pickle, and nowhere the account's key."""
    with _own_redis() as server:
        _ask(cache_class(server.url, ttl_s=TTL_S))
        stored = _stored(server)
    secret, parts = lm.key().encode(), {"key": list(stored), "value": list(stored.values())}
    leaks = [part for part, texts in parts.items() if any(secret in text for text in texts)]
    expect(
        not leaks,
        "the model's api_key is nowhere in Redis",
        observed=f"it stands in a {leaks[0]}" if leaks else "",
        expected="only a digest of the request in the key, and the answer in the value",
        hint="request holds the api_key. self.cache_key(request, ignored_args_for_cache_key) leaves it out.",
    )
    pickles = [key for key, value in stored.items() if _is_pickle(value)]
    expect(
        not pickles,
        "no value in Redis is a pickle",
        observed=f"the value of {pickles[0]!r} is one" if pickles else "",
        expected="JSON",
        hint="Who can write to Redis could run code in every process that loads a pickle from it.",
    )


def _is_pickle(value: bytes) -> bool:
    try:
        return any(step.name == "STOP" for step, _, _ in pickletools.genops(value))
    except Exception:  # border: pickletools meets bytes of any kind
        return False


def sets_a_time_to_live(cache_class: CacheClass) -> None:
    """Every answer in Redis runs out after ttl_s seconds at the latest."""
    import redis

    with _own_redis() as server, redis.Redis.from_url(server.url) as client:
        _ask(cache_class(server.url, ttl_s=TTL_S))
        left_s = {key: client.ttl(key) for kind in ("string", "hash") for key in client.scan_iter(_type=kind)}
    expect(left_s, "an answer is in Redis", observed="no key", expected="a key with the answer")
    for key, seconds in left_s.items():
        expect(
            0 < seconds <= TTL_S,
            observed=f"{key!r} {'never runs out' if seconds < 0 else f'runs out in {seconds} s'}",
            expected=f"{TTL_S} s at most",
            hint="redis' set() takes ex=seconds.",
        )


def takes_foreign_values_for_misses(cache_class: CacheClass) -> None:
    """A value that is not ours is a miss: the model is asked, and nothing fails."""
    import redis

    with _own_redis() as server, redis.Redis.from_url(server.url) as client:
        answer = _ask(cache_class(server.url, ttl_s=TTL_S))
        cache = cache_class(server.url, ttl_s=TTL_S)
        for key in client.scan_iter(_type="string"):
            client.set(key, _GARBAGE)
        _survives("a value in Redis that is not yours", lambda: _ask(cache), answer)


def _survives(when: str, ask: Callable[[], Any], answer: Any) -> None:
    """Fail the check unless the model is asked in spite of trouble with Redis, and that is its answer."""
    again, calls = counted(
        lambda: without_error(
            ask,
            f"the model's call survives {when}",
            expected="an answer of the model",
            hint="An error that leaves get or put ends the model's call. Which errors can each line raise?",
        )
    )
    expect_equal((again, len(calls)), (answer, 1), f"answer and requests with {when}")


def goes_on_without_redis(cache_class: CacheClass) -> None:
    """With Redis killed the model answers all the same, and with Redis back answers are kept again."""
    with _own_redis() as server:
        answer = _ask(cache_class(server.url, ttl_s=TTL_S))
        cache = cache_class(server.url, ttl_s=TTL_S)
        server.kill()
        _survives("a Redis that is down", lambda: _ask(cache), answer)
        server.start()
        _ask(cache)
        _paid(0, cache, "the second call after Redis came back", answer)


def does_not_hang_with_redis(cache_class: CacheClass) -> None:
    """With Redis stopped in its tracks, the model's call comes back within a few seconds."""
    with _own_redis() as server, ThreadPoolExecutor(1) as thread:
        _ask(cache_class(server.url, ttl_s=TTL_S))
        cache = cache_class(server.url, ttl_s=TTL_S)
        os.kill(server.pid, signal.SIGSTOP)
        asking = thread.submit(_ask, cache)
        is_late = not wait([asking], timeout=_SOON_S).done
        os.kill(server.pid, signal.SIGCONT)
        wait([asking])
    expect(
        not is_late,
        observed=f"no answer after {_SOON_S:.0f} s",
        expected="an answer soon",
        hint="redis-py waits 5 s for an answer and tries ten times more. Say socket_timeout=0.25, "
        "socket_connect_timeout=0.25 and retry=Retry(NoBackoff(), 0).",
    )
    without_error(asking.result, "the model's call survives a Redis that hangs", expected="an answer")


def is_shared_by_processes(cache_class: CacheClass) -> None:
    """What one process has paid for, another process gets without a request."""
    with _own_redis() as server:
        answer = _ask(cache_class(server.url, ttl_s=TTL_S))
        again, calls = counted(
            lambda: in_another_process(
                answer_through,
                cache_class,
                server.url,
                what="another process can use your class",
                expected="an answer",
            )
        )
    hint = "Does the key depend on something that differs between processes, such as hash()?"
    expect_equal(len(calls), 0, "requests of another process that asks the same", hint=hint)
    expect_equal(again, answer, "the answer in another process")


def answer_through(cache_class: CacheClass, url: str) -> Any:
    """Ask the question through a cache of this class, in whichever process this is."""
    return _ask(cache_class(url, ttl_s=TTL_S))


EXERCISE = Exercise(
    id="2.3",
    title="The Redis tier",
    lesson="02_caching",
    minutes=20,
    difficulty="hard",
    concepts=("dspy.cache", "Redis", "time to live", "going on without"),
    hints=(
        "self.cache_key(request, ignored_args_for_cache_key) is the same in every process, and leaves the "
        "api_key out. get: self.redis.get(key), then json.loads; put: json.dumps, then self.redis.set(key, "
        "..., ex=self.ttl_s).",
        "What may go wrong: redis.RedisError (down, slow, full), ValueError (json.loads of a foreign value), "
        "TypeError (a request without a key, a value that JSON cannot hold). In get each is a miss, in put "
        "each is an answer that is not kept.",
        "redis.Redis.from_url(url, socket_timeout=0.25, socket_connect_timeout=0.25, "
        "retry=Retry(NoBackoff(), 0)); both names are in redis.retry and redis.backoff.",
    ),
    checks=(
        asks_once,
        keeps_json_and_no_secrets,
        sets_a_time_to_live,
        takes_foreign_values_for_misses,
        goes_on_without_redis,
        does_not_hang_with_redis,
        is_shared_by_processes,
    ),
    deadline_s=45.0,
    is_stub=stub_methods("get", "put"),
    why="A cache may save a call and must never cost one: so every failure of Redis, and every value that is "
    "not ours, is a miss, and short. The key is a digest of what the model is asked, equal in all processes "
    "and without the secret that the request carries. JSON is data; a pickle from a shared store is somebody "
    "else's program. TieredCache adds what this one lacks: memory in front, a checksum bound to the key, a "
    "rest for a Redis in trouble, so that an outage costs one deadline and not one per call.",
)
