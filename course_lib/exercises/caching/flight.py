"""Exercise 2.4, single-flight: many tasks ask the same at once, and one of them calls the model.

Main path: EXERCISE is listed in caching.py; the checks hand a learner's SingleFlight calls of a real model.
"""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from course_lib import lm
from course_lib.exercises.engine.checks import expect, run
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.stubs import stub_methods

_PATIENCE_S = 3.0
_QUESTION = "Where is my parcel?"


class Asked:
    """A model and one question for it; each call of `answer` is one request."""

    def __init__(self, model: Any, question: str = _QUESTION) -> None:
        self._model = model
        self._question = question
        self.begun = asyncio.Event()

    async def answer(self) -> str:
        """Ask the model."""
        self.begun.set()
        (text,) = await self._model.acall(self._question)
        return str(text)


def _model(profile: str = "unhurried", **values: Any) -> Any:
    """Return a model that takes its time, without any cache."""
    lm.connect()
    lm.profile(profile, **({"ttft_p50_ms": 120, "ttft_p99_ms": 121} | values))
    return lm.connect(f"sim-large@{profile}", cache=False, num_retries=0)


@contextmanager
def _requests() -> Iterator[Callable[[], list[lm.Call]]]:
    """Yield a function that returns the requests which the server saw in this block."""
    before = lm.ledger().requests
    yield lambda: lm.ledger(since=before).calls


async def _all(what: str, calls: list[Coroutine[Any, Any, Any]], hint: str = "") -> list[Any]:
    """Return the result or error of each; fail if one of them is never told anything."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    return await _told(what, tasks, hint)


async def _told(what: str, tasks: Sequence[asyncio.Future[Any]], hint: str = "") -> list[Any]:
    _, waiting = await asyncio.wait(tasks, timeout=_PATIENCE_S)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    expect(
        not waiting,
        what,
        observed=f"{len(waiting)} of {len(tasks)} callers were still waiting after {_PATIENCE_S:g} s",
        expected="an answer or an error for each of them",
        hint=hint,
    )
    return [
        asyncio.CancelledError() if task.cancelled() else task.exception() or task.result() for task in tasks
    ]


def shares_one_call(single_flight: type) -> None:
    """32 tasks that ask the same at once cost one request."""

    async def crowd() -> list[Any]:
        flight, asked = single_flight(), Asked(_model())
        return await _all("32 tasks are answered", [flight.run("parcel", asked.answer) for _ in range(32)])

    with _requests() as requests:
        answers = run(crowd())
        expect(
            len(requests()) == 1,
            "32 identical questions at once are one request",
            observed=f"{len(requests())} requests at the server",
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
        return await _all(
            "eight different questions are answered",
            [flight.run(name, Asked(model, name).answer) for name in names],
        )

    with _requests() as requests:
        run(crowd())
        calls = requests()
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
        first = await _all(
            "everybody hears of a failure",
            [flight.run("parcel", broken.answer) for _ in range(5)],
            "Whatever way the call ends, those who wait have to be told.",
        )
        (later,) = await _all("a caller after a failure is answered", [flight.run("parcel", well.answer)])
        return first, later

    first, later = run(crowd())
    expect(
        all(isinstance(one, Exception) for one in first),
        "all who wait for a call that fails get its error",
        observed=[one if isinstance(one, str) else type(one).__name__ for one in first],
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


_WHO = {0: "first", 2: "third"}


def survives_a_cancelled_caller(single_flight: type) -> None:
    """A caller who is cancelled takes nobody with it: neither the first one, nor one who waits."""

    async def crowd(leaver: int) -> list[Any]:
        flight, asked = single_flight(), Asked(_model())
        tasks = [asyncio.ensure_future(flight.run("parcel", asked.answer)) for _ in range(4)]
        await asyncio.wait_for(asked.begun.wait(), _PATIENCE_S)
        await asyncio.sleep(0.02)
        tasks.pop(leaver).cancel()
        return await _told(
            f"when the {_WHO[leaver]} of four callers is cancelled, the others hear of it",
            tasks,
            "CancelledError is no Exception: `except Exception` does not see it.",
        )

    for leaver, who in _WHO.items():
        with _requests() as requests:
            others = run(crowd(leaver))
            expect(
                all(isinstance(one, str) for one in others),
                f"when the {who} of four callers is cancelled, the others get the answer",
                observed=[one if isinstance(one, str) else type(one).__name__ for one in others],
                expected="the model's answer, three times",
                hint="A caller that is cancelled cancels what it awaits: asyncio.shield(...) stands between.",
            )
            expect(
                len(requests()) <= 2,
                "a cancelled caller costs at most one more request",
                observed=f"{len(requests())} requests",
                expected="1, or 2 if another caller had to begin again",
                hint="Of those who wait, only one may take over.",
            )


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
