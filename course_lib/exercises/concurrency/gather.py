"""Exercise 3.1, `gather` without melting the limit: many calls, some at a time, failures as values.

Main path: EXERCISE -> engine.registry; what matters is seen in the endpoint's ledger.
"""

from __future__ import annotations

import asyncio
import random
from operator import length_hint
from typing import Any

import dspy

from course_lib.exercises.concurrency.watched import Watched, expect_end, expect_left, turns, until
from course_lib.exercises.engine.checks import expect, expect_equal
from course_lib.exercises.engine.registry import Exercise

_ITEMS = None, 0, "", "tents", ("tents", 2)
_ERRORS = ValueError, TimeoutError, KeyError, ConnectionError, RuntimeError, dspy.LMRateLimitError


async def _expect_next(gather_within: Any, hint: str, error: Any = None) -> None:
    """Fail the check unless as a call ends so, the next item is read, and its call begins."""
    for limit in (2, 5, random.randint(10, 30)):
        ends, items = dict[int, asyncio.Future[Exception | None]](), iter(range(1, 3 * limit + 1))

        async def call(number: int, ends: dict[int, asyncio.Future[Exception | None]] = ends) -> None:
            ends[number] = asyncio.get_running_loop().create_future()
            if failure := await ends[number]:
                raise failure

        task = asyncio.ensure_future(gather_within(limit, call, items))
        await until(lambda ends=ends, limit=limit: len(ends) >= limit)  # type: ignore[misc]
        expect_equal(len(ends), limit, f"calls begun while none has ended, limit={limit}")
        slow = random.choice([*ends])
        for count in range(limit + 1, 3 * limit + 1):
            ended = random.choice([each for each in ends if each != slow and not ends[each].done()])
            ends[ended].set_result(error)
            for _ in range(50):
                await asyncio.sleep(0)
            seen, how = len(ends), f"call {ended} {'failed' if error else 'ended'}, and call {slow} went on"
            expect_equal(seen, count, f"calls begun as soon as {how}, limit={limit}", hint=hint)
            what, read = (
                f"items read when {count} calls had begun, limit={limit}",
                3 * limit - length_hint(items),
            )
            expect_equal(read, count, what, hint="No list of all items: read the next when a slot is free.")
        task.cancel()


async def keeps_limit(gather_within: Any) -> None:
    """The model never has more than `limit` of the calls at once, nor fewer while items are left."""
    hint = "Tasks that share one iterator each take the next item when they are done with theirs."
    for limit, runs in ((1, 1), (4, 1), (random.randint(12, 24), 1), (3, 2)):
        model, items = Watched(ttft_p50_ms=40, ttft_p99_ms=41), range(1, 3 * limit + 1)
        await asyncio.gather(*(gather_within(limit, model.__call__, items) for _ in range(runs)))
        what = f"most calls at once, limit={limit}{', in two runs beside each other' * (runs - 1)}"
        expect_equal(model.most, limit * runs, what, hint=hint)


async def goes_on(gather_within: Any) -> None:
    """A slow call holds up nobody: as soon as one ends, the next begins, and its item is read then."""
    hint = "Groups wait for their slowest; who looks now and then is late. Let each slot go on by itself."
    await _expect_next(gather_within, hint)


async def keeps_order(gather_within: Any) -> None:
    """What comes back is a list in the order of the items; each item is called once, equal ones too."""
    hint = "A place in the list belongs to each item, not to what it equals, nor to when it ended."
    for size, count in ((0, 1), (1, 1), (23, 1), (23, 2)):
        runs, called = [random.sample(_ITEMS * 5, k=size) for _ in range(count)], list[object]()

        async def call(item: object, called: list[object] = called) -> tuple[object, str]:
            called.append(item)
            for _ in range(random.randrange(5)):
                await asyncio.sleep(0)
            return item, "answer"

        got = await asyncio.gather(*(gather_within(3, call, list(items)) for items in runs))
        every = [item for items in runs for item in items]
        counts = {item: called.count(item) for item in every if called.count(item) != every.count(item)}
        what, observed = f"how often each item of {every} is called", f"called so often: {counts}"
        expect(not counts, what, observed=observed, expected="as often as it is there")
        for items, results in zip(runs, got, strict=True):
            what = f"result for the items {items}{', beside another run' * (count - 1)}"
            expect_equal(results, [(item, "answer") for item in items], what, hint=hint)


async def keeps_failures(gather_within: Any) -> None:
    """An Exception of a call stands in its place of the list; the other calls go on."""
    hint = "`except Exception as error` around the one call, and the error is its result."
    called = list[int]()
    errors = {number: kind("503") for number, kind in zip(random.sample(range(12), 6), _ERRORS, strict=True)}
    for error in errors.values():
        error.__cause__ = error.__context__ = LookupError("what it came from")
    wanted = [errors.get(number, None if number % 2 else number) for number in range(12)]

    async def call(number: int) -> int | None:
        called.append(number)
        await asyncio.sleep(0)
        if number in errors:
            raise errors[number]
        return None if number % 2 else number

    task = asyncio.ensure_future(gather_within(2, call, range(12)))
    what = f"result when the calls {sorted(errors)} fail"
    await expect_end(task, "returned", what, hint=f"{hint} Who fails frees its slot, too.")
    expect_equal(task.result(), wanted, what, hint=hint)
    expect_equal(sorted(called), [*range(12)], "calls made when some fail, each once")
    await _expect_next(gather_within, "Who fails frees its slot, too, and at once.", ValueError("503"))


async def is_cancelled(gather_within: Any) -> None:
    """Who is cancelled cancels the calls under way at the model, and begins no other."""
    hint = "asyncio.gather and TaskGroup cancel their tasks; a task that stands alone goes on, and costs."
    model, limit = Watched(hang_rate=1.0), random.randint(2, 4)
    task = asyncio.ensure_future(gather_within(limit, model.__call__, range(20)))
    await until(lambda: model.under_way() >= limit or task.done())
    task.cancel()
    await expect_end(task, "CancelledError", "how it ended when it was cancelled", hint=hint)
    await expect_left(model, limit, "what the model saw of a cancelled run", hint=hint)
    await until(lambda: not model.now)
    await turns()
    expect_equal(model.begun, limit, "calls begun, with those after the run was cancelled", hint=hint)


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
    checks=(keeps_limit, keeps_order, goes_on, keeps_failures, is_cancelled),
    deadline_s=30.0,
    why="As many workers as slots: no semaphore, no task per item, so a million items cost no memory. The "
    "iterator they share is the queue. AsyncRunner adds deadlines, streams and context.",
)
