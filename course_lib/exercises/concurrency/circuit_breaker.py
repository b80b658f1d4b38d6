"""Exercise 3.4, a circuit breaker: stop asking what fails, and find out with one call when it works again.

Main path: EXERCISE -> engine.registry; a check plays random calls, as tasks, on a breaker and a model of it.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import dspy

from course_lib import desk
from course_lib.exercises.concurrency.watched import Watched
from course_lib.exercises.engine.checks import CheckFailed, expect, expect_equal
from course_lib.exercises.engine.registry import Exercise
from course_lib.resilience import BreakerOpen

_REFUSED, _MADE = "BreakerOpen, and no call", "a call"
_ENDS: Any = LookupError, TimeoutError, ValueError, BreakerOpen, lambda: None, lambda: None
_End = BaseException | None
_CANCELLED = KeyboardInterrupt, SystemExit, asyncio.CancelledError


async def _call(breaker: Any, end: asyncio.Future[_End]) -> _End:
    """Make a call that is under way until `end` says how it ends; return the error that comes out."""
    try:
        with breaker:
            if (error := await end) is not None:
                raise error
    except BaseException as error:  # border: what comes out is judged
        return error
    return None


class _Play:
    """A breaker, the model of it, their clock, and the calls that are under way, each in its task."""

    def __init__(self, breaker: Any, hint: str) -> None:
        self.threshold, self.wait_s = random.choice((1, 1, 2, 2, 3, 4)), 10 ** random.uniform(1, 5)
        self.now_s, self.hint, self.steps = random.uniform(0, 1e4), hint, list[str]()
        self.breaker = breaker(threshold=self.threshold, wait_s=self.wait_s, clock=lambda: self.now_s)
        self.state, self.failures, self.until_s, self.numbers = "closed", 0, 0.0, iter(range(1, 1000))
        self.under_way = list[tuple[str, asyncio.Future[_End], asyncio.Task[_End]]]()

    async def step(self, *, hold: float = 0.0, waits: float = 0.0, cancels: float = 0.0) -> None:
        """Take a random step: a call that ends at once, one that is a `hold`, an end, a wait, a cancel."""
        kinds = {"call": 3.0, "hold": hold, "end": 1.3 * hold, "wait": waits, "cancel": cancels}
        (step,) = random.choices([*kinds], [*kinds.values()])
        if step in ("call", "hold", "cancel"):
            await self._begin()
        if step in ("call", "end", "cancel"):
            await self._end(random.choice(_CANCELLED if step == "cancel" else _ENDS))
        part = random.choice((0.3, 0.6, 0.97, 1.03))
        is_long_trial = self.state == "half-open" and self.now_s + part * self.wait_s >= self.until_s
        if step == "wait" and not is_long_trial:  # in a trial that takes wait_s, all may be right
            self.now_s += part * self.wait_s
            self.steps.append(f"wait {part} * wait_s")

    async def leave(self) -> None:
        """End all calls: none is left to the garbage collector, which would end it inside another."""
        for *_, task in self.under_way:
            task.cancel()
        await asyncio.gather(*(task for *_, task in self.under_way), return_exceptions=True)

    async def _begin(self) -> None:
        """Begin a call. Before a trial, calls from before the breaker opened end."""
        is_trial = self.state == "open" and self.now_s >= self.until_s
        while is_trial and self.under_way:
            await self._end(random.choice(_ENDS))
        wanted = _MADE if is_trial or self.state == "closed" else _REFUSED
        if is_trial:
            self.state, self.until_s = "half-open", self.now_s + self.wait_s
        name, end = f"call {next(self.numbers)}", asyncio.get_running_loop().create_future()
        self.steps.append(f"{name} comes")
        task = asyncio.create_task(_call(self.breaker, end))
        await asyncio.sleep(0)  # one turn of the loop: it is under way now, or has ended
        if not task.done():
            self.under_way.append((name, end, task))
        elif (error := task.result()) and not isinstance(error, BreakerOpen):
            raise error
        self._expect(_REFUSED if task.done() else _MADE, wanted)
        self.steps[-1] = f"{name} {'is refused' if task.done() else 'begins'}"

    async def _end(self, kind: Any) -> None:
        """End a call that is under way, if one is: with an error, cancelled, or answered."""
        if not self.under_way:
            return
        name, ends, task = self.under_way.pop(random.randrange(len(self.under_way)))
        wanted = f"raised its own {type(end).__name__}" if (end := kind()) else "was answered"
        if self.steps[-1] == f"{name} begins":
            self.steps.pop()
        self.steps.append(f"{name} {wanted}")
        self._record(end)
        ends.set_result(end)
        if (error := await task) and end is None:
            raise error
        got = f"raised another {type(error).__name__}: {error}" if error else "was answered"
        self._expect(wanted if error is end else got, wanted)

    def _record(self, end: BaseException | None) -> None:
        """Take down how a call ended; while the breaker is open, that changes nothing."""
        is_cancelled = isinstance(end, _CANCELLED)
        if self.state == "open" or (is_cancelled and self.state == "closed"):
            return
        self.failures = self.failures + 1 if end else 0
        is_trial, self.state = self.state == "half-open", "closed"
        if is_cancelled:
            self.state, self.until_s = "open", self.now_s
        elif end and (is_trial or self.failures >= self.threshold):
            self.state, self.failures, self.until_s = "open", 0, self.now_s + self.wait_s

    def _expect(self, got: str, wanted: str) -> None:
        after = f"with threshold={self.threshold}, wait_s={self.wait_s:.4g}: {', '.join(self.steps)}"
        expect(got == wanted, observed=got, expected=f"{wanted} at the end, {after}", hint=self.hint)


async def _play(breaker: Any, hint: str, plays: int, together: int = 1, **kinds: float) -> None:
    """Play so often, each time with so many breakers; of the plays that fail, tell the shortest."""
    failures = list[CheckFailed]()
    for number in range(plays):
        group = [_Play(breaker, hint) for _ in range(together)]
        try:
            for play in random.choices(group, k=number**2 // (10 * plays)):
                await play.step(**kinds)
        except CheckFailed as failed:
            failures.append(failed)
        finally:
            for play in group:
                await play.leave()
    if failures:
        raise min(failures, key=lambda failed: len(failed.expected))


async def opens(breaker: Any) -> None:
    """After `threshold` failures in a row, BreakerOpen and no call; errors come out as they are."""
    hint = "Count in __exit__, an answer sets the count to 0; ask in __enter__; __exit__ returns nothing."
    await _play(breaker, hint, 300)


async def tries_again(breaker: Any) -> None:
    """It stays open for wait_s seconds by clock(); then a trial closes it, or opens it anew."""
    hint = "A trial that fails opens it at once, for wait_s from now; an answered one sets the count to 0."
    await _play(breaker, hint, 400, waits=2)


async def makes_one_trial(breaker: Any) -> None:
    """Calls may overlap; while the trial is under way no other is made, and a late one changes nothing."""
    hint = "In half-open __enter__ lets one call through; while it is open, the end of a call is no news."
    await _play(breaker, hint, 600, waits=2, hold=3)


async def leaves_cancelled_out(breaker: Any) -> None:
    """A call that was cancelled is neither failure nor answer; if it was the trial, the next call is."""
    hint = "CancelledError and KeyboardInterrupt are no Exception. A trial without an end is repeated."
    await _play(breaker, hint, 600, waits=2, hold=1, cancels=3)


async def shares_nothing(breaker: Any) -> None:
    """Two breakers share nothing."""
    hint = "What stands in the class body belongs to all objects; __init__ makes each its own."
    await _play(breaker, hint, 600, together=2, waits=2, hold=2)


async def spares_the_model(breaker: Any) -> None:
    """It serves `program(...)` and `await program.acall(...)` alike: what the model's server sees tells."""
    now_s, triage, answers, model = [0.0], desk.Triage(), 0, Watched(first=["unavailable"] * 4)
    guard = breaker(threshold=3, wait_s=10.0, clock=lambda: now_s[0])
    for number in range(12):  # 3 fail, 3 refused; the trial fails, 2 refused; then all are answered
        now_s[0] += 10.5 if number in (6, 9) else 0.1
        with suppress(dspy.LMError, BreakerOpen), dspy.context(lm=model.lm), guard:
            ticket = f"Where is my parcel? ({random.random()})"
            await triage.acall(ticket=ticket) if number % 2 else triage(ticket=ticket)
            answers += 1
    hint = "3 fail, then it is open; 10 s later the trial fails; after 10 s more the trial is answered."
    what = "requests and answers of 12 calls, of which the first 4 that are made fail"
    expect_equal((len(model.calls()), answers), (7, 3), what, hint=hint)


EXERCISE = Exercise(
    title="A circuit breaker",
    minutes=12,
    difficulty="medium",
    hints=(
        "Write down the three states, and for each: may a call be made? what do an answer, an error and a "
        "cancelling do? That table is the program.",
        "__enter__: open and the wait over -> half-open, and go on; else open or half-open -> raise "
        "BreakerOpen. __exit__(kind, error, trace): nothing at all in open; `kind is None` is an answer.",
        "`issubclass(kind, Exception)` tells a failure from a cancelling; a cancelled trial: back to open, "
        "with the wait over (until_s = clock()).",
    ),
    checks=(opens, tries_again, makes_one_trial, leaves_cancelled_out, shares_nothing, spares_the_model),
    why="`with` has one body for sync and async, since nothing in it waits; the clock is an argument, so ten "
    "seconds take none. A name for each state makes the rare orders (a late answer, a cancelled trial) "
    "visible. The library's CircuitBreaker adds threads and a wait that doubles.",
)
