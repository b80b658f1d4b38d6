"""A tenant is not lost on the way to the cache, and never left behind for somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest

from course_lib import lm
from course_lib.caching import current_scope, scope
from course_lib.caching.keys import ScopeError

program = dspy.Predict("question -> answer")


@pytest.fixture(params=[False, True], ids=["plain", "fronted"])
def cache(request, cache):
    model = lm.connect("sim-large")
    lm.reset()
    former = dspy.settings.lm
    dspy.configure(lm=cache.front(model) if request.param else model)  # in every thread
    yield cache
    dspy.configure(lm=former)


@pytest.mark.parametrize("reads", ["a sync program", "an async program", "without a loop"])
def test_a_stream_is_asked_for_by_the_tenant_for_whom_it_was_made(cache, reads):
    options = {"is_async_program": reads == "an async program", "async_streaming": reads != "without a loop"}

    async def read(stream: Any) -> list[Any]:
        values = [value async for value in stream]
        assert current_scope().tenant == "bolt"
        return values

    with scope(tenant="acme"):
        stream = dspy.streamify(program, **options)(question="Whose?")
    with scope(tenant="bolt"):
        values = asyncio.run(read(stream)) if options["async_streaming"] else list(stream)
        assert current_scope().tenant == "bolt"

    assert values[-1].answer
    assert (cache.invalidate(tenant="acme"), cache.invalidate(tenant="bolt")) == (1, 0)


def generator():
    with scope(tenant="acme"):
        yield


def generator_with_a_stack():
    with contextlib.ExitStack() as stack:
        stack.enter_context(scope(tenant="acme"))
        yield


async def asynchronous():
    with scope(tenant="acme"):
        yield


async def first_of(values: Any) -> None:
    async for _ in values:
        break


@pytest.mark.parametrize("begin", [generator, generator_with_a_stack, asynchronous])
def test_a_scope_in_a_generator_would_be_its_readers_and_is_refused(begin):
    with pytest.raises(ScopeError, match=f"generator {begin.__name__}"):
        asyncio.run(first_of(begin())) if begin is asynchronous else next(begin())

    assert current_scope().tenant is None
    with contextlib.contextmanager(generator)():  # which is meant to leave it to the block
        assert current_scope().tenant == "acme"


def test_threads_that_do_not_know_their_scope_share_nothing_and_say_so(cache):
    for tenant in ("acme", "bolt"):
        with (
            pytest.warns(RuntimeWarning, match="this thread has no scope"),
            ThreadPoolExecutor(1) as pool,
            scope(tenant=tenant),
        ):
            pool.submit(program, question="Whose?").result()

    assert (lm.ledger().requests, len(cache.memory)) == (2, 0)
    assert "a thread without a scope" in str(cache.stats())


def test_a_thread_may_say_that_it_is_for_nobody_and_is_free_when_no_scope_is_open(cache):
    def ask() -> None:
        with scope():
            program(question="Nobody's?")

    with scope(tenant="acme"):
        threading.Thread(target=ask).run()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(ask).result()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: program(question="Free?"), range(3)))

    assert len(cache.memory) == 3
