"""Exercise 2.4, single-flight: many tasks ask the same at once, and one of them calls the model.

Main path: EXERCISE -> engine.registry; the checks play a random `_Script` with each of many objects.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import random
import weakref
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, cast

from course_lib.exercises.caching.batch import alike
from course_lib.exercises.engine.checks import CheckFailed, expect_equal, expect_nothing_kept, run, show
from course_lib.exercises.engine.registry import Exercise

_ACTS, _CROWDS = (("come", "cancel", "end"), ("cancel",)), ((1, 1, 1, 2, 2, 3, 3, 20), (20,))
_STEPS, _TURNS, _ROUND_S, _QUIET_S = 6, 30, 0.02, 1.0  # so long may callers take to do what they should
_KEYS = (
    *((1, 1.0, True, 1 + 0j), (0, 0.0, False), ("1",), ("a parcel",), (("a", 1),), ("('a', 1)",)),
    *((-1,), (-2, -2.0), (2**61 - 1,), ("",), (None,), ((),), ("None",), (frozenset("ab"),)),
    *((key,) for key in (*range(2, 20), *alike(f"{random.choice('bcdé')} parcel"))),
)
"""Keys that are equal stand together; hash(-1) == hash(-2), and hash(2**61 - 1) == hash(0)."""
_CALLS_HINT = "No await between looking up and writing down, no lock; its call's end alone takes a key out."
_CALLER_HINT = "All get what the call ended with; asyncio.shield(...) saves it from one who goes, and may go."
_PARTS = dict.fromkeys(("send", "throw", "close", "_asyncio_future_blocking"), 0)
_Later = type("_Later", (Coroutine,), {**_PARTS, "__module__": __name__, "__await__": lambda _: iter(())})
_ANSWERS: Any = (None, 0, "", False, [], {}, set(), {"answer"}, ValueError("503"), "answer", _Later())


class _ModelDown(Exception):  # noqa: N818
    """What the call of a model that is down raises, as one of Python's own errors too."""


_DOWN = [type("_ModelDown", (_ModelDown, base), {}) for base in (ValueError, KeyError, TimeoutError, OSError)]


class _Caller:
    """One who asks, perhaps as soon as it was told something (`again`); it is its own call, too."""

    def __init__(self, name: int, keys: tuple[Any, ...], *, again: bool, fails: bool) -> None:
        self.name, self.keys, self.again = name, keys, again
        answer = pickle.loads(pickle.dumps(random.choice(_ANSWERS)))  # noqa: S301  our own
        self.end: Any = random.choice(_DOWN)("503") if fails and random.random() < 0.5 else answer
        self.may_end, self.is_over, self.made = asyncio.Event(), False, list[Any]()
        self.is_new, self.is_cancelled, self.is_gone = True, False, False
        self.state, self.got, self.task = "still waits", object(), cast(Any, None)

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
        return any(each.cr_frame for each in self.made)

    def differs(self, ends: list[Any]) -> str:
        """Return what should have become of the caller, if something else did."""
        if self.state == "still waits" and self.task.done():
            self.state = "was cancelled" if self.task.cancelled() else f"raised {self.task.exception()!r}"
        if len(self.made) > 1:
            self.state = f"had its call run {len(self.made)} times"
        wanted, is_right = "was cancelled" if self.is_cancelled else "still waits", True
        if ends and not self.is_cancelled and not (self.is_new and (self.again or self.state == wanted)):
            is_error = isinstance(ends[0], _ModelDown)
            wanted = f"had {'raised' if is_error else 'returned'} {show(ends[0])}"
            is_right = is_error or self.got is ends[0]
        return "" if self.is_gone or (is_right and self.state == wanted) else wanted


class _Script:
    """Callers of one SingleFlight: they come, are cancelled, and calls end, at random."""

    def __init__(self, flight: Any, *, fails: bool, cancels: bool) -> None:
        self.flight, self.fails, self.cancels, self.numbers = flight, fails, cancels, iter(range(1, 10**9))
        self.in_a_row = cancels and random.random() < 0.3  # of many, whoever calls is cancelled, and the next
        self.keys = random.sample(_KEYS, random.choice((1, 1, 1, 2, 2, len(_KEYS))))[: self.in_a_row or None]
        self.told, self.ended, self.is_last = list[tuple[Any, str]](), list[Any](), False
        self.callers, self.refs = list[_Caller](), list[Any]()

    async def play(self) -> CheckFailed | None:
        """Play the script, and return the first thing that was not as it should be."""
        failure = None
        for step in range(_STEPS):
            self.is_last = step == _STEPS - 1
            some = random.choices(self.keys, k=random.randint(1, 4))
            for keys in self.keys if self.is_last or not step else some:
                self._act(keys, is_first=not step)
                for _ in range(random.choice((0, 0, 1, 2, 9))):
                    await asyncio.sleep(0)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            for caller in self.callers:
                if caller.is_cancelled and caller.state == "still waits" and not caller.task.done():
                    caller.state = f"still waited after {_TURNS} turns of the loop"
            for _ in range(round(_QUIET_S / _ROUND_S)):
                for _ in range(4):  # a clock that jumps ends one of them
                    await asyncio.sleep(_ROUND_S / 4)
                failure = next(filter(None, map(self._failure, self.keys)), None)
                if not failure:
                    break
            if failure:
                break
            self._forget()
        for caller in self.callers:
            caller.may_end.set()
        return failure

    def _act(self, keys: Any, *, is_first: bool) -> None:
        own = [caller for caller in self.callers if caller.keys is keys]
        waiting = [each for each in own if each.state == "still waits" and not each.is_cancelled]
        act = "come" if is_first else "end" if self.is_last else random.choice(_ACTS[self.in_a_row])
        if act == "come":
            callers = [self._caller(keys) for _ in range(random.choice(_CROWDS[self.in_a_row]))]
            for caller in callers:
                caller.task = asyncio.ensure_future(self._ask(caller))
            self.told.append((keys, f"{len(callers)} come ({callers[0].name}...)"))
        elif act == "end" and keys not in self.ended:
            self.ended.append(keys)
            self.told.append((keys, "the call may end"))
            for caller in filter(_Caller.is_under_way, own):
                caller.may_end.set()
        elif act == "cancel" and waiting and self.cancels:
            order = random.choice((waiting, waiting, random.sample(waiting, len(waiting))))
            calling = [each for each in waiting if self.in_a_row and each.is_under_way()]
            leaving = calling or order[: random.choice((1, 1, 2, len(waiting)))]
            for caller in leaving:
                caller.is_cancelled = caller.task.cancel()
            for caller in waiting:  # what ends now may end before they have found another call
                caller.is_new, caller.again = True, False
            self.told.append((keys, f"{', '.join(str(each.name) for each in leaving)} cancelled"))

    def _caller(self, keys: Any, *, again: bool = False) -> _Caller:
        caller = _Caller(next(self.numbers), keys, again=again, fails=self.fails)
        self.callers.append(caller)
        ends = [caller.end] if isinstance(caller.end, (set, _ModelDown)) else []
        self.refs += map(weakref.ref, (caller, *ends))
        return caller

    async def _ask(self, caller: _Caller) -> None:
        key = pickle.loads(pickle.dumps(random.choice(caller.keys)))  # noqa: S301  our own
        try:
            caller.got = await self.flight.run(key, caller)
            caller.state = f"had returned {show(caller.got)}"
        except _ModelDown as error:
            caller.state = f"had raised {show(error)}"
        if not self.is_last and random.random() < 0.3:
            following = self._caller(caller.keys, again=not caller.is_new)
            following.task = caller.task
            self.told.append((caller.keys, f"{caller.name} asks again as {following.name}"))
            await self._ask(following)

    def _failure(self, keys: Any) -> CheckFailed | None:
        own = [caller for caller in self.callers if caller.keys is keys]
        ends = [caller.end for caller in own if caller.is_over]
        when = f"for key {keys[0]!r:.60}: {'; '.join(told for its, told in self.told if its is keys)}"
        for caller in own:
            if wanted := caller.differs(ends):
                if caller.state.startswith("raised"):
                    caller.task.result()  # an error of the learner's own is shown with its line
                what = f"what caller {caller.name} gets {when}"
                return CheckFailed(what, observed=caller.state, expected=wanted, hint=_CALLER_HINT)
        under_way = sum(caller.is_under_way() for caller in own)
        if under_way != 1 and (under_way or any(caller.state == "still waits" for caller in own)):
            return CheckFailed(f"calls under way {when}", observed=under_way, expected="1", hint=_CALLS_HINT)
        return None

    def _forget(self) -> None:
        """Go on with those who wait, and the calls that have not ended."""
        self.ended.clear()
        for caller in self.callers:
            caller.is_new, caller.is_gone = False, caller.state != "still waits"
        self.callers = [it for it in self.callers if not it.is_gone or not it.made or it.is_under_way()]


async def _play(flights: list[Any], *, fails: bool = True, cancels: bool = False) -> list[Any]:
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
    """Of all who ask at once with an equal key one calls, all get what it ends with; no other key waits."""
    await _play([single_flight() for _ in range(40)])


async def survives_cancelling(single_flight: Any) -> None:
    """A caller that is cancelled leaves at once and takes nobody with it, whether it came first or later."""
    await _play([single_flight() for _ in range(60)], cancels=True)


def keeps_nothing(single_flight: Any) -> None:
    """Once the call has ended nothing is kept, of an answer or of a failure: it is no cache."""
    hint = "Keeping answers is the cache's work: take out all that was written down for a key, locks too."
    flights = [single_flight() for _ in range(20)]
    refs = [*run(_play(flights)), *run(_play(flights, cancels=True, fails=False))]

    async def ask_once_more(flight: Any) -> Any:
        answer = {"an answer that nobody else holds"}
        await flight.run("the last one", lambda: asyncio.sleep(0, answer))
        return weakref.ref(answer)

    refs += [run(ask_once_more(flight)) for flight in flights]
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
    checks=(shares_a_call, survives_cancelling, keeps_nothing),
    why="Nothing is awaited between looking and writing down, so in one event loop no lock is needed. The "
    "call's end, whatever it is, takes the key out. The library adds threads, several loops and processes.",
)
