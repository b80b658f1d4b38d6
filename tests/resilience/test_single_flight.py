"""Single-flight in one process: threads, tasks, several loops, and leaders that go wrong."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from course_lib.resilience import SingleFlight
from tests.caching.conftest import until, waiters
from tests.resilience.conftest import ended_well, fork

pytestmark = pytest.mark.anyio


class Work:
    """A call that counts itself, and waits in its thread or its task until it may end."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls, self.error = 0, error
        self.begun, self.may_end = threading.Event(), threading.Event()

    def in_thread(self) -> int:
        self.calls += 1
        self.begun.set()
        assert self.may_end.wait(20)
        if self.error:
            raise self.error
        return self.calls

    async def in_task(self) -> int:
        self.calls += 1
        call = self.calls
        self.begun.set()
        while not self.may_end.is_set():  # noqa: ASYNC110  (it is set by threads)
            await asyncio.sleep(0.001)
        return call


@contextmanager
def under_way(flight: SingleFlight, work: Work) -> Iterator[tuple[ThreadPoolExecutor, Future[Any]]]:
    """A pool, in which the work is under way."""
    with ThreadPoolExecutor(8) as pool:
        leader = pool.submit(flight.run, "k", work.in_thread)
        assert work.begun.wait(20)
        yield pool, leader


class OddError(Exception):
    """An error that cannot be copied."""

    def __reduce__(self):
        raise TypeError


@pytest.mark.parametrize(
    ("first", "apart"),
    [(KeyError("gone"), 4), (TimeoutError("the provider's"), 4), (OddError("odd"), 4)],
    ids=repr,
)
def test_each_waiter_gets_an_error_of_its_own_with_the_first_as_its_cause(first: Exception, apart: int):
    flight, work = SingleFlight(), Work(first)
    with under_way(flight, work) as (pool, leader):
        callers = [leader, *(pool.submit(flight.run, "k", work.in_thread) for _ in range(3))]
        until(lambda: waiters(flight) == 3)
        work.may_end.set()
    errors = [caller.exception() for caller in callers]

    assert len({id(error) for error in errors}) == apart
    assert all(error is first or error.__cause__ is first for error in errors)
    assert {(type(error), str(error)) for error in errors} == {(type(first), str(first))}
    assert work.calls == 1
    assert flight.run("k", lambda: "the next caller calls again") == ("the next caller calls again", False)


def test_nobody_else_sees_what_the_leader_was_handling():
    flight, work = SingleFlight(), Work(KeyError("gone"))

    def lead() -> None:
        try:
            raise LookupError("a tenant's own")
        except LookupError:
            flight.run("k", work.in_thread)

    with ThreadPoolExecutor(2) as pool:
        pool.submit(lead)
        assert work.begun.wait(20)
        waiter = pool.submit(flight.run, "k", work.in_thread)
        until(lambda: waiters(flight) == 1)
        work.may_end.set()

    assert "tenant" not in "".join(traceback.format_exception(waiter.exception()))


def test_a_forked_child_waits_for_no_call_of_the_parent():
    flight, work = SingleFlight(), Work()
    with under_way(flight, work):
        with flight._lock:
            pid = fork(lambda: flight.run("k", lambda: "own") == ("own", False))
        well = ended_well(pid)
        work.may_end.set()

    assert well


@pytest.mark.parametrize("error", [KeyboardInterrupt(), None], ids=["interrupted", "takes long"])
def test_a_leader_that_is_interrupted_or_takes_long_is_followed_by_one_of_those_who_wait(error: Any):
    flight, hung, second = SingleFlight(max_wait_s=20 if error else 1), Work(error), Work()
    with under_way(flight, hung) as (pool, leader):
        rest = [pool.submit(flight.run, "k", second.in_thread) for _ in range(5)]
        if error:
            until(lambda: waiters(flight) == 5)
            hung.may_end.set()
            until(lambda: second.calls == 1 and waiters(flight) == 4)
        assert second.begun.wait(20)
        second.may_end.set()
        assert [each.result()[0] for each in rest] == [1] * 5
        hung.may_end.set()

    assert leader.exception() is error
    assert (second.calls, len(flight)) == (1, 0)


@pytest.mark.parametrize("ends_first", ["old", "new"])
def test_the_first_answer_serves_all_and_the_error_of_a_leader_that_was_replaced_nobody(ends_first: str):
    old, new = Work(ValueError("late") if ends_first == "new" else None), Work()
    flight = SingleFlight(max_wait_s=0.02)
    with under_way(flight, old) as (pool, leader):
        second = pool.submit(flight.run, "k", new.in_thread)
        new.begun.wait(20)
        flight.max_wait_s = 20
        third = pool.submit(flight.run, "k", lambda: "never called")
        until(lambda: waiters(flight) == 1)
        old.may_end.set()
        until(leader.done)
        new.may_end.set()

    assert third.result() == (1, True)
    assert second.result() == (1, False)


def test_a_call_inside_a_leaders_call_does_not_wait_for_itself():
    flight = SingleFlight()

    assert flight.run("k", lambda: flight.run("k", lambda: "inner")) == (("inner", False), False)
    assert len(flight) == 0


async def test_a_thousand_tasks_make_one_call_and_hold_no_thread():
    flight, work = SingleFlight(), Work()

    tasks = [asyncio.create_task(flight.run_async("k", work.in_task)) for _ in range(1000)]
    await asyncio.to_thread(work.begun.wait, 20)
    others = await asyncio.gather(*(asyncio.to_thread(lambda: 1) for _ in range(50)))
    work.may_end.set()

    assert sum(others) == 50
    assert {value for value, _ in await asyncio.gather(*tasks)} == {1}
    assert (work.calls, len(flight)) == (1, 0)


@pytest.mark.parametrize(("leaver", "calls"), [(0, 2), (2, 1)], ids=["the leader", "a waiter"])
async def test_who_is_cancelled_takes_nobody_along(leaver: int, calls: int):
    flight, work = SingleFlight(), Work()
    tasks = [asyncio.create_task(flight.run_async("k", work.in_task)) for _ in range(5)]
    await asyncio.to_thread(until, lambda: work.calls == 1 and waiters(flight) == 4)

    tasks.pop(leaver).cancel()
    await asyncio.to_thread(until, lambda: work.calls == calls)
    work.may_end.set()

    assert {value for value, _ in await asyncio.gather(*tasks)} == {calls}
    assert (work.calls, len(flight)) == (calls, 0)


async def test_a_sync_call_on_the_loops_own_thread_does_not_wait_for_a_task_of_that_loop():
    flight, work = SingleFlight(), Work()
    leader = asyncio.create_task(flight.run_async("k", work.in_task))
    await asyncio.sleep(0)

    assert flight.run("k", lambda: "own") == ("own", False)
    work.may_end.set()
    assert await leader == (1, False)


def test_threads_and_tasks_of_several_loops_make_one_call_and_are_told_whose_answer_they_have():
    flight, work = SingleFlight(), Work()

    async def crowd() -> list[Any]:
        return await asyncio.gather(*(flight.run_async("k", work.in_task) for _ in range(30)))

    with ThreadPoolExecutor(14) as pool:
        loops = [pool.submit(asyncio.run, crowd()) for _ in range(3)]
        work.begun.wait(20)
        threads = [pool.submit(flight.run, "k", work.in_thread) for _ in range(10)]
        until(lambda: waiters(flight) == 99)
        work.may_end.set()
        answers = [answer for loop in loops for answer in loop.result()] + [each.result() for each in threads]

    assert sorted(answers) == [(1, False), *[(1, True)] * 99]
    assert work.calls == 1
