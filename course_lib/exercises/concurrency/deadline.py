"""Exercise 3.2, deadline and cancellation that free the slot: nothing goes on for which nobody waits.

Main path: EXERCISE -> engine.registry; what became of a request is read in the endpoint's ledger.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

from course_lib.exercises.concurrency.watched import Held, Watched, expect_end, expect_left, turns, until
from course_lib.exercises.engine.checks import expect, expect_equal
from course_lib.exercises.engine.registry import Exercise

_FREE_HINT = "`async with` frees the slot however its block ends: by a result, an error or a cancellation."


async def _expect_free(slots: Any, limit: int, what: str) -> None:
    """Fail the check unless so many calls, and no more, can be under way now."""
    held = Held()
    tasks = [asyncio.ensure_future(slots.run(held, None)) for _ in range(limit + 2)]
    await until(lambda: held.begun >= limit)
    await turns()
    expect_equal(held.begun, limit, f"calls that {limit + 2} callers have under way {what}", hint=_FREE_HINT)
    held.may_end.set()
    await asyncio.wait(tasks, timeout=5.0)


async def keeps_limit(slots_class: Any) -> None:
    """At most `limit` calls are under way, and as many as that; two objects share nothing."""
    for limit in (1, random.randint(9, 20)):
        first, second = slots_class(limit), slots_class(limit)
        await _expect_free(first, limit, f"with limit={limit}")
        full = [asyncio.ensure_future(first.run(Held(), None)) for _ in range(limit)]
        await _expect_free(second, limit, f"while another object is full, with {len(full)} calls")


async def hands_through(slots_class: Any) -> None:
    """`run` returns what the call returns, and raises the very error that it raises; that frees the slot."""
    slots = slots_class(1)

    async def ends(end: object) -> object:
        await asyncio.sleep(0)
        if isinstance(end, Exception):
            raise end
        return end

    for want in (None, 0, "answer", {"answer": random.random()}):
        got = await slots.run(lambda want=want: ends(want), 600.0)
        expect_equal(got, want, "what run returns", hint="`return await call()`")
    for error in (LookupError("503"), TimeoutError("the model's own")):
        ended, name = asyncio.ensure_future(slots.run(lambda error=error: ends(error), 600.0)), type(error)
        what = f"how run ended when its call raised {name.__name__}"
        await expect_end(ended, name.__name__, what, hint=_FREE_HINT)
        expect(ended.exception() is error, what, observed=f"{ended.exception()!r}", expected="the same error")


async def ends_in_time(slots_class: Any) -> None:
    """Past the deadline run raises TimeoutError, the model sees its client leave, and the slot is free."""
    hint = "To stop waiting is not enough: the call has to be cancelled. asyncio.timeout(...) does."
    limit = random.randint(1, 3)
    for deadline_s in (0.4, 1.5, 4.0):  # a busy machine may need longer to send them
        slots, model = slots_class(limit), Watched(hang_rate=1.0)
        for task in [asyncio.ensure_future(slots.run(model, deadline_s)) for _ in range(limit)]:
            await expect_end(task, "TimeoutError", "how run ended past its deadline", hint=hint)
        if len(model.calls()) + model.under_way() >= limit:
            break
    await expect_left(model, limit, "what the model saw of calls past their deadline", hint=hint)
    await _expect_free(slots, limit, "after all before it ran out of time")


async def counts_waiting(slots_class: Any) -> None:
    """The time counts from run(), the wait for a slot included; no call begins after it; None is no end."""
    hint = "The deadline goes around the slot, not into it: `async with asyncio.timeout(...), self.slots:`."
    slots, held, late = slots_class(1), Held(), Held()
    none_hint = "timeout(None) never ends; timeout(0) ends at once. What one run has set, it switches off."

    async def one_after_another() -> None:
        await slots.run(lambda: asyncio.sleep(0), 600.0)
        await slots.run(held, None)

    first = asyncio.ensure_future(one_after_another())
    for ahead_s in (0.0, 86_400.0):
        await turns(ahead_s=ahead_s)
        observed = f"it was ended {'after a day' if ahead_s else 'at once'}"
        what = "a call with deadline_s=None, after one with 600.0 in the same task"
        expect(not first.done(), what, observed=observed, expected="it goes on", hint=none_hint)
    for deadline_s in (0.1, 0):
        ended = asyncio.ensure_future(slots.run(late, deadline_s))
        what = f"how run ended that got no slot in its time, deadline_s={deadline_s}"
        await expect_end(ended, "TimeoutError", what, hint=hint)
    waited = asyncio.ensure_future(slots.run(Held(), 1.2))
    await asyncio.sleep(0.6)
    held.may_end.set()
    await asyncio.sleep(0.8)
    await turns()
    what, observed = "a call that got its slot after 0.6 s, deadline_s=1.2", "it goes on after 1.4 s"
    expect(waited.done(), what, observed=observed, expected="TimeoutError", hint=hint)
    await expect_end(first, "returned None", "how the call with deadline_s=None ended", hint=hint)
    await _expect_free(slots, 1, "after one ran out of time before it had a slot")
    expect_equal(late.begun, 0, "calls made past their deadline", hint=hint)


async def is_cancelled(slots_class: Any) -> None:
    """A caller that is cancelled cancels its call at the model, waiting or calling, and its slot is free."""
    hint = "CancelledError goes through, and what runs in a task of its own has to be cancelled too."
    model, slots = Watched(hang_rate=1.0), slots_class(2)
    tasks = [asyncio.ensure_future(slots.run(model, random.choice((None, 600)))) for _ in range(4)]
    await until(lambda: model.under_way() >= 2)
    for task in reversed(tasks):
        task.cancel()
    for task in tasks:
        await expect_end(task, "CancelledError", "how run ended whose caller was cancelled", hint=hint)
    await expect_left(model, 2, "what the model saw of 2 calls whose callers were cancelled", hint=hint)
    await _expect_free(slots, 2, "after all callers were cancelled")
    for count in range(6):
        slots, held = slots_class(1), Held()
        first, then = (asyncio.ensure_future(slots.run(held, deadline_s)) for deadline_s in (None, 600))
        await turns()
        first.cancel()
        for _ in range(count):
            await asyncio.sleep(0)
        first.cancel()
        then.cancel()
        await asyncio.wait([first, then], timeout=5.0)
        await _expect_free(slots, 1, "after two were cancelled, one of them twice, as it changed hands")


async def waits_for_end(slots_class: Any) -> None:
    """A slot is free only when its call has ended, also one that takes a moment to clean up."""
    hint = "Who cancels a task waits for it before the slot is given away."

    async def cleans_up() -> None:
        try:
            is_begun.set()
            await asyncio.Event().wait()
        finally:
            is_cleaning.set()
            while not may_end.is_set():  # anyio cancels again and again
                with suppress(asyncio.CancelledError):
                    await may_end.wait()

    for deadline_s, wanted in ((0.5, "TimeoutError"), (None, "CancelledError")):
        is_begun, is_cleaning, may_end, following = (*(asyncio.Event() for _ in range(3)), Held())
        slots = slots_class(1)
        first = asyncio.ensure_future(slots.run(cleans_up, deadline_s))
        await until(is_begun.is_set)
        then = asyncio.ensure_future(slots.run(following, None))
        if deadline_s is None:
            first.cancel()
        await until(is_cleaning.is_set)
        await turns(ahead_s=86_400.0)
        early = following.begun, first.done()
        may_end.set()
        following.may_end.set()
        what = f"calls begun while the one before still cleaned up after its {wanted}, limit=1"
        expect_equal(early, (0, False), f"{what}, and whether its run has ended", hint=hint)
        await expect_end(first, wanted, "how the one that cleans up ended", hint=hint)
        await expect_end(then, "returned None", "how the next one ended", hint=hint)


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
    checks=(keeps_limit, ends_in_time, hands_through, counts_waiting, is_cancelled, waits_for_end),
    deadline_s=15.0,
    why="Cancellation in asyncio is an exception that is raised where the task waits. What is awaited "
    "directly, under `async with`, needs nothing else: the request is closed, then the slot is given back.",
)
