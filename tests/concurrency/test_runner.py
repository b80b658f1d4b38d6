"""Many calls with a limit: order, failures as values, deadlines, backpressure, and nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any

import dspy
import pytest

from course_lib import desk, lm
from course_lib.concurrency.runner import AsyncRunner, NotAsyncError
from course_lib.resilience import Deadline, DeadlineExceeded
from tests.concurrency.waiting import until, until_ledger

pytestmark = pytest.mark.anyio
FOREVER_S = 600
TICKETS = desk.examples("train")[:12]


@pytest.fixture
def model() -> dspy.LM:
    """A model that takes a moment, with an empty ledger."""
    lm.connect()
    lm.profile("moment", ttft_p50_ms=60, ttft_p99_ms=61)
    lm.profile("never", hang_rate=1.0)
    lm.reset()
    return lm.connect("sim-large@moment", cache=False)


async def until_under_way(requests: int) -> None:
    await until_ledger(lambda ledger: ledger.under_way == requests)


async def until_cancelled_upstream(requests: int) -> None:
    """Wait until the endpoint has seen this many clients leave, and nothing else goes on."""
    await until_ledger(lambda ledger: ledger.statuses.get(499, 0) == requests and not ledger.under_way)


def tasks() -> list[Any]:
    """Return the tasks of runners."""
    return [task for task in asyncio.all_tasks() if "_Run." in repr(task.get_coro())]


async def read(stream: Any, into: list[Any]) -> None:
    """Keep the values that come before an error."""
    async for outcome in stream:
        into.append(outcome.value)  # noqa: PERF401


async def double(number: int) -> int:
    await asyncio.sleep(0.001 * (number % 3))
    return 2 * number


async def forever(_item: Any = None) -> None:
    await asyncio.sleep(FOREVER_S)


async def test_outcomes_come_in_order_and_a_failure_is_a_value():
    async def reciprocal(number: int) -> float:
        await asyncio.sleep(0.001 * (5 - number))
        return 1 / number

    outcomes = await AsyncRunner(3).run(reciprocal, range(5))

    assert [(outcome.index, outcome.item) for outcome in outcomes] == [(n, n) for n in range(5)]
    assert [outcome.value for outcome in outcomes] == [None, 1, 1 / 2, 1 / 3, 1 / 4]
    assert [outcome.ok for outcome in outcomes] == [False, True, True, True, True]
    assert isinstance(outcomes[0].error, ZeroDivisionError)
    assert all(outcome.took_s > 0 for outcome in outcomes)


async def test_the_model_sees_the_limit_reached_and_never_passed(model):
    with dspy.context(lm=model):
        outcomes = await AsyncRunner(4).run(desk.Triage(), TICKETS)

    assert all(outcome.value.category for outcome in outcomes)
    assert lm.ledger().most_at_once == 4


async def test_as_they_come_a_slow_item_holds_up_nobody():
    release = asyncio.Event()

    async def work(number: int) -> None:
        await (release.wait() if number == 0 else asyncio.sleep(0))

    seen = []
    async for outcome in AsyncRunner(2).stream(work, range(50), in_order=False):
        seen.append(outcome.index)
        if len(seen) == 49:
            release.set()

    assert seen[-1] == 0
    assert sorted(seen) == list(range(50))


async def test_a_slow_first_item_holds_up_no_run():
    release, ended = asyncio.Event(), []

    async def work(number: int) -> int:
        await (release.wait() if number == 0 else asyncio.sleep(0))
        ended.append(number)
        return number

    running = asyncio.create_task(AsyncRunner(2).run(work, range(50)))
    await until(lambda: len(ended) == 49)
    release.set()

    assert [outcome.value for outcome in await running] == list(range(50))


async def numbers() -> AsyncIterator[int]:
    for number in itertools.count():
        await asyncio.sleep(0)
        yield number


@pytest.mark.parametrize("in_order", [True, False], ids=["in order", "as they come"])
@pytest.mark.parametrize("endless", [itertools.count, numbers], ids=["iterable", "async iterable"])
async def test_a_slow_reader_slows_down_endless_items(endless, in_order):
    begun, taken = [], 0

    async def note(number: int) -> int:
        begun.append(number)
        return number

    async with aclosing(AsyncRunner(3).stream(note, endless(), in_order=in_order)) as outcomes:
        async for outcome in outcomes:
            taken += 1
            assert outcome.value == outcome.index
            for _ in range(20):
                await asyncio.sleep(0)
            assert tasks()
            assert len(begun) - taken <= 4 * 3
            if taken == 40:
                break

    assert tasks() == []


async def test_past_its_deadline_a_call_is_cancelled_at_the_model_and_its_slot_is_free(model):
    hanging = lm.connect("sim-large@never", cache=False)
    seen_s = []

    async def ask(number: int) -> Any:
        deadline = Deadline.current()
        seen_s.append(deadline and deadline.remaining_s())
        return await (hanging if number < 2 else model).acall(f"Question {number}?")

    outcomes = await AsyncRunner(2, item_deadline_s=0.7).run(ask, range(4))

    assert [type(outcome.error) for outcome in outcomes[:2]] == [DeadlineExceeded] * 2
    assert [outcome.ok for outcome in outcomes[2:]] == [True, True]
    assert all(0 < left_s <= 0.7 for left_s in seen_s)
    await until_cancelled_upstream(2)
    assert lm.ledger().statuses == {200: 2, 499: 2}


async def test_a_cancellation_of_the_calls_own_is_its_error():
    async def call(number: int) -> int:
        if number == 3:
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone
        return number

    outcomes = await AsyncRunner(2, progress=False).run(call, range(8))

    assert [outcome.ok for outcome in outcomes] == [number != 3 for number in range(8)]
    assert "cancelled from inside" in str(outcomes[3].error)


async def test_a_timeout_of_the_calls_own_is_its_error():
    async def times_out(_: int) -> None:
        raise TimeoutError("of the call")

    (outcome,) = await AsyncRunner(1, item_deadline_s=FOREVER_S).run(times_out, [1])

    assert repr(outcome.error) == "TimeoutError('of the call')"


async def test_past_the_deadline_for_all_every_item_has_an_outcome():
    calls = []

    async def work(seconds: float) -> float:
        calls.append(seconds)
        await asyncio.sleep(seconds)
        return seconds

    outcomes = await AsyncRunner(2, deadline_s=0.2).run(work, [0.0, 600.0, 600.0, 0.0, 0.0])

    assert [outcome.ok for outcome in outcomes] == [True, False, False, False, False]
    assert all(isinstance(outcome.error, DeadlineExceeded) for outcome in outcomes[1:])
    assert calls == [0.0, 600.0, 600.0]


async def test_past_the_deadline_for_all_a_stream_ends_with_an_error_after_its_outcomes():
    async def ends_late() -> AsyncIterator[int]:
        yield 0
        await asyncio.sleep(FOREVER_S)

    seen: list[int] = []
    with pytest.raises(DeadlineExceeded):
        await read(AsyncRunner(4, deadline_s=0.1).stream(double, ends_late()), seen)

    assert seen == [0]
    assert len(await AsyncRunner(4, deadline_s=0.1).run(double, ends_late())) == 1


async def test_an_earlier_deadline_around_the_runner_holds_too():
    with Deadline.after(0.05).applied():
        outcomes = await AsyncRunner(1, item_deadline_s=FOREVER_S).run(forever, [1, 2])

    assert [type(outcome.error) for outcome in outcomes] == [DeadlineExceeded] * 2


async def leave(stream: Any) -> None:
    async for _ in stream:
        break


async def cancel(stream: Any) -> None:
    reading = asyncio.create_task(read(stream, []))
    await until_under_way(4)
    reading.cancel()
    await asyncio.wait([reading])
    assert reading.cancelled()


async def time_out(stream: Any) -> None:
    async def read_one_in_time() -> None:
        async with asyncio.timeout(None) as timeout:
            async for _ in stream:
                timeout.reschedule(asyncio.get_running_loop().time())

    with pytest.raises(TimeoutError):
        await read_one_in_time()


@pytest.mark.parametrize("end", [leave, cancel, time_out])
async def test_however_a_stream_ends_early_its_calls_are_cancelled_at_the_model(model, end):
    hanging = lm.connect("sim-large@never", cache=False)

    async def ask(number: int) -> Any:
        if number == 0:
            return await until_under_way(4)
        return await hanging.acall(f"Question {number}?")

    await end(AsyncRunner(5).stream(ask, range(5)))

    await until_cancelled_upstream(4)
    await until(lambda: not tasks())


def test_a_loop_that_ends_just_after_a_stream_was_left_says_nothing(left_tasks):
    complaints = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

        def breaks() -> Iterator[int]:
            yield 0
            raise OSError("no more")

        await leave(AsyncRunner(3).stream(double, breaks()))
        async for _ in AsyncRunner(3).stream(double, itertools.count()):
            return

    asyncio.run(main(), debug=True)
    assert complaints == []
    left_tasks.clear()  # the stream's, which the loop has ended


async def test_the_context_is_that_of_the_place_where_the_stream_was_made(model):
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")

    async def who(_: int) -> tuple[str, Any]:
        seen = tenant.get()
        tenant.set("changed by a call")
        await asyncio.sleep(0)
        return seen, dspy.settings.lm

    token = tenant.set("acme")
    with dspy.context(lm=model):
        stream = AsyncRunner(2).stream(who, range(4))
    tenant.reset(token)

    assert [outcome.value async for outcome in stream] == [("acme", model)] * 4
    assert tenant.get() == "nobody"


async def test_items_are_handed_over_by_name_by_place_or_as_they_are():
    async def takes(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    example = dspy.Example(ticket="a", label="b").with_inputs("ticket")
    items = [{"a": 1}, (1, 2), [1, 2], example, dspy.Example(ticket="a")]
    outcomes = await AsyncRunner(1).run(takes, items)

    assert [outcome.value for outcome in outcomes[:4]] == [
        ((), {"a": 1}),
        ((1, 2), {}),
        (([1, 2],), {}),
        ((), {"ticket": "a"}),
    ]
    assert not outcomes[4].ok, "DSPy does not know the inputs of such an example"


async def test_a_plain_function_is_refused_before_it_is_called_and_asyncify_helps():
    class OnlySync(dspy.Module):
        def forward(self, number: int) -> int:
            return 2 * number

    for plain in (OnlySync(), lambda number: number):
        with pytest.raises(NotAsyncError, match="asyncify"):
            AsyncRunner(2).stream(plain, [1])
        with pytest.raises(NotAsyncError, match="asyncify"):
            await AsyncRunner(2).run(plain, [1])

    outcomes = await AsyncRunner(2).run(dspy.asyncify(OnlySync()), [1, 2])
    assert [outcome.value for outcome in outcomes] == [2, 4]


async def test_the_items_before_an_error_of_the_iterable_come_out_first():
    def two_numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    seen: list[int] = []
    with pytest.raises(OSError, match="the disk is gone"):
        await read(AsyncRunner(4).stream(double, two_numbers()), seen)

    assert seen == [2, 4]
    assert tasks() == []


@pytest.mark.parametrize("in_order", [True, False], ids=["in order", "as they come"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_is_never_a_value(left_tasks, error, in_order):
    async def main() -> None:
        async def ends(number: int) -> None:
            await asyncio.sleep(0)
            if number == 1:
                raise error
            await forever()

        async for outcome in AsyncRunner(2).stream(ends, [1, 2], in_order=in_order):
            pytest.fail(f"came out as {outcome}")

    with pytest.raises(error):
        asyncio.run(main())
    left_tasks.clear()


async def test_a_bar_shows_how_many_are_done_and_failed_and_leaves_no_thread(capsys):
    before = set(threading.enumerate())

    async def work(number: int) -> float:
        return 1 / number

    await AsyncRunner(2, progress=True).run(work, [0, 1, 2])
    assert "3/3" in (shown := capsys.readouterr().err)
    assert "1 failed" in shown

    await AsyncRunner(2).run(work, [1])
    assert capsys.readouterr().err == ""
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": 1, "item_deadline_s": 0}], ids=str)
def test_options_that_cannot_work_are_refused(options):
    with pytest.raises(ValueError, match="greater than 0"):
        AsyncRunner(**options)
