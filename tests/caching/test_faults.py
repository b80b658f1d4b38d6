"""Redis killed, restarted, full, slow, and fed garbage, while threads and tasks ask.

In each case: no wrong answer, no error to any caller, and Redis in use again by itself. Each takes one to
three seconds: a server starts, and calls have to go on before, during and after the fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading

import dspy
import pytest
import redis
from dspy.lm15 import Message, Request, Response, TextPart, Usage

from course_lib.caching import TieredCache, keys, scope
from course_lib.services import Server
from tests.caching.front_parts import until

QUESTIONS = 60
TENANTS = ("acme", "bolt")


def answer(number: int) -> str:
    """What is right for this question and the tenant of this scope."""
    return f"{keys.current_scope().tenant}: {number}. " + "word " * 60


class Oracle:
    """A model that answers at once."""

    def complete(self, request: Request) -> Response:
        text = answer(int(request.messages[-1].parts[0].text.split()[-1]))
        message = Message(role="assistant", parts=(TextPart(text),))
        usage = Usage(input_tokens=10, output_tokens=20)
        return Response(id="1", model=request.model, message=message, finish_reason="stop", usage=usage)


class AsyncOracle(Oracle):
    async def complete(self, request: Request) -> Response:
        return super().complete(request)


class Load:
    """Threads and tasks that ask again and again, and what went wrong."""

    def __init__(self) -> None:
        self.lm = dspy.LM("oracle", engine=Oracle(), async_engine=AsyncOracle())
        self.wrong: list[str] = []
        self.asked = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=asyncio.run, args=(self._asks(n),)) for n in range(3)]
        self._threads.append(threading.Thread(target=asyncio.run, args=(self._tasks(),)))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)

    async def _tasks(self) -> None:
        await asyncio.gather(*(self._asks(seed, is_async=True) for seed in range(8)))

    async def _asks(self, seed: int, *, is_async: bool = False) -> None:
        dice = random.Random(seed)
        with dspy.context(disable_history=True):
            while not self._over.is_set():
                number, tenant = dice.randrange(QUESTIONS), dice.choice(TENANTS)
                try:
                    with scope(tenant=tenant):
                        question = f"number {number}"
                        outputs = await self.lm.acall(question) if is_async else self.lm(question)
                        if outputs != [answer(number)]:
                            self.wrong.append(f"{tenant} {number}: {outputs!r:.80}")
                except Exception as error:
                    self.wrong.append(repr(error))
                self.asked += 1


@pytest.fixture
def under_load(monkeypatch):
    """Give DSPy a cache on a server, with too little memory to do without Redis, and begin to ask."""
    loads: list[Load] = []

    def begin(server: Server) -> tuple[TieredCache, Load]:
        cache = TieredCache(10_000, redis_url=server.url, lag_s=0.05)
        monkeypatch.setitem(vars(dspy), "cache", cache)
        loads.append(Load().__enter__())
        until(lambda: cache.stats().hits.get("redis", 0) > 20, "Redis is used")
        return cache, loads[-1]

    yield begin
    for load in loads:
        load.__exit__()
        assert load.wrong == []
        assert load.asked > 100


def goes_on(load: Load, cache: TieredCache, error: str) -> None:
    """See that answers keep coming, and that the cache says what is wrong."""
    before = load.asked
    until(lambda: any(error in line for line in cache.stats().last_errors), f"the error {error!r} is told")
    until(lambda: load.asked > before + 30, "calls go on")


def recovers(load: Load, cache: TieredCache) -> None:
    """See that Redis is in use again, by itself."""
    before = cache.stats().hits.get("redis", 0)
    until(lambda: cache.stats().hits.get("redis", 0) > before + 20, "Redis is used again")
    until(lambda: cache.stats().last_errors == (), "no error is left")


def test_killed_and_restarted(own_redis, under_load):
    cache, load = under_load(own_redis)

    own_redis.kill()
    goes_on(load, cache, "cannot be reached")
    own_redis.start()

    recovers(load, cache)


def fill(client: redis.Redis) -> None:
    """Push until there is no room for anything."""
    for size_bytes in (65536, 4096, 64):
        with contextlib.suppress(redis.ResponseError):
            while True:
                client.rpush("other", b"x" * size_bytes)


def test_filled_to_its_limit(own_redis, under_load):
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", 4 * 1024 * 1024, "maxmemory-policy", "noeviction")
        cache, load = under_load(own_redis)
        fill(client)
        cache.shared.clear()  # so that there is something to put ...
        fill(client)  # ... and no room for it
        goes_on(load, cache, "refuses writes")
        client.delete("other")

    recovers(load, cache)


@pytest.mark.parametrize("how", ["paused", "stopped"])
def test_too_slow(own_redis, under_load, how):
    cache, load = under_load(own_redis)

    if how == "paused":
        with redis.Redis.from_url(own_redis.url) as client:
            client.execute_command("CLIENT", "PAUSE", 600, "ALL")
    else:
        os.kill(own_redis.pid, signal.SIGSTOP)
    goes_on(load, cache, "does not answer in time")
    if how == "stopped":
        os.kill(own_redis.pid, signal.SIGCONT)

    recovers(load, cache)
