"""Redis killed, restarted and too slow, while threads ask.

In each case: no wrong answer, no error to any caller, and Redis in use again by itself.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable

import dspy
import pytest
from dspy.lm15 import Message, Request, Response, Usage

from course_lib.caching import TieredCache, keys, scope
from course_lib.services import Server
from tests.caching.conftest import until


def answer(number: int) -> str:
    """What is right for this question and the tenant of this scope."""
    return f"{keys.current_scope().tenant}: {number}. " + "word " * 60


class Oracle:
    """A model that answers at once."""

    def complete(self, request: Request) -> Response:
        text = answer(int(request.messages[-1].parts[0].text.split()[-1]))
        message, usage = Message.assistant(text), Usage(input_tokens=10, output_tokens=20)
        return Response(id="1", model=request.model, message=message, finish_reason="stop", usage=usage)


class Load:
    """Threads that ask again and again, and what went wrong."""

    def __init__(self) -> None:
        self.lm = dspy.LM("oracle", engine=Oracle())
        self.wrong: list[str] = []
        self.asked = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._asks) for _ in range(8)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _asks(self) -> None:
        while not self._over.is_set():
            number, tenant = random.randrange(60), random.choice(["acme", "bolt"])
            try:
                with scope(tenant=tenant), dspy.context(disable_history=True):
                    outputs = self.lm(f"number {number}")
                    if outputs != [answer(number)]:
                        self.wrong.append(f"{tenant} {number}: {outputs!r:.80}")
            except Exception as error:
                self.wrong.append(repr(error))
            self.asked += 1


FAULTS: dict[str, tuple[Callable[[Server], None], Callable[[Server], None]]] = {
    "cannot be reached": (Server.kill, Server.start),
    "does not answer in time": (
        lambda server: os.kill(server.pid, signal.SIGSTOP),
        lambda server: os.kill(server.pid, signal.SIGCONT),
    ),
}


@pytest.mark.parametrize("error", FAULTS)
def test_calls_go_on_without_redis_and_use_it_again_when_it_is_back(own_redis, give_dspy, error):
    # With too little memory to do without Redis.
    cache = give_dspy(TieredCache(10_000, redis_url=own_redis.url, lag_s=0.05))
    begin, end = FAULTS[error]

    def redis_is_used() -> None:
        before = cache.stats().hits.get("redis", 0)
        until(lambda: cache.stats().hits.get("redis", 0) > before + 20, "Redis is used")

    with Load() as load:
        redis_is_used()
        begin(own_redis)
        until(lambda: any(error in line for line in cache.stats().last_errors), "the error is told")
        before = load.asked
        until(lambda: load.asked > before + 30, "calls go on")
        end(own_redis)
        redis_is_used()
        until(lambda: cache.stats().last_errors == (), "no error is left")

    assert load.wrong == []
