"""Single-flight in one process: threads, tasks, several loops, and leaders who go wrong."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from course_lib.caching.bells import ThreadBell
from course_lib.caching.flight import Flights
from course_lib.caching.seats import Answer, Failure, Order

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Work:
    """A call that counts itself and waits for `open` (a thread) or takes `seconds` (a task)."""

    def __init__(self, *, seconds: float = 0.05) -> None:
        self.calls = 0
        self.seconds = seconds
        self.open = threading.Event()
        self.begun = threading.Event()

    def in_thread(self) -> int:
        self.calls += 1
        self.begun.set()
        assert self.open.wait(10)
        return self.calls

    async def in_task(self) -> int:
        self.calls += 1
        self.begun.set()
        await asyncio.sleep(self.seconds)
        return self.calls


def _until_waiting(flights: Flights, key: object, waiters: int) -> None:
    end_s = time.monotonic() + 10
    while len(flights._flights[key].waiting) < waiters:
        assert time.monotonic() < end_s
        time.sleep(0.001)


# The state machine, without any waiting.


def test_the_first_caller_leads_and_the_next_waits() -> None:
    flights = Flights()

    first, second = flights.board("k", ThreadBell()), flights.board("k", ThreadBell())

    assert (first.word, second.word) == (Order.LEAD, None)


def test_another_key_has_a_leader_of_its_own() -> None:
    flights = Flights()

    assert [flights.board(key, ThreadBell()).word for key in "ab"] == [Order.LEAD, Order.LEAD]


def test_landing_tells_all_and_leaves_nothing_behind() -> None:
    flights = Flights()
    first, *rest = [flights.board("k", ThreadBell()) for _ in range(4)]

    flights.land(first, Answer(7))

    assert [seat.word for seat in rest] == [Answer(7)] * 3
    assert len(flights) == 0
    assert flights.counts.followed == 3


def test_a_failure_is_told_to_all_and_the_key_is_free_again() -> None:
    flights = Flights()
    first, second = flights.board("k", ThreadBell()), flights.board("k", ThreadBell())

    flights.land(first, Failure(ValueError("no")))

    assert isinstance(second.word, Failure)
    assert flights.board("k", ThreadBell()).word is Order.LEAD


def test_the_longest_waiting_caller_inherits_the_lead() -> None:
    flights = Flights()
    first, second, third = [flights.board("k", ThreadBell()) for _ in range(3)]

    flights.hand_on(first)

    assert (second.word, third.word) == (Order.LEAD, None)
    flights.land(second, Answer(1))
    assert third.word == Answer(1)


def test_an_heir_who_leaves_before_leading_hands_on() -> None:
    flights = Flights()
    first, second, third = [flights.board("k", ThreadBell()) for _ in range(3)]
    flights.hand_on(first)

    flights.leave(second)

    assert third.word is Order.LEAD


def test_the_last_caller_to_leave_frees_the_key() -> None:
    flights = Flights()
    first, second = flights.board("k", ThreadBell()), flights.board("k", ThreadBell())
    flights.leave(second)

    flights.hand_on(first)

    assert len(flights) == 0


def test_one_waiter_overtakes_a_leader_who_hangs_and_the_others_wait_on() -> None:
    clock = Clock()
    flights = Flights(max_wait_s=60, takeover_s=30, clock=clock)
    _, second, third = [flights.board("k", ThreadBell()) for _ in range(3)]
    clock.now_s = 30

    assert flights.overdue(second) is Order.LEAD
    assert flights.overdue(third) is None
    assert flights.patience_s(third) == 30


def test_a_waiter_whose_time_is_up_calls_for_itself() -> None:
    clock = Clock()
    flights = Flights(max_wait_s=60, takeover_s=90, clock=clock)
    _, second = flights.board("k", ThreadBell()), flights.board("k", ThreadBell())
    clock.now_s = 60

    assert flights.overdue(second) is Order.ALONE
    assert flights.counts.alone == 1


def test_the_first_answer_serves_all_even_from_a_leader_who_was_overtaken() -> None:
    clock = Clock()
    flights = Flights(takeover_s=1, clock=clock)
    first, second, third = [flights.board("k", ThreadBell()) for _ in range(3)]
    clock.now_s = 1
    flights.overdue(second)

    flights.land(first, Answer("late"))
    flights.land(second, Answer("later"))

    assert third.word == Answer("late")


def test_the_error_of_a_leader_who_was_overtaken_reaches_nobody() -> None:
    clock = Clock()
    flights = Flights(takeover_s=1, clock=clock)
    first, second, third = [flights.board("k", ThreadBell()) for _ in range(3)]
    clock.now_s = 1
    flights.overdue(second)

    flights.land(first, Failure(ValueError("late")))
    flights.hand_on(first)

    assert third.word is None
    flights.land(second, Answer(2))
    assert third.word == Answer(2)


@pytest.mark.parametrize("seed", range(40))
def test_in_any_order_of_events_every_seat_is_told_and_no_key_stays(seed: int) -> None:
    dice, clock = random.Random(seed), Clock()
    flights = Flights(max_wait_s=20, takeover_s=5, clock=clock)
    seats = []
    for _ in range(200):
        clock.now_s += dice.random()
        step = dice.choice(["board", "board", "land", "fail", "hand_on", "leave", "overdue"])
        if step == "board":
            seats.append(flights.board(dice.choice("ab"), ThreadBell()))
            continue
        leading = [seat for seat in seats if seat.word is Order.LEAD]
        waiting = [seat for seat in seats if seat.word is None]
        if step in {"leave", "overdue"} and waiting:
            seat = dice.choice(waiting)
            if step == "leave":
                flights.leave(seat)
                seats.remove(seat)
            else:
                flights.overdue(seat)
        elif step not in {"leave", "overdue"} and leading:
            seat = dice.choice(leading)
            seats.remove(seat)
            if step == "hand_on":
                flights.hand_on(seat)
            else:
                flights.land(seat, Answer(1) if step == "land" else Failure(ValueError()))
        held = {flight.leader for flight in flights._flights.values()}
        assert all(seat.word is Order.LEAD for seat in held)
    while leading := [seat for seat in seats if seat.word is Order.LEAD]:
        for seat in leading:
            seats.remove(seat)
            flights.hand_on(seat)
    assert len(flights) == 0
    assert all(seat.word is not None for seat in seats)


# Threads.


def test_many_threads_make_one_call() -> None:
    flights, work = Flights(), Work()

    with ThreadPoolExecutor(64) as pool:
        answers = [pool.submit(flights.run_in_thread, "k", work.in_thread) for _ in range(64)]
        work.begun.wait(10)
        _until_waiting(flights, "k", 63)
        work.open.set()

    assert [answer.result() for answer in answers] == [1] * 64
    assert (work.calls, len(flights)) == (1, 0)


def test_each_follower_gets_the_error_as_a_copy_with_the_first_as_its_cause() -> None:
    flights, work = Flights(), Work()
    first = KeyError("gone")

    def fail() -> None:
        work.in_thread()
        raise first

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(flights.run_in_thread, "k", fail) for _ in range(4)]
        work.begun.wait(10)
        _until_waiting(flights, "k", 3)
        work.open.set()
    errors = [answer.exception() for answer in answers]

    assert [error for error in errors if error is first] == [first]
    copies = [error for error in errors if error is not first]
    assert all(type(error) is KeyError and error.__cause__ is first for error in copies)
    assert work.calls == 1


def test_after_a_failure_the_next_caller_calls_again() -> None:
    flights = Flights()
    with pytest.raises(ZeroDivisionError):
        flights.run_in_thread("k", lambda: 1 // 0)

    assert flights.run_in_thread("k", lambda: 5) == 5


def test_a_thread_waits_no_longer_than_it_was_told_to() -> None:
    flights, work = Flights(), Work()
    leader = threading.Thread(target=flights.run_in_thread, args=("k", work.in_thread))
    leader.start()
    work.begun.wait(10)

    assert flights.run_in_thread("k", lambda: "own", max_wait_s=0.02) == "own"

    work.open.set()
    leader.join()


def test_a_hanging_leader_is_overtaken_by_one_follower_only() -> None:
    flights, hung, second = Flights(max_wait_s=10, takeover_s=0.05), Work(), Work()
    leader = threading.Thread(target=flights.run_in_thread, args=("k", hung.in_thread))
    leader.start()
    hung.begun.wait(10)
    second.open.set()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: flights.run_in_thread("k", second.in_thread), range(8)))

    assert answers == [1] * 8
    assert second.calls == 1
    hung.open.set()
    leader.join()


def test_a_call_inside_a_leaders_call_does_not_wait_for_itself() -> None:
    flights = Flights()

    assert flights.run_in_thread("k", lambda: flights.run_in_thread("k", lambda: "inner")) == "inner"
    assert len(flights) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a fork beside threads is the point
def test_a_forked_child_waits_for_no_leader_of_its_parent() -> None:
    flights = Flights()
    flights.board("k", ThreadBell())

    child = os.fork()
    if child == 0:
        os._exit(0 if flights.run_in_thread("k", lambda: 3, max_wait_s=0.1) == 3 and len(flights) == 0 else 1)

    assert os.waitpid(child, 0)[1] == 0


# Tasks.


async def test_a_thousand_tasks_make_one_call_and_hold_no_thread() -> None:
    flights, calls, may_go_on = Flights(), [], asyncio.Event()

    async def call() -> str:
        calls.append(1)
        await may_go_on.wait()
        return "answer"

    tasks = [asyncio.create_task(flights.run_in_task("k", call)) for _ in range(1000)]
    await asyncio.sleep(0)

    others = await asyncio.gather(*(asyncio.to_thread(lambda: 1) for _ in range(50)))
    may_go_on.set()

    assert sum(others) == 50
    assert set(await asyncio.gather(*tasks)) == {"answer"}
    assert (len(calls), len(flights)) == (1, 0)


async def test_a_cancelled_leader_does_not_take_its_followers_with_it() -> None:
    flights, work = Flights(), Work(seconds=0.02)
    leader, *rest = [asyncio.create_task(flights.run_in_task("k", work.in_task)) for _ in range(5)]
    await asyncio.sleep(0.005)

    leader.cancel()

    assert await asyncio.gather(*rest) == [2] * 4
    assert (work.calls, len(flights), flights.counts.handed_on) == (2, 0, 1)


async def test_a_cancelled_follower_leaves_the_others_waiting() -> None:
    flights, work = Flights(), Work(seconds=0.02)
    tasks = [asyncio.create_task(flights.run_in_task("k", work.in_task)) for _ in range(4)]
    await asyncio.sleep(0.005)

    tasks[2].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(answer) for answer in answers] == [int, int, asyncio.CancelledError, int]
    assert work.calls == 1


async def test_when_all_are_cancelled_the_key_is_free() -> None:
    flights, work = Flights(), Work(seconds=5)
    tasks = [asyncio.create_task(flights.run_in_task("k", work.in_task)) for _ in range(5)]
    await asyncio.sleep(0)

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert len(flights) == 0


async def test_a_sync_call_on_the_loops_own_thread_does_not_wait_for_a_task_of_that_loop() -> None:
    flights, work = Flights(), Work()
    leader = asyncio.create_task(flights.run_in_task("k", work.in_task))
    await asyncio.sleep(0)

    assert flights.run_in_thread("k", lambda: "own") == "own"
    assert await leader == 1


async def test_distinct_keys_are_called_side_by_side() -> None:
    flights, all_there = Flights(), asyncio.Barrier(20)

    async def call() -> int:
        await all_there.wait()  # for ever, if they came one after the other
        return 1

    calls = (flights.run_in_task(key, call) for key in range(20))

    assert sum(await asyncio.wait_for(asyncio.gather(*calls), 10)) == 20


def test_threads_and_tasks_of_several_loops_meet() -> None:
    flights, work = Flights(), Work(seconds=0.2)

    async def crowd() -> list[int]:
        return await asyncio.gather(*(flights.run_in_task("k", work.in_task) for _ in range(30)))

    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(asyncio.run, crowd())
        work.begun.wait(10)
        loops = [pool.submit(asyncio.run, crowd()) for _ in range(2)]
        threads = [pool.submit(flights.run_in_thread, "k", work.in_thread) for _ in range(10)]
        answers = [answer for loop in (first, *loops) for answer in loop.result()]
        answers += [thread.result() for thread in threads]

    assert answers == [1] * 100
    assert work.calls == 1


def test_a_loop_that_ends_under_its_leader_lets_the_others_go_on() -> None:
    flights, work = Flights(), Work(seconds=30)

    async def give_up_soon() -> None:
        task = asyncio.create_task(flights.run_in_task("k", work.in_task))
        await asyncio.sleep(0.05)
        assert not task.done()  # asyncio.run cancels it

    with ThreadPoolExecutor(2) as pool:
        loop = pool.submit(asyncio.run, give_up_soon())
        work.begun.wait(10)

        assert flights.run_in_thread("k", lambda: "mine") == "mine"
        loop.result()


async def test_callers_in_the_thread_pool_do_not_keep_a_leading_task_from_its_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("course_lib.caching.flight.POOL_PATIENCE_S", 0.1)
    flights, calls = Flights(), []

    async def call() -> str:
        await asyncio.sleep(0.05)  # meanwhile the pool fills
        await asyncio.to_thread(calls.append, "task")
        return "task"

    def call_in_thread() -> str:
        calls.append("thread")
        return "thread"

    leader = asyncio.create_task(flights.run_in_task("k", call))
    await asyncio.sleep(0)
    size = min(32, (os.cpu_count() or 1) + 4)
    threads = [asyncio.to_thread(flights.run_in_thread, "k", call_in_thread) for _ in range(size)]
    answers = await asyncio.wait_for(asyncio.gather(leader, *threads), 10)

    assert set(answers) == {"task", "thread"}
    assert flights.counts.overtaken == 1
    assert sorted(calls) == ["task", "thread"]
