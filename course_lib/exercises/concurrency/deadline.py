"""Exercise 3.2, deadline and cancellation that free the slot: nothing goes on for which nobody waits.

Main path: EXERCISE -> engine.registry; what became of a request is read in the endpoint's ledger.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

from course_lib.exercises.concurrency.watched import Watched, some_turns, until
from course_lib.exercises.engine.checks import expect, expect_equal
from course_lib.exercises.engine.registry import Exercise

_FREE_HINT = "`async with` frees the slot however its block ends: by a result, an error or a cancellation."


class _Refused(Exception):  # noqa: N818
    """What a call raises that fails."""


async def _end_of(task: asyncio.Future[Any]) -> str:
    """Return how a task ended, in words; one that goes on is left."""
    if not await until(task.done):
        task.cancel()
        return "still waits"
    if task.cancelled():
        return "CancelledError"
    return type(task.exception()).__name__ if task.exception() else f"returned {task.result()!r}"


async def _expect_free(slots: Any, limit: int, what: str) -> None:
    """Fail the check unless so many calls, and no more, can be under way now."""
    begun, may_end = 0, asyncio.Event()

    async def call() -> str:
        nonlocal begun
        begun += 1
        await may_end.wait()
        return "done"

    tasks = [asyncio.ensure_future(slots.run(call, None)) for _ in range(limit + 2)]
    await until(lambda: begun >= limit)
    await some_turns()
    seen = begun
    may_end.set()
    for task in tasks if seen else ():
        await _end_of(task)
    for task in tasks:
        task.cancel()
    expect_equal(seen, limit, f"calls that {limit + 2} callers have under way {what}", hint=_FREE_HINT)


async def _expect_left(model: Watched, count: int, what: str, hint: str) -> None:
    """Fail the check unless the model saw the client leave so many requests, and none goes on."""
    is_gone = await until(lambda: not model.under_way())
    seen = model.statuses()
    observed = f"statuses {seen}, and {'nothing' if is_gone else 'requests'} under way"
    wanted = f"statuses {{499: {count}}}, and nothing under way"
    expect(is_gone and seen == {499: count}, what, observed=observed, expected=wanted, hint=hint)


async def keeps_limit(slots_class: Any) -> None:
    """At most `limit` calls are under way, and as many as that; two objects share nothing."""
    for limit in (1, 3):
        first, second = slots_class(limit), slots_class(limit + 1)
        await _expect_free(first, limit, f"with limit={limit}")
        held = [asyncio.ensure_future(first.run(asyncio.Event().wait, None)) for _ in range(limit)]
        await _expect_free(second, limit + 1, "while another object is full")
        for task in held:
            task.cancel()
        await asyncio.wait(held)


async def hands_through(slots_class: Any) -> None:
    """`run` returns what the call returns, and raises the very error that it raises; that frees the slot."""
    slots, error = slots_class(1), _Refused("503")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise error

    for want in (None, 0, "answer", {"answer": 1}):

        async def returns(want: object = want) -> object:
            await asyncio.sleep(0)
            return want

        got = await slots.run(returns, 600.0)
        expect_equal(got, want, "what run returns", hint="`return await call()`")
    for _ in range(2):
        ended = asyncio.ensure_future(slots.run(fails, 600.0))
        seen = await _end_of(ended)
        expect_equal(seen, "_Refused", "how run ended when its call raised _Refused", hint=_FREE_HINT)
        expect(ended.exception() is error, "the very error", observed=ended.exception(), expected="the same")


async def ends_in_time(slots_class: Any) -> None:
    """Past the deadline run raises TimeoutError, the model sees its client leave, and the slot is free."""
    hint = "To stop waiting is not enough: the call has to be cancelled. asyncio.timeout(...) does."
    limit = random.randint(1, 3)
    slots = slots_class(limit)
    for deadline_s in (0.4, 1.5, 4.0):  # a busy machine may need longer to send them
        model = Watched("ex32-never", hang_rate=1.0)
        tasks = [asyncio.ensure_future(slots.run(model.__call__, deadline_s)) for _ in range(limit)]
        ends = [await _end_of(task) for task in tasks]
        expect_equal(ends, ["TimeoutError"] * limit, "how run ended past its deadline", hint=hint)
        if sum(model.statuses().values()) + model.under_way() >= limit:
            break
    await _expect_left(model, limit, "what the model saw of calls past their deadline", hint)
    await _expect_free(slots, limit, "after all before it ran out of time")


async def counts_waiting(slots_class: Any) -> None:
    """The time counts from run(), the wait for a slot included; no call begins after it; None is no end."""
    hint = "The deadline goes around the slot, not into it: `async with asyncio.timeout(...), self.slots:`."
    slots, calls, may_end = slots_class(1), list[str](), asyncio.Event()

    async def late() -> None:
        calls.append("late")

    first = asyncio.ensure_future(slots.run(may_end.wait, None))
    await some_turns()
    what, none_hint = (
        "a call with deadline_s=None",
        "asyncio.timeout(None) never ends; timeout(0) ends at once.",
    )
    expect(not first.done(), what, observed="it was ended", expected="it goes on", hint=none_hint)
    seen = await _end_of(asyncio.ensure_future(slots.run(late, 0.1)))
    expect_equal(seen, "TimeoutError", "how run ended that got no slot in its time", hint=hint)
    may_end.set()
    seen = await _end_of(first)
    expect_equal(seen, "returned True", "how the call with deadline_s=None ended", hint=hint)
    await _expect_free(slots, 1, "after one ran out of time before it had a slot")
    expect_equal(calls, [], "calls made past their deadline", hint=hint)


async def is_cancelled(slots_class: Any) -> None:
    """A caller that is cancelled cancels its call at the model, waiting or calling, and its slot is free."""
    hint = "CancelledError goes through, and what runs in a task of its own has to be cancelled too."
    model, slots = Watched("ex32-never", hang_rate=1.0), slots_class(2)
    tasks = [asyncio.ensure_future(slots.run(model.__call__, random.choice((None, 600)))) for _ in range(4)]
    await until(lambda: model.under_way() >= 2)
    for task in reversed(tasks):
        task.cancel()
    ends = [await _end_of(task) for task in tasks]
    expect_equal(ends, ["CancelledError"] * 4, "how run ended whose caller was cancelled", hint=hint)
    await _expect_left(model, 2, "what the model saw of 2 calls whose callers were cancelled", hint)
    await _expect_free(slots, 2, "after all callers were cancelled")


async def waits_for_end(slots_class: Any) -> None:
    """A slot is free only when its call has ended, also one that takes a moment to clean up."""
    hint = "Who cancels a task waits for it before the slot is given away."
    slots, may_end, is_cleaning, begun = slots_class(1), asyncio.Event(), asyncio.Event(), list[str]()

    async def cleans_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            is_cleaning.set()
            while not may_end.is_set():  # anyio cancels again and again
                with suppress(asyncio.CancelledError):
                    await may_end.wait()

    async def following() -> None:
        begun.append("the next call")

    first = asyncio.ensure_future(slots.run(cleans_up, 0.1))
    await asyncio.sleep(0.01)
    then = asyncio.ensure_future(slots.run(following, None))
    await until(is_cleaning.is_set)
    await some_turns()
    early = list(begun)
    may_end.set()
    expect_equal(early, [], "calls begun while the one before still cleaned up, limit=1", hint=hint)
    ends = [await _end_of(first), await _end_of(then)]
    expect_equal(ends, ["TimeoutError", "returned None"], "how the two ended", hint=hint)


EXERCISE = Exercise(
    title="Deadline and cancellation that free the slot",
    minutes=6,
    difficulty="medium",
    hints=(
        "A slot is `async with self.slots:` on an asyncio.Semaphore; a deadline is `async with "
        "asyncio.timeout(deadline_s):`, which takes None too. Which one goes around the other?",
        "The wait for a slot counts, so the deadline is outside. No task of your own: what you await "
        "directly is cancelled with you.",
        "`async with asyncio.timeout(deadline_s), self.slots: return await call()`",
    ),
    checks=(keeps_limit, hands_through, ends_in_time, counts_waiting, is_cancelled, waits_for_end),
    deadline_s=30.0,
    why="Cancellation in asyncio is an exception that is raised where the task waits. What is awaited "
    "directly, under `async with`, needs nothing else: the request is closed, then the slot is given back.",
)
