"""Exercise 2.4, single-flight: many tasks ask the same at once, and one of them calls the model.

Main path: EXERCISE -> engine.registry; the checks hand a learner's SingleFlight calls of a real model.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Sequence
from typing import Any

from course_lib import lm
from course_lib.exercises.engine.checks import expect, run
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted
from course_lib.exercises.engine.stubs import stub_methods

_ROUND_S = 0.05
_PATIENCE_ROUNDS = 60
"""For how many rounds of the event loop callers may wait for a call that is under way."""
_QUIET_ROUNDS = 20
"""For how many they may wait when none is under way: nothing of the model's is left that could wake them."""
_QUESTION = "Where is my parcel?"


class Asked:
    """A model and one question for it; each call of `answer` is one request."""

    def __init__(self, model: Any, question: str = _QUESTION) -> None:
        self._model = model
        self._question = question
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


async def _results(
    what: str, calls: Sequence[Awaitable[Any]], asked: Sequence[Asked], hint: str = ""
) -> list[Any]:
    """Return the result or error of each call; fail if one of them never gets any."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    rounds = quiet = 0
    while not all(task.done() for task in tasks) and rounds < _PATIENCE_ROUNDS and quiet < _QUIET_ROUNDS:
        await asyncio.wait(tasks, timeout=_ROUND_S)
        rounds += 1
        quiet = 0 if any(each.under_way for each in asked) else quiet + 1
    waiting = [task for task in tasks if not task.done()]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    expect(
        not waiting,
        what,
        observed=f"{len(waiting)} of {len(tasks)} callers still waited when no call was under way any more",
        expected="an answer or an error for each of them",
        hint=hint,
    )
    return [
        asyncio.CancelledError() if task.cancelled() else task.exception() or task.result() for task in tasks
    ]


def _shown(results: Sequence[Any]) -> list[str]:
    return [one if isinstance(one, str) else type(one).__name__ for one in results]


def shares_one_call(single_flight: type) -> None:
    """32 tasks that ask the same at once cost one request."""

    async def crowd() -> list[Any]:
        flight, asked = single_flight(), Asked(_model())
        same = [flight.run("parcel", asked.answer) for _ in range(32)]
        return await _results("32 tasks are answered", same, [asked])

    answers, calls = counted(lambda: run(crowd()))
    expect(
        len(calls) == 1,
        "32 identical questions at once are one request",
        observed=f"{len(calls)} requests at the server",
        expected="1 request",
        hint="Between looking a key up and writing it down there must be no await: others run meanwhile.",
    )
    expect(
        len({str(answer) for answer in answers}) == 1 and isinstance(answers[0], str),
        "all 32 get the same answer",
        observed=list({repr(answer) for answer in answers})[:3],
        expected="32 times the model's text",
        hint="Who waits returns what the first one got.",
    )


def keeps_keys_apart(single_flight: type) -> None:
    """Eight different questions are asked side by side, and each gets its own answer."""
    names = [f"{_QUESTION} I am customer number {n}." for n in range(8)]

    async def crowd() -> list[Any]:
        flight, model = single_flight(), _model()
        asked = [Asked(model, name) for name in names]
        different = [flight.run(name, each.answer) for name, each in zip(names, asked, strict=True)]
        return await _results("eight different questions are answered", different, asked)

    _, calls = counted(lambda: run(crowd()))
    expect(
        len(calls) == len(names) and {call.messages[-1]["content"] for call in calls} == set(names),
        "eight different questions are eight requests",
        observed=f"{len(calls)} requests",
        expected="8 requests, one for each question",
        hint="Only callers with the same key may share.",
    )
    expect(
        max(call.at_once for call in calls) >= 4,
        "different questions do not wait for each other",
        observed=f"at most {max(call.at_once for call in calls)} under way at once",
        expected="several at once",
        hint="A lock that is held during the call makes everybody wait, whatever they ask.",
    )


def lets_a_failure_pass(single_flight: type) -> None:
    """When the model fails, those who wait are told, and the next caller asks again."""

    async def crowd() -> tuple[list[Any], Any]:
        flight = single_flight()
        broken, well = Asked(_model("out-of-order", unavailable_rate=1.0)), Asked(_model())
        same = [flight.run("parcel", broken.answer) for _ in range(5)]
        hint = "Whatever way the call ends, those who wait have to be told."
        first = await _results("everybody hears of a failure", same, [broken], hint)
        after = [flight.run("parcel", well.answer)]
        (later,) = await _results("a caller after a failure is answered", after, [well])
        return first, later

    first, later = run(crowd())
    expect(
        all(isinstance(one, Exception) for one in first),
        "all who wait for a call that fails get its error",
        observed=_shown(first),
        expected="the model's error, five times",
        hint="None is no answer: hand the error on.",
    )
    expect(
        isinstance(later, str),
        "after a failure the key is not poisoned",
        observed=f"the next caller got {type(later).__name__}, though the model was well again",
        expected="a new call, and its answer",
        hint="Take the key out when the call has ended, however it ended.",
    )


def _survives_leaving(single_flight: type, leaver: int, who: str) -> None:
    """One of four callers is cancelled while the call is under way; the others get the answer."""

    async def crowd() -> list[Any]:
        flight, asked = single_flight(), Asked(_model())
        tasks = [asyncio.ensure_future(flight.run("parcel", asked.answer)) for _ in range(4)]
        await asyncio.wait_for(asked.begun.wait(), _ROUND_S * _PATIENCE_ROUNDS)
        await asyncio.sleep(0.02)
        tasks.pop(leaver).cancel()
        hint = "CancelledError is no Exception: `except Exception` does not see it."
        what = f"when the {who} of four callers is cancelled, the others hear of it"
        return await _results(what, tasks, [asked], hint)

    others, calls = counted(lambda: run(crowd()))
    expect(
        all(isinstance(one, str) for one in others),
        f"when the {who} of four callers is cancelled, the others get the answer",
        observed=_shown(others),
        expected="the model's answer, three times",
        hint="A caller that is cancelled cancels what it awaits: asyncio.shield(...) stands between.",
    )
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
        flight, calls = single_flight(), 0

        async def answer() -> str:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0)
            return f"answer {calls}"

        for _ in range(2):
            await flight.run("parcel", answer)
        keys = [_Key() for _ in range(100)]
        watched = [weakref.ref(key) for key in keys]
        for key in keys:
            await flight.run(key, answer)
        del key, keys
        await asyncio.sleep(0.01)
        gc.collect()
        return calls, sum(key() is not None for key in watched)

    calls, left = run(crowd())
    expect(
        calls == 102,
        "a question that comes after the answer is asked anew",
        observed=f"{calls} calls for 102 questions, one after the other",
        expected="102 calls",
        hint="Keeping answers is the cache's work, which knows tenants, time to live and room.",
    )
    expect(
        left == 0,
        "nothing is left behind",
        observed=f"{left} of 100 keys are still held",
        expected="none",
        hint="Take out everything that was written down for a key, locks and events too.",
    )


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
