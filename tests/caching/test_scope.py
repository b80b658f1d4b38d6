"""A tenant is not lost on the way to the cache, and never left behind for somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import multiprocessing
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import dspy
import pytest
from dspy import streamify  # by its name, and before the library is there

from course_lib import lm
from course_lib.caching import SemanticCache, current_scope, scope
from course_lib.caching.batch import BatchProcessor, OtherBatchError
from course_lib.caching.keys import ScopeError, is_lost
from course_lib.caching.semantic import SemanticCacheError

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
        stream = streamify(program, **options)(question="Whose?")
    with scope(tenant="bolt"):
        values = asyncio.run(read(stream)) if options["async_streaming"] else list(stream)
        assert current_scope().tenant == "bolt"

    assert values[-1].answer
    assert (cache.invalidate(tenant="acme"), cache.invalidate(tenant="bolt")) == (1, 0)


def generator():
    with scope(tenant="acme"):
        yield


async def asynchronous():
    with scope(tenant="acme"):
        yield


@contextlib.contextmanager
def for_tenant(tenant):
    with scope(tenant=tenant):
        yield


class ForTenant:
    def __enter__(self):
        self.ends = contextlib.ExitStack()
        self.ends.enter_context(for_tenant("acme"))

    def __exit__(self, *_):
        self.ends.close()


def by_a_class():
    with ForTenant():
        yield


async def by_an_asynchronous_one():
    async with contextlib.asynccontextmanager(asynchronous)():
        yield


async def first_of(values: Any) -> None:
    async for _ in values:
        break


@pytest.mark.parametrize(
    "begin", [generator, asynchronous, by_a_class, by_an_asynchronous_one], ids=lambda begin: begin.__name__
)
def test_a_scope_in_a_generator_would_be_its_readers_and_is_refused(begin):
    with pytest.raises(ScopeError, match=f"generator {begin.__name__}"):
        asyncio.run(first_of(begin())) if inspect.isasyncgenfunction(begin) else next(begin())

    assert current_scope().tenant is None
    with ForTenant():  # in a function, it is meant to leave it to the block
        assert current_scope().tenant == "acme"


def test_scopes_that_end_in_another_order_than_they_began_are_refused():
    def end_in_another_order():
        first, second = scope(tenant="acme"), scope(tenant="bolt")
        first.__enter__()
        second.__enter__()
        with pytest.raises(ScopeError, match="end that one first"):
            first.__exit__(None, None, None)
        second.__exit__(None, None, None)
        assert (current_scope().tenant, is_lost()) == (None, True)

    contextvars.copy_context().run(end_in_another_order)


@pytest.mark.parametrize("function", [current_scope, first_of, generator], ids=lambda each: each.__name__)
def test_a_scope_is_no_decorator(function):
    with pytest.raises(ScopeError, match=f"no decorator of <function {function.__name__} "):
        scope(tenant="acme")(function)
    with pytest.raises(ScopeError, match="no decorator"):  # nor is a context manager around one
        for_tenant("acme")(current_scope)()


@pytest.mark.filterwarnings("ignore:this thread has no scope:RuntimeWarning")
def test_a_task_that_was_begun_elsewhere_is_not_cached_while_a_scope_is_open(cache):
    async def serve(questions: asyncio.Queue[Any]) -> None:
        while True:
            question, answered = await questions.get()
            answered.set_result((await program.acall(question=question)).answer)

    async def ask() -> None:
        questions: asyncio.Queue[Any] = asyncio.Queue()
        server = asyncio.create_task(serve(questions))
        for tenant in ("acme", "bolt"):
            with scope(tenant=tenant):
                answered = asyncio.get_running_loop().create_future()
                questions.put_nowait(("Whose?", answered))
                await answered
        server.cancel()

    asyncio.run(ask())

    assert lm.ledger().requests == 2


def tenant_of(text: str) -> str:
    return f"{text} of {current_scope().tenant}"


def test_a_journal_belongs_to_one_tenant(tmp_path):
    with scope(tenant="acme"):
        list(BatchProcessor(tenant_of, journal=tmp_path / "j").run(["parcel"]))
    with scope(tenant="bolt"), pytest.raises(OtherBatchError, match="tenant or customer"):
        list(BatchProcessor(tenant_of, journal=tmp_path / "j").run(["parcel"]))


def test_a_semantic_cache_does_not_guess_the_customer_of_a_thread():
    kept = SemanticCache(threshold=0.8)
    with scope(tenant="acme", customer="C-1"), ThreadPoolExecutor(1) as pool:
        put = pool.submit(kept.put, "Where is it?", "Here.", tenant="acme")
    assert isinstance(put.exception(), SemanticCacheError)


def asked_in_a_fork(question: str) -> tuple[str | None, int, int]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        program(question=question)
    return current_scope().tenant, len(dspy.cache.memory), len(caught)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_worker_does_not_keep_the_tenant_of_the_block_that_started_it(cache):
    lm.connect()
    with scope(tenant="acme"):
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
        first = pool.submit(asked_in_a_fork, "Whose?").result(60)
    with pool, scope(tenant="bolt"):
        second = pool.submit(asked_in_a_fork, "Whose?").result(60)

    assert [first, second] == [(None, 0, 1), (None, 0, 0)]


def ask_for_nobody() -> None:
    with scope():
        program(question="Nobody's?")


def test_a_thread_that_did_not_know_its_scope_is_told_once_and_cached_again_in_a_scope_of_its_own(cache):
    with ThreadPoolExecutor(1) as pool:
        with pytest.warns(RuntimeWarning, match="from now on") as warned, scope(tenant="acme"):
            pool.submit(program, question="First?").result()
        pool.submit(program, question="From a queue?").result()  # a second warning would be an error here
        assert len(cache.memory) == 0
        pool.submit(ask_for_nobody).result()

    assert (len(warned), len(cache.memory)) == (1, 1)
    assert "a thread without a scope" in str(cache.stats())


def test_a_thread_may_say_that_it_is_for_nobody_and_is_free_when_no_scope_is_open(cache):
    with scope(tenant="acme"):
        threading.Thread(target=ask_for_nobody).run()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(ask_for_nobody).result()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: program(question="Free?"), range(3)))

    assert len(cache.memory) == 3
