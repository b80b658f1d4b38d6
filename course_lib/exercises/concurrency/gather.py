"""Exercise 3.1, `gather` without melting the limit: many calls, some at a time, failures as values.

Main path: EXERCISE -> engine.registry; what matters is seen in the endpoint's ledger.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from course_lib.exercises.concurrency.watched import Watched, end_all, until
from course_lib.exercises.engine.checks import expect, expect_equal
from course_lib.exercises.engine.registry import Exercise


class _TooHeavy(Exception):  # noqa: N818
    """What a call raises that fails."""


async def keeps_limit(gather_within: Any) -> None:
    """The model never has more than `limit` of the calls at once, nor fewer while items are left."""
    hint = "Tasks that share one iterator each take the next item when they are done with theirs."
    for limit in (1, 4, 7):
        model, under_way = Watched("ex31-slow", ttft_p50_ms=40, ttft_p99_ms=41), Counter[str]()

        async def call(item: int, model: Watched = model, under_way: Counter[str] = under_way) -> None:
            under_way["now"] += 1
            under_way["most"] = max(under_way["most"], under_way["now"])
            try:
                await model(item)
            finally:
                under_way["now"] -= 1

        await gather_within(limit, call, range(3 * limit))
        most = max((each.at_once for each in model.calls()), default=0)
        what = f"most requests at once that the model saw, limit={limit}"
        expect(most <= limit, what, observed=most, expected=f"{limit}", hint=hint)
        expect_equal(under_way["most"], limit, f"most calls at once, limit={limit}", hint=hint)


async def goes_on(gather_within: Any) -> None:
    """A slow call holds up nobody: as soon as one ends, the next begins."""
    hint = "Groups of `limit` wait for their slowest. Let each slot go on by itself."
    for limit in (2, 5):
        ended, slow = 0, random.randrange(limit)
        release = asyncio.Event()

        async def call(number: int, slow: int = slow, release: asyncio.Event = release) -> None:
            nonlocal ended
            await (release.wait() if number == slow else asyncio.sleep(0))
            ended += 1

        task = asyncio.ensure_future(gather_within(limit, call, range(20)))
        is_done = await until(lambda: ended == 19)  # noqa: B023
        release.set()
        await asyncio.wait([task])
        await task
        what = f"calls that ended while call {slow} went on, of 20, limit={limit}"
        expect(is_done, what, observed=ended - 1, expected="19", hint=hint)


async def keeps_order(gather_within: Any) -> None:
    """What comes back is a list in the order of the items; each item is called once, equal ones too."""
    hint = "A place in the list belongs to each item, not to what it equals, nor to when it ended."
    for size in (0, 1, 23):
        items = [random.randrange(4) for _ in range(size)]
        called = Counter[int]()

        async def call(item: int, called: Counter[int] = called) -> tuple[int, str]:
            called[item] += 1
            for _ in range(random.randrange(5)):
                await asyncio.sleep(0)
            return item, "answer"

        got = await gather_within(3, call, list(items))
        expect_equal(got, [(item, "answer") for item in items], f"result for the items {items}", hint=hint)
        expect_equal(called, Counter(items), f"how often each item of {items} was called", hint=hint)


async def keeps_failures(gather_within: Any) -> None:
    """An Exception of a call stands in its place of the list; the other calls go on."""
    hint = "`except Exception as error` around the one call, and the error is its result."
    failing, before = set(random.sample(range(12), 6)), asyncio.all_tasks()
    errors = {number: _TooHeavy(number) for number in failing}

    async def call(number: int) -> int | None:
        await asyncio.sleep(0)
        if number in errors:
            raise errors[number]
        return None if number % 2 else number

    task = asyncio.ensure_future(gather_within(2, call, range(12)))
    is_done = await until(task.done)
    await end_all(before)
    expect(is_done, observed="it still waited", expected="a list; who fails frees a slot too", hint=hint)
    observed = task.exception() or task.result()
    wanted = [errors.get(number, None if number % 2 else number) for number in range(12)]
    expect_equal(observed, wanted, f"result when the calls {sorted(failing)} fail", hint=hint)


async def reads_late(gather_within: Any) -> None:
    """`items` is any iterable, also a generator; an item is read only when its call can begin."""
    hint = "A list of all items, or a task for each, reads them all. Read the next one when a slot is free."
    read, begun, most_ahead = 0, 0, 0

    def items() -> Iterator[int]:
        nonlocal read, most_ahead
        for number in range(60):
            read += 1
            most_ahead = max(most_ahead, read - begun)
            yield number

    async def call(_: int) -> None:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0)

    limit = random.randint(2, 4)
    got = await gather_within(limit, call, items())
    expect_equal(len(got), 60, "results of a generator of 60 items", hint=hint)
    what = f"most items that were read while their calls had not begun, limit={limit}"
    expect(most_ahead <= limit, what, observed=most_ahead, expected=f"{limit} or fewer", hint=hint)


async def is_cancelled(gather_within: Any) -> None:
    """Who is cancelled cancels the calls under way at the model, and begins no other."""
    hint = "asyncio.gather and TaskGroup cancel their tasks; a task that stands alone goes on, and costs."
    model, limit, before = Watched("ex31-never", hang_rate=1.0), random.randint(2, 4), asyncio.all_tasks()
    task = asyncio.ensure_future(gather_within(limit, model.__call__, range(20)))
    await until(lambda: model.under_way() >= limit or task.done())
    task.cancel()
    await until(task.done)
    is_gone = await until(lambda: not model.under_way())
    seen, ended = model.statuses(), task.done() and task.cancelled()
    await end_all(before)
    expect(ended, "how it ended", observed="it went on", expected="CancelledError", hint=hint)
    observed = f"statuses {seen}, and {'nothing' if is_gone else 'requests'} under way"
    wanted = f"{limit} requests that their client left (499), and nothing under way"
    is_clean = is_gone and seen == {499: limit}
    expect(is_clean, "what the model saw of a cancelled run", observed=observed, expected=wanted, hint=hint)


EXERCISE = Exercise(
    title="gather without melting the limit",
    minutes=8,
    difficulty="medium",
    hints=(
        "Start `limit` tasks (workers). Each takes the next item, calls, keeps the result, and goes on.",
        "`numbered = enumerate(items)` once, and `for number, item in numbered:` in every worker: they share "
        "it. Between two awaits nothing else runs, so no item is taken twice. results[number] = ...",
        "`async with asyncio.TaskGroup() as group:` starts the workers, waits for all, and cancels them with "
        "you. `except Exception as error: results[number] = error` leaves CancelledError alone.",
    ),
    checks=(keeps_limit, goes_on, keeps_order, keeps_failures, reads_late, is_cancelled),
    deadline_s=30.0,
    why="As many workers as slots: no semaphore, no task per item, so a million items cost no memory. The "
    "iterator they share is the queue. AsyncRunner adds deadlines, streams and context.",
)
