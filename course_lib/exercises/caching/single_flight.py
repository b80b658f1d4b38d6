"""Exercise 2.4, single-flight: many tasks ask the same at once, and one of them calls the model.

Main path: EXERCISE -> engine.registry; the checks play a random `_Script` with each of many objects.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import pickle
import random
import weakref
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from inspect import CORO_CLOSED, getcoroutinestate
from typing import Any

from course_lib.exercises.engine.checks import CheckFailed, expect_equal, expect_nothing_kept, run, show
from course_lib.exercises.engine.registry import Exercise

_SCRIPTS, _STEPS = 30, 6
_ROUND_S, _QUIET_S = 0.02, 1.0  # so long may callers take to do what they should
_KEYS = (
    *((1, 1.0, True, Fraction(1)), (0, 0.0, False), ("1",), ("a parcel",), (("a", 1),), ("('a', 1)",)),
    *((-1,), (-2, Fraction(-2)), (2**61 - 1,), ("",), (None,), ((),), ("None",), (frozenset("ab"),)),
    *((number,) for number in range(2, 20)),
)
"""Keys that are equal stand together; hash(-1) == hash(-2), and hash(2**61 - 1) == hash(0)."""
_CALLS_HINT = "No await between looking a key up and writing it down; keys are alike when they are equal. "
_CALLS_HINT += "The end of its call takes a key out, and nothing else. And a lock makes all of them wait."
_CALLER_HINT = (
    "Who waits gets what the call ended with, itself. asyncio.shield(...) keeps the cancelling of one "
)
_CALLER_HINT += "from the call of all. Who swallows CancelledError keeps a caller that wants to go."
_ANSWERS: tuple[Any, ...] = (
    None,
    0,
    "",
    False,
    [],
    {},
    set(),
    {"an answer"},
    ValueError("as an answer"),
    "an answer",
)


class _ModelDown(Exception):  # noqa: N818
    """What the call of a model that is down raises, as one of Python's own errors too."""


_DOWN = [type("_ModelDown", (_ModelDown, base), {}) for base in (ValueError, KeyError, TimeoutError, OSError)]


class _Call:
    """The call of one caller: it ends when it may, with an answer or an error of its own."""

    def __init__(self, *, fails: bool) -> None:
        answer = pickle.loads(pickle.dumps(random.choice(_ANSWERS)))  # noqa: S301  our own
        self.end: Any = random.choice(_DOWN)("503") if fails and random.random() < 0.5 else answer
        self.may_end, self.is_over, self.made = asyncio.Event(), False, list[Any]()

    def __call__(self) -> Any:
        self.made.append(self._called())
        return self.made[-1]

    async def _called(self) -> Any:
        await self.may_end.wait()
        self.is_over = True
        if isinstance(self.end, _ModelDown):
            raise self.end
        return self.end

    def is_under_way(self) -> bool:
        return any(getcoroutinestate(each) != CORO_CLOSED for each in self.made)


@dataclass(eq=False)
class _Caller:
    """One who asks, perhaps as soon as it was told something (`again`), and what it is told."""

    name: int
    keys: tuple[Any, ...]
    call: _Call
    again: bool
    state: str = "still waits"
    got: Any = None
    is_new: bool = True
    is_cancelled: bool = False
    is_raised: bool = False
    task: Any = None

    def differs(self, ends: list[Any]) -> str:
        """Return what should have become of the caller, if something else did."""
        if self.state == "still waits" and self.task.done():
            self.state = "was cancelled" if self.task.cancelled() else f"raised {self.task.exception()!r}"
        if self.is_cancelled:
            wanted = "was cancelled"
        elif ends and not (self.is_new and (self.again or self.state == "still waits")):
            wanted = "was told"
        else:
            wanted = "still waits"
        if wanted != "was told":
            return "" if self.state == wanted else wanted
        is_error = isinstance(ends[0], _ModelDown)
        is_right = self.got is ends[0] or (is_error and repr(self.got) == repr(ends[0]))
        is_right = is_right and self.state == "was told" and self.is_raised == is_error
        return "" if is_right else f"{'had raised' if is_error else 'had returned'} {show(ends[0])}"


class _Script:
    """Callers of one SingleFlight: they come, are cancelled, and calls end, at random."""

    def __init__(self, flight: Any, *, fails: bool, cancels: bool) -> None:
        self.flight, self.fails, self.cancels, self.numbers = flight, fails, cancels, itertools.count(1)
        self.keys = random.sample(_KEYS, random.choice((1, 1, 1, 2, 2, len(_KEYS))))
        self.told, self.ended, self.is_last = list[tuple[Any, str]](), list[Any](), False
        self.callers, self.calls, self.refs = list[_Caller](), list[tuple[Any, _Call]](), list[Any]()

    async def play(self) -> CheckFailed | None:
        """Play the script, and return the first thing that was not as it should be."""
        failure = None
        for step in range(_STEPS):
            self.is_last = step == _STEPS - 1
            some = random.choices(self.keys, k=random.randint(1, 4))
            for keys in self.keys if self.is_last or not step else some:
                self._act(keys, is_first=not step)
                for _ in range(random.choice((0, 0, 1, 2, 3))):
                    await asyncio.sleep(0)
            for _ in range(round(_QUIET_S / _ROUND_S)):
                for _ in range(4):  # a clock that jumps ends one of them
                    await asyncio.sleep(_ROUND_S / 4)
                failure = next(filter(None, map(self._failure, self.keys)), None)
                if not failure:
                    break
            if failure:
                break
            self._forget()
        for _, call in self.calls:
            call.may_end.set()
        return failure

    def _act(self, keys: Any, *, is_first: bool) -> None:
        waiting = [each for each in self.callers if each.keys is keys and not each.is_cancelled]
        waiting = [each for each in waiting if each.state == "still waits"]
        act = "come" if is_first else "end" if self.is_last else random.choice(("come", "cancel", "end"))
        if act == "come":
            callers = [self._caller(keys) for _ in range(random.choice((1, 1, 1, 2, 2, 3, 3, 20)))]
            for caller in callers:
                caller.task = asyncio.ensure_future(self._ask(caller))
            self.told.append((keys, f"{len(callers)} come ({callers[0].name}...)"))
        elif act == "end" and keys not in self.ended:
            self.ended.append(keys)
            self.told.append((keys, "the call may end"))
            for its, call in self.calls:
                if its is keys and call.is_under_way():
                    call.may_end.set()
        elif act == "cancel" and waiting and self.cancels:
            leaving = waiting[: random.choice((1, 1, 2, len(waiting)))]
            if random.random() < 0.3:
                leaving = random.sample(waiting, random.randint(1, len(waiting)))
            for caller in leaving:
                caller.is_cancelled = caller.task.cancel()
            for caller in waiting:  # what ends now may end before they have found another call
                caller.is_new, caller.again = True, False
            self.told.append((keys, f"{', '.join(str(each.name) for each in leaving)} cancelled"))

    def _caller(self, keys: Any, *, again: bool = False) -> _Caller:
        caller = _Caller(next(self.numbers), keys, _Call(fails=self.fails), again)
        self.callers.append(caller)
        self.calls.append((keys, caller.call))
        ends = [caller.call.end] if isinstance(caller.call.end, (set, _ModelDown)) else []
        self.refs += map(weakref.ref, (caller.call, *ends))
        return caller

    async def _ask(self, caller: _Caller) -> None:
        key = pickle.loads(pickle.dumps(random.choice(caller.keys)))  # noqa: S301  our own
        try:
            caller.got = await self.flight.run(key, caller.call)
        except _ModelDown as error:
            caller.got, caller.is_raised = error, True
        caller.state = "was told"
        if not self.is_last and random.random() < 0.3:
            following = self._caller(caller.keys, again=not caller.is_new)
            following.task = caller.task
            self.told.append((caller.keys, f"{caller.name} asks again as {following.name}"))
            await self._ask(following)

    def _failure(self, keys: Any) -> CheckFailed | None:
        own = [caller for caller in self.callers if caller.keys is keys]
        calls = [call for its, call in self.calls if its is keys]
        ends = [call.end for call in calls if call.is_over]
        when = f"for key {keys[0]!r}: {'; '.join(told for its, told in self.told if its is keys)}"
        for caller in own:
            if wanted := caller.differs(ends):
                if caller.state.startswith("raised"):
                    caller.task.result()  # an error of the learner's own is shown with its line
                told = f"had {'raised' if caller.is_raised else 'returned'} {show(caller.got)}"
                seen = told if caller.state == "was told" else caller.state
                what = f"what caller {caller.name} gets {when}"
                return CheckFailed(what, observed=seen, expected=wanted, hint=_CALLER_HINT)
        under_way = sum(call.is_under_way() for call in calls)
        if under_way != 1 and (under_way or any(caller.state == "still waits" for caller in own)):
            return CheckFailed(f"calls under way {when}", observed=under_way, expected="1", hint=_CALLS_HINT)
        return None

    def _forget(self) -> None:
        """Go on with those who wait, and the calls that have not ended."""
        self.ended.clear()
        self.callers = [caller for caller in self.callers if caller.state == "still waits"]
        self.calls = [each for each in self.calls if not each[1].made or each[1].is_under_way()]
        for caller in self.callers:
            caller.is_new = False


async def _play(flights: list[Any], *, fails: bool = False, cancels: bool = False) -> list[Any]:
    """Play a script with each object, all at once; return weak references to what must not stay."""
    scripts = [_Script(flight, fails=fails, cancels=cancels) for flight in flights]
    playing = asyncio.gather(*(script.play() for script in scripts))
    loop = asyncio.get_running_loop()
    await asyncio.sleep(3 * _ROUND_S)
    loop.time = lambda before=loop.time: before() + 3600  # type: ignore[method-assign, misc]
    if failures := list(filter(None, await playing)):
        raise min(failures, key=lambda failure: len(failure.what))
    return [ref for script in scripts for ref in script.refs]


async def shares_a_call(single_flight: Any) -> None:
    """Of all who ask at once with an equal key one calls, and all get its answer; other keys do not wait."""
    await _play([single_flight() for _ in range(_SCRIPTS)])


async def passes_failures(single_flight: Any) -> None:
    """When the model fails, those who wait are told, and the next caller asks again."""
    await _play([single_flight() for _ in range(_SCRIPTS)], fails=True)


async def survives_cancelling(single_flight: Any) -> None:
    """A caller that is cancelled leaves at once and takes nobody with it, whether it came first or later."""
    await _play([single_flight() for _ in range(2 * _SCRIPTS)], fails=True, cancels=True)


def keeps_nothing(single_flight: Any) -> None:
    """Once the call has ended nothing is kept, of an answer or of a failure: it is no cache."""
    hint = "Keeping answers is the cache's work: take out all that was written down for a key, locks too."
    flights = [single_flight() for _ in range(20)]
    refs = [*run(_play(flights, fails=True)), *run(_play(flights, cancels=True))]
    gc.collect()
    kept = [ref() for ref in refs if ref() is not None]
    expect_equal(kept, [], "what is kept of calls that ended", hint=hint)

    async def ask_all(numbers: range) -> None:
        async def call() -> int:
            return 1 // (number % 3)

        for number in numbers:
            with suppress(ZeroDivisionError):
                await flights[0].run(f"parcel {number}", call)

    expect_nothing_kept(lambda numbers: run(ask_all(numbers)), "calls that ended or failed", hint=hint)


EXERCISE = Exercise(
    title="Single-flight",
    minutes=10,
    difficulty="hard",
    hints=(
        "Write down, per key, the call under way, before the first await. Who finds one there waits for it.",
        "asyncio.create_task(call()) makes no caller special; its add_done_callback(...) takes the key out.",
        "`return await asyncio.shield(task)`: a caller that is cancelled does not cancel the task of others.",
    ),
    checks=(shares_a_call, passes_failures, survives_cancelling, keeps_nothing),
    why="Nothing is awaited between looking and writing down, so in one event loop no lock is needed. The "
    "call's end, whatever it is, takes the key out. The library adds threads, several loops and processes.",
)
