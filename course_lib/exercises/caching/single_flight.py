"""Exercise 2.4, single-flight: many tasks ask the same at once, and one of them calls the model.

Main path: EXERCISE -> engine.registry; the checks hand a learner's SingleFlight calls that wait to be let go.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from fractions import Fraction
from typing import Any

from course_lib.exercises.engine.checks import expect_equal, expect_nothing_kept, run
from course_lib.exercises.engine.registry import Exercise

_ROUND_S = 0.05
_QUIET_S = 1.0  # so long may callers wait when no call does: nothing is left that could wake them


class _ModelDown(Exception):  # noqa: N818
    """What the call of a model that is down raises."""


class _Call:
    """The call of a model: it ends when it may, and counts how often it was made."""

    def __init__(self, answer: object = "the answer") -> None:
        self._answer, self.may_end = answer, asyncio.Event()
        self.made = self.under_way = self.at_once = 0

    async def __call__(self) -> object:
        self.made += 1
        self.under_way += 1
        self.at_once = max(self.at_once, self.under_way)
        try:
            await self.may_end.wait()
        finally:
            self.under_way -= 1
        if isinstance(self._answer, _ModelDown):
            raise self._answer
        return self._answer


async def _ask(flight: Any, call: _Call, *keys: object) -> list[Any]:
    """Let a caller come for each key, and all of them begin."""
    callers = [asyncio.ensure_future(flight.run(key, call)) for key in keys]
    await asyncio.sleep(_ROUND_S)
    return callers


async def _told(callers: list[Any], *calls: _Call) -> dict[str, int]:
    """Let the calls end; return what the callers are told, and how many of them."""
    for call in calls:
        call.may_end.set()
    await asyncio.wait(callers, timeout=_QUIET_S)
    return dict(Counter(map(_outcome, callers)))


def _outcome(caller: asyncio.Future[Any]) -> str:
    """Return what a caller was told. An error of the learner's own is raised, and shown with its line."""
    if not caller.done():
        caller.cancel()
        return "still waits"
    if caller.cancelled():
        return "cancelled"
    if isinstance(caller.exception(), _ModelDown):
        return "raised the model's error"
    return f"returned {caller.result()!r}"


async def shares_a_call(single_flight: Any) -> None:
    """32 tasks that ask the same at once cost one call, and get its answer."""
    equal_keys, loop = [1, 1.0, True, Fraction(1)] * 8, asyncio.get_running_loop()
    for answer in ("the answer", None, object(), ValueError("as an answer")):
        call = _Call(answer)
        callers = await _ask(single_flight(), call, *equal_keys)
        loop.time = lambda before=loop.time: before() + 3600  # type: ignore[method-assign, misc]
        await asyncio.sleep(_ROUND_S)
        told = await _told(callers, call)
        hint = "No await between looking a key up and writing it down. Keys are alike when they are equal, "
        hint += "and nothing but the call's end ends the waiting: who waits returns what the first one got."
        expect_equal(call.made, 1, "calls for 32 equal keys (1, 1.0, ...) at once", hint=hint)
        expect_equal(told, {f"returned {answer!r}": 32}, "what the 32 callers are told", hint=hint)


async def keeps_apart(single_flight: Any) -> None:
    """Different keys are asked side by side, as are two objects, and each caller gets its own answer."""
    one, keys = single_flight(), (1, "1", -1, -2, ("1",), "('1',)")  # hash(-1) == hash(-2)
    asked = [*((one, key) for key in keys), (single_flight(), keys[0])]
    calls = [_Call(number) for number in range(len(asked))]
    pairs = zip(asked, calls, strict=True)
    callers = [caller for (flight, key), call in pairs for caller in await _ask(flight, call, key)]
    under_way = sum(call.under_way for call in calls)
    hint = "A lock held during the call makes everybody wait; what stands in the class body is shared by all."
    what = f"calls under way at once for the keys {keys}, and of another object for the key 1"
    expect_equal(under_way, len(asked), what, hint=hint)
    own = {f"returned {number}": 1 for number in range(len(asked))}
    expect_equal(await _told(callers, *calls), own, "what the callers of different calls are told", hint=hint)


async def shares_the_next(single_flight: Any) -> None:
    """Callers that ask again as soon as a call has ended share the next one, with whoever joins them."""
    flight, call, following = single_flight(), _Call(), _Call("the next answer")

    async def ask_twice() -> object:
        await flight.run("parcel", call)
        return await flight.run("parcel", following)

    callers = [asyncio.ensure_future(ask_twice()) for _ in range(3)]
    await asyncio.sleep(_ROUND_S)
    call.may_end.set()
    await asyncio.sleep(_ROUND_S)
    told = await _told(callers + await _ask(flight, following, "parcel"), following)
    hint = "A call that has ended takes its own key out, once. Is it still its own when a waiter does it?"
    expect_equal(following.made, 1, "calls for three callers who ask again, and a new one", hint=hint)
    expect_equal(told, {"returned 'the next answer'": 4}, "what those four are told", hint=hint)


async def passes_failures(single_flight: Any) -> None:
    """When the model fails, those who wait are told, and the next caller asks again."""
    flight, broken, well = single_flight(), _Call(_ModelDown("503")), _Call()
    told = await _told(await _ask(flight, broken, *["parcel"] * 5), broken)
    hint = "However the call ends, take the key out, and raise its error itself for those who wait."
    expect_equal(told, {"raised the model's error": 5}, "what five callers are told of a failure", hint=hint)
    expect_equal(broken.made, 1, "calls for five callers, when the call fails", hint=hint)
    later = await _told(await _ask(flight, well, "parcel"), well)
    expect_equal(later, {"returned 'the answer'": 1}, "what a caller after the failure is told", hint=hint)


async def survives_cancelling(single_flight: Any) -> None:
    """A caller that is cancelled leaves at once and takes nobody with it, whether it came first or later."""
    for leaver, who in enumerate(("first", "second", "third")):
        flight, call = single_flight(), _Call()
        callers = await _ask(flight, call, *["parcel"] * 4)
        gone = callers.pop(leaver)
        gone.cancel()
        await asyncio.wait([gone], timeout=_QUIET_S)
        when = f"when the {who} of four callers is cancelled"
        hint = "Who swallows CancelledError keeps a caller that wants to go."
        expect_equal(_outcome(gone), "cancelled", f"{when}, what it is told during the call", hint=hint)
        told = await _told(callers + await _ask(flight, call, "parcel"), call)
        hint = "A caller that is cancelled cancels what it awaits: asyncio.shield(...) stands between. "
        hint += "The key leaves with the call. And CancelledError is no Exception."
        expect_equal(told, {"returned 'the answer'": 4}, f"{when}, what the others are told", hint=hint)
        calls = f"{when}, a new one joins the call under way: calls at once, and more than one again"
        expect_equal((call.at_once, call.made > 2), (1, False), calls, hint=hint)


def keeps_nothing(single_flight: Any) -> None:
    """Once the call has ended nothing is kept, of an answer or of a failure: it is no cache."""
    flight = single_flight()

    async def asked(number: int) -> int:
        """Ask, fail and ask again; return how many calls that were."""
        calls = [_Call("x" * 900 + str(number)), _Call(_ModelDown(str(number))), _Call()]
        for call in calls:
            await _told([asyncio.ensure_future(flight.run(f"parcel {number}", call))], call)
        return sum(call.made for call in calls)

    async def all_asked(numbers: range) -> int:
        return sum(await asyncio.gather(*map(asked, numbers)))

    async def ended(answer: Any) -> weakref.ref[Any]:
        call = _Call(answer)
        await _told([asyncio.ensure_future(flight.run("parcel", call))], call)
        return weakref.ref(answer)

    hint = "Keeping answers is the cache's work: take out all that was written down for a key, locks too."
    expect_equal(run(all_asked(range(20))), 60, "calls for 20 questions, each asked three times", hint=hint)
    expect_nothing_kept(lambda numbers: run(all_asked(numbers)), "calls that ended or failed", hint=hint)
    for what, make in (("answer", set), ("error", _ModelDown)):
        kept = run(ended(make()))
        gc.collect()
        expect_equal(kept(), None, f"what is kept of the last {what}", hint=hint)


EXERCISE = Exercise(
    title="Single-flight",
    minutes=10,
    difficulty="hard",
    hints=(
        "Write down, per key, the call under way, before the first await. Who finds one there waits for it.",
        "asyncio.create_task(call()) makes no caller special; its add_done_callback(...) takes the key out.",
        "`return await asyncio.shield(task)`: a caller that is cancelled does not cancel the task of others.",
    ),
    checks=(shares_a_call, keeps_apart, passes_failures, survives_cancelling, keeps_nothing, shares_the_next),
    why="Nothing is awaited between looking and writing down, so in one event loop no lock is needed. The "
    "call's end, whatever it is, takes the key out. The library adds threads, several loops and processes.",
)
