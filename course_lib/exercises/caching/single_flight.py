"""Exercise 2.4, single-flight: many tasks ask the same at once, and one of them calls the model.

Main path: EXERCISE -> engine.registry; the checks hand a learner's SingleFlight calls of a real model.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Sequence
from itertools import count
from typing import Any

from course_lib import lm
from course_lib.exercises.engine.checks import expect, expect_equal, run
from course_lib.exercises.engine.registry import Exercise, stub_methods
from course_lib.exercises.engine.seen import counted, expect_requests

_ROUND_S = 0.05
_QUIET_ROUNDS = 20
"""For how many rounds callers may wait when no call is under way: nothing is left that could wake them."""
_QUESTION = "Where is my parcel?"


class Asked:
    """A model and one question for it; each call of `answer` is one request."""

    def __init__(self, model: Any, question: str = _QUESTION) -> None:
        self._model, self._question = model, question
        self.begun = asyncio.Event()
        self.under_way = 0

    async def answer(self) -> str:
        """Ask the model."""
        self.begun.set()
        self.under_way += 1
        try:
            (text,) = await self._model.acall(self._question)
        finally:
            self.under_way -= 1
        return str(text)


def _model(profile: str = "unhurried", **values: Any) -> Any:
    """Return a model that takes its time, without any cache."""
    lm.connect()
    lm.profile(profile, **({"ttft_p50_ms": 120, "ttft_p99_ms": 121} | values))
    return lm.connect(f"sim-large@{profile}", cache=False, num_retries=0)


async def _results(what: str, calls: Sequence[Awaitable[Any]], *asked: Asked, hint: str = "") -> list[Any]:
    """Return the result or error of each call; fail if one of them never gets any."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    quiet = 0
    while not all(task.done() for task in tasks) and quiet < _QUIET_ROUNDS:
        await asyncio.wait(tasks, timeout=_ROUND_S)
        quiet = 0 if any(each.under_way for each in asked) else quiet + 1
    waiting = [task for task in tasks if not task.done()]
    for task in waiting:
        task.cancel()
    results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    expect(
        not waiting,
        what,
        observed=f"{len(waiting)} of {len(tasks)} callers still waited when no call was under way any more",
        expected="an answer or an error for each of them",
        hint=hint,
    )
    return results


def _expect_each(kind: type, results: list[Any], what: str, expected: str, hint: str) -> None:
    shown = [one if isinstance(one, str) else type(one).__name__ for one in results]
    is_so = all(isinstance(one, kind) for one in results)
    expect(is_so, what, observed=shown, expected=expected, hint=hint)


def shares_one_call(single_flight: type) -> None:
    """32 tasks that ask the same at once cost one request."""

    async def crowd() -> list[Any]:
        flight, asked = single_flight(), Asked(_model())
        return await _results(
            "32 tasks are answered", [flight.run("parcel", asked.answer) for _ in range(32)], asked
        )

    answers = expect_requests(
        1,
        lambda: run(crowd()),
        "32 identical questions at once are one request",
        hint="Between looking a key up and writing it down there must be no await: others run meanwhile.",
    )
    hint = "Who waits returns what the first one got."
    _expect_each(str, answers, "all 32 get an answer", "32 times the model's text", hint)
    expect_equal(answers, answers[:1] * 32, "all 32 get the same answer", hint=hint)


def keeps_keys_apart(single_flight: type) -> None:
    """Eight different questions are asked side by side, and each gets its own answer."""
    names = [f"{_QUESTION} I am customer number {n}." for n in range(8)]

    async def crowd() -> list[Any]:
        flight, model = single_flight(), _model()
        asked = [Asked(model, name) for name in names]
        different = [flight.run(name, each.answer) for name, each in zip(names, asked, strict=True)]
        return await _results("eight different questions are answered", different, *asked)

    _, calls = counted(lambda: run(crowd()))
    expect_equal(
        sorted(call.messages[-1]["content"] for call in calls),
        names,
        "eight different questions are eight requests",
        hint="Only callers with the same key may share.",
    )
    at_once = max(call.at_once for call in calls)
    expect(
        at_once >= 4,
        "different questions do not wait for each other",
        observed=f"at most {at_once} under way at once",
        expected="several at once",
        hint="A lock that is held during the call makes everybody wait, whatever they ask.",
    )


def lets_a_failure_pass(single_flight: type) -> None:
    """When the model fails, those who wait are told, and the next caller asks again."""

    async def crowd() -> tuple[list[Any], list[Any]]:
        flight = single_flight()
        broken, well = Asked(_model("out-of-order", unavailable_rate=1.0)), Asked(_model())
        same = [flight.run("parcel", broken.answer) for _ in range(5)]
        hint = "Whatever way the call ends, those who wait have to be told."
        first = await _results("everybody hears of a failure", same, broken, hint=hint)
        after = [flight.run("parcel", well.answer)]
        return first, await _results("a caller after a failure is answered", after, well)

    first, later = run(crowd())
    what, hint = "all who wait for a call that fails get its error", "None is no answer: hand the error on."
    _expect_each(Exception, first, what, "the model's error, five times", hint)
    what, hint = "after a failure the key is not poisoned", "Take the key out however the call has ended."
    _expect_each(str, later, what, "a new call, and its answer: the model was well again", hint)


def _survives_leaving(single_flight: type, leaver: int, who: str) -> None:
    """One of four callers is cancelled while the call is under way; the others get the answer."""
    what = f"when the {who} of four callers is cancelled, the others"

    async def crowd() -> list[Any]:
        flight, asked = single_flight(), Asked(_model())
        tasks = [asyncio.ensure_future(flight.run("parcel", asked.answer)) for _ in range(4)]
        await asked.begun.wait()
        await asyncio.sleep(0.02)
        tasks.pop(leaver).cancel()
        hint = "CancelledError is no Exception: `except Exception` does not see it."
        return await _results(f"{what} hear of it", tasks, asked, hint=hint)

    others, calls = counted(lambda: run(crowd()))
    hint = "A caller that is cancelled cancels what it awaits: asyncio.shield(...) stands between."
    _expect_each(str, others, f"{what} get the answer", "the model's answer, three times", hint)
    expect(
        len(calls) <= 2,
        "a cancelled caller costs at most one more request",
        observed=f"{len(calls)} requests",
        expected="1, or 2 if another caller had to begin again",
        hint="Of those who wait, only one may take over.",
    )


def survives_a_cancelled_caller(single_flight: type) -> None:
    """A caller who is cancelled takes nobody with it: neither the first one, nor one who waits."""
    _survives_leaving(single_flight, 0, "first")
    _survives_leaving(single_flight, 2, "third")


class _Key:
    """A key that can be watched."""


def keeps_nothing(single_flight: type) -> None:
    """It keeps nothing once the answers are handed out: it is no cache."""

    async def crowd() -> tuple[int, int]:
        flight, calls = single_flight(), count(1)

        async def answer() -> str:
            await asyncio.sleep(0)
            return f"answer {next(calls)}"

        keys = ["parcel", "parcel", *(_Key() for _ in range(100))]
        watched = [weakref.ref(key) for key in keys if isinstance(key, _Key)]
        while keys:
            await flight.run(keys.pop(0), answer)
        await asyncio.sleep(0.01)
        gc.collect()
        return next(calls) - 1, sum(key() is not None for key in watched)

    calls, left = run(crowd())
    what = (
        "a question that comes after the answer is asked anew: calls for 102 questions, one after the other"
    )
    hint = "Keeping answers is the cache's work, which knows tenants, time to live and room."
    expect_equal(calls, 102, what, hint=hint)
    hint = "Take out everything that was written down for a key, locks and events too."
    expect_equal(left, 0, "keys that are still held after 100 of them were answered", hint=hint)


EXERCISE = Exercise(
    id="2.4",
    title="Single-flight",
    lesson="02_caching",
    minutes=15,
    difficulty="hard",
    concepts=("stampede", "asyncio.Task", "shield", "cancellation"),
    hints=(
        "Write down, per key, the call that is under way. Who finds one there waits for it; who finds none "
        "begins it, and writes it down before the first await.",
        "Let the call be a task of its own: asyncio.create_task(call()). Then no caller is special, and "
        "task.add_done_callback(...) takes the key out however the call ends.",
        "`return await asyncio.shield(task)`: a caller that is cancelled then stops waiting, but does not "
        "cancel the task that the others wait for.",
    ),
    checks=(
        shares_one_call,
        keeps_keys_apart,
        lets_a_failure_pass,
        survives_a_cancelled_caller,
        keeps_nothing,
    ),
    is_stub=stub_methods("run"),
    why="Nothing is awaited between looking and writing down, so in one event loop no lock is needed. The "
    "call belongs to no caller, so none can take the others along; and its end, whatever it is, takes the "
    "key out. What is left open the library does: threads, several loops and processes, a call that hangs, "
    "and a call that nobody waits for any more (here it runs to its end, and is paid for).",
    deadline_s=30.0,
)
