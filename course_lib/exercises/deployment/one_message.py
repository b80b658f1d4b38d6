"""Exercise 5.4, one message at a time: jobs that are done, empty, erased or fail; a worker told to stop.

Main path: keeps_the_rules -> each scene in memory, in another process -> what was done is compared with it.
A handle that hangs ends that process, and the card says with which message.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import dspy

from course_lib.exercises.engine.checks import expect, expect_equal
from course_lib.exercises.engine.seen import in_another_process

WAIT_S = 1
_LIMIT_S = 10.0
_TURNS = 20
"""Of the event loop, that an answer takes: what is not awaited is not done by then."""
_MOVE_TURNS, _SLOW_TURNS = 5 * _TURNS, 10 * _TURNS
"""That ack() and back() take; and, yet longer, an answer beside one that fails or never comes."""
_SLOW_S, _MOVE_S, _AT_ONCE_S = 60.0, 0.3, 0.05
"""By the clock of the loop, put ahead: how long a slow answer, and ack() or back(), take; what is no wait."""
_POOLS = "asyncio_", "ThreadPoolExecutor"
"""How threads are named that stay for other work, and do none."""
_RULES = {
    "back": "message.deliveries counts, in whichever process: under three, back(1); then give_up and ack.",
    "ack": "What is done, given up or erased is acknowledged, also where there was nothing to do.",
    "stop": "CancelledError is no Exception: catch it by its name, await back(0), and raise it again.",
}


class ParcelLostError(OSError):
    """An error of a class that no table knows."""

    class LostAgainOnItsWayToTheCustomerError(Exception):
        """One whose name is not its qualified name, and is long."""


_ERRORS: tuple[type[Exception], ...] = (
    *(KeyError, TypeError, ValueError, ParcelLostError, TimeoutError, RuntimeError, ZeroDivisionError),
    *(AssertionError, AttributeError, ParcelLostError.LostAgainOnItsWayToTheCustomerError),
    *(ConnectionError, ExceptionGroup, dspy.LMRateLimitError, dspy.LMTransportError, dspy.LMServerError),
    *(dspy.LMAuthError, dspy.AdapterParseError),
)
_MORE: dict[type[Exception], tuple[Any, ...]] = {
    ExceptionGroup: ([OSError("no route")],),
    dspy.AdapterParseError: (dspy.Signature("question -> answer"), "no answer"),
}
"""What some of them are made of, beside a text."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A job, and what is to become of its message."""

    told: str
    inputs: list[str] | None
    saved: dict[int, str] = field(default_factory=dict)
    deliveries: tuple[int, ...] = (1,)
    """The counts of the deliveries, one after the other."""
    silent: str | None = None
    """The text whose answer is empty."""
    slow: str | None = None
    """The text whose answer takes a minute."""
    error: type[Exception] | None = None
    """What the answer to the text at `place` raises."""
    is_stopped: bool = False
    """Whether the worker is told to stop while the text at `place` is asked for."""
    place: int = -1
    end: tuple[str, str] = ("ack", "")
    job_id: str = field(default_factory=lambda: f"job-{secrets.token_hex(4)}")

    @property
    def given_up(self) -> list[str]:
        """The names with which give_up is to be called."""
        return [self.error.__name__] if self.error and self.end[0] == "ack" else []


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock can be put ahead; it knows its timers, and which of them rang."""

    def __init__(self) -> None:
        self.ahead_s, self.rung_s = 0.0, 0.0
        self.timers: list[asyncio.TimerHandle] = []
        super().__init__()

    def time(self) -> float:
        return super().time() + self.ahead_s

    def call_at(  # type: ignore[override]  # its callback has no type variables
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        wait_s = when - self.time()

        def ring(*given: Any) -> None:
            self.rung_s = max(self.rung_s, wait_s)
            callback(*given)

        self.timers.append(timer := super().call_at(when, ring, *args, context=context))
        return timer

    def begin(self) -> None:
        """Forget what was before."""
        self.timers, self.rung_s = [], 0.0

    def still_set(self) -> int:
        """Return how many timers are yet to ring."""
        return sum(not each.cancelled() and each.when() > self.time() for each in self.timers)


def _loop() -> _Loop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _Loop)
    return loop


class _Delivery:
    """Message, store and model of one delivery; all that is done with them is in `steps`."""

    def __init__(self, scene: Scene, saved: dict[int, str], deliveries: int) -> None:
        self.job_id, self.deliveries = scene.job_id, deliveries
        self.texts = None if scene.inputs is None else [*scene.inputs]
        self.steps: list[list[Any]] = []
        self.begun = asyncio.Event()
        self._scene, self._saved = scene, saved

    async def ack(self) -> None:
        _loop().ahead_s += _MOVE_S
        await _turns(_MOVE_TURNS)
        self.steps.append(["ack", ""])

    async def back(self, wait_s: float) -> None:
        _loop().ahead_s += _MOVE_S
        await _turns(_MOVE_TURNS)
        self.steps.append(["back", f"{wait_s:g}"])

    def inputs(self, _: str) -> list[str] | None:
        return self.texts

    def saved(self, _: str) -> dict[int, str]:
        return {**self._saved}

    def save(self, _: str, number: int, text: str) -> None:
        self.steps.append(["save", number, text])
        self._saved[number] = text

    def give_up(self, _: str, error: str) -> None:
        self.steps.append(["give_up", error])

    async def answer(self, text: str) -> str:
        scene = self._scene
        self.steps.append(["ask", text])
        _loop().ahead_s += _SLOW_S * (text == scene.slow)
        await _turns()
        if scene.error or scene.is_stopped:
            if scene.inputs and text != scene.inputs[scene.place]:
                await _turns(_SLOW_TURNS)
            elif scene.is_stopped:
                self.begun.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self.begun.clear()
            elif scene.error:
                error = scene.error(f"cannot answer {text}", *_MORE.get(scene.error, ()))
                vars(error)["retry_after"] = 7.0
                raise error from ConnectionError(text)
        given = "" if text == scene.silent else f"{text} {random.random()}"
        self.steps.append(["given", text, given])
        return given


async def _turns(count: int = _TURNS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _limit(told: str) -> None:
    """End this process unless it is called again in time; a loop that never awaits is ended, too."""

    def late(*_: object) -> None:
        os.write(2, f"\nhandle was still at work after {_LIMIT_S:g} s with the message of {told}\n".encode())
        os._exit(1)

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, _LIMIT_S)


async def _delivered(handle: Any, scene: Scene, saved: dict[int, str], deliveries: int) -> dict[str, Any]:
    """Deliver a message once; return what was done until `handle` ended, how it did, and what came later."""
    before, delivery, others = sorted(saved), _Delivery(scene, saved, deliveries), asyncio.all_tasks()

    loop, threads = _loop(), {*threading.enumerate()}
    loop.begin()

    async def call() -> None:
        await handle(delivery, delivery, delivery.answer)

    task, begun = asyncio.ensure_future(call()), asyncio.ensure_future(delivery.begun.wait())
    if scene.is_stopped:
        await asyncio.wait([task, begun], return_when="FIRST_COMPLETED")
        task.cancel()
        loop.rung_s = 0.0
    await asyncio.wait([task])
    steps, waited_s = [*delivery.steps], loop.rung_s
    begun.cancel()
    await _turns(3 * _SLOW_TURNS)
    late = delivery.steps[len(steps) :] + [["ask", "still under way"]] * delivery.begun.is_set()
    late += [["task", "still under way"]] * len(asyncio.all_tasks() - others)
    late += [["timer", "still set"]] * loop.still_set()
    left = (each.name for each in {*threading.enumerate()} - threads)
    late += [["thread", "still at work"] for name in left if not name.startswith(_POOLS)]
    error = None if task.cancelled() else task.exception()
    ended = "it returned" if error is None else f"it raised {type(error).__name__}: {error!s:.80}"
    ended = "it raised CancelledError" if task.cancelled() else ended
    told = {"before": before, "steps": steps, "texts": delivery.texts, "ended": ended, "late": late}
    return {**told, "waited_s": waited_s * scene.is_stopped}


def _played(scenes: list[Scene], handle: Any) -> list[list[dict[str, Any]]]:
    """In a process of its own: what was seen of each delivery of each scene."""

    async def play() -> list[list[dict[str, Any]]]:
        seen = []
        for scene in scenes:
            _limit(scene.told)
            saved = {**scene.saved}
            seen.append([await _delivered(handle, scene, saved, each) for each in scene.deliveries])
        return seen

    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(play())


def _scenes() -> Iterator[Scene]:
    same, *texts = (f"Where is parcel {number}?" for number in random.sample(range(10**6), 16))
    mixed = [same, "", *texts, same, "  "]
    yield Scene(f"a job of {len(mixed)} texts, one empty, one of spaces, two the same", mixed)
    yield Scene("a second job with a text of the first", [texts[0], same])
    yield Scene("a job with an answer that is empty", texts[:3], silent=texts[1])
    yield Scene("a job with an answer that takes a minute", texts[:3], slow=texts[1])
    kept = {1: "", 3: "In Oslo."}
    yield Scene("a job whose answers 1 and 3 are saved, 1 an empty one", texts[:5], saved=kept)
    told = "a job whose answer 0 is saved, with the same text once more"
    yield Scene(told, [same, texts[0], same], saved={0: "In Oslo."})
    half = Scene(
        "a job whose second text raises OSError, here and at first",
        texts[:3],
        error=OSError,
        place=1,
        end=("back", f"{WAIT_S}"),
    )
    yield half
    told = "the same job, when another worker has saved answers 1 and 2"
    yield Scene(told, texts[:3], {0: "a", 1: "b", 2: "c"}, deliveries=(2,), job_id=half.job_id)
    yield Scene("a job that is done and delivered again", texts[:3], deliveries=(1, 2))
    yield Scene("a job without texts", [])
    yield Scene("an erased job", None, deliveries=(1, 3, 5))
    yield Scene("a job of 2,000 texts", [f"{number} of 2,000" for number in range(2_000)])
    early, late, places = cycle((1, 2)), cycle((3, 4, 7)), cycle(((-1, "last"), (0, "first"), (1, "second")))
    for error in random.sample(_ERRORS, len(_ERRORS)):
        for number, end in ((next(early), ("back", f"{WAIT_S}")), (next(late), ("ack", ""))):
            place, name = next(places)
            told = f"a job whose {name} text raises {error.__name__}, on delivery {number}"
            yield Scene(told, texts[:3], deliveries=(number,), error=error, end=end, place=place)
    told, end = (
        "a job whose answer 0 is saved and whose last text raises ValueError, twice",
        ("back", f"{WAIT_S}"),
    )
    yield Scene(told, texts[:4], saved={0: "Yes."}, deliveries=(1, 2), error=ValueError, end=end)
    told = "a job whose last text raises KeyError, given up on delivery 3 and delivered again"
    yield Scene(told, texts[:3], deliveries=(3, 4), error=KeyError)
    for number in (3, 5, 1_000):
        yield Scene(f"a job that can be done, on delivery {number}", texts[:3], deliveries=(number,))
    for number, place, name in ((1, -1, "last"), (3, -1, "last"), (1, 0, "first"), (2, 1, "second")):
        told = f"a worker that is told to stop, at the {name} text, on delivery {number}"
        yield Scene(told, texts[:3], deliveries=(number,), is_stopped=True, end=("back", "0"), place=place)
    told, end = "a worker that is told to stop on delivery 4, when answer 0 was saved before", ("back", "0")
    yield Scene(told, texts[:3], {0: "Yes."}, deliveries=(4,), is_stopped=True, end=end, place=1)


def keeps_the_rules(handle: Any) -> None:
    """Each message ends as its job asks for, with each answer asked for and saved once."""
    scenes = [*_scenes()]
    what, wanted = "the worker's process works", "a handle that ends, and leaves the process alone"
    seen = in_another_process(_played, scenes, handle, what=what, expected=wanted)
    expect(seen is not None, what, observed="the process was ended by handle", expected=wanted)
    for scene, deliveries in zip(scenes, seen, strict=True):
        for each in deliveries:
            _judge_end(scene, **each)
            _judge_answers(scene, **each)


def _judge_end(
    scene: Scene, steps: list[list[Any]], ended: str, late: list[list[Any]], waited_s: float, **_: Any
) -> None:
    told, hint = scene.told, _RULES["stop" if scene.is_stopped else scene.end[0]]
    wanted = "it raised CancelledError" if scene.is_stopped else "it returned"
    expect(ended == wanted, f"how handle ends with {told}", observed=ended, expected=wanted, hint=hint)
    ends = [each for each in steps if each[0] in ("ack", "back")]
    expect_equal(ends, [[*scene.end]], f"what became of the message of {told}", hint=hint)
    what, observed = f"how long handle takes to end, with {told}", f"a timer of {waited_s:.2g} s rang"
    expect(waited_s < _AT_ONCE_S, what, observed=observed, expected="it ends at once", hint=hint)
    given_up = [error for step, error, *_ in steps if step == "give_up"]
    told_error = "type(error).__name__: what an error says may quote a customer. No other job is given up."
    expect_equal(given_up, scene.given_up, f"with which names give_up was called for {told}", hint=told_error)
    what, hint = f"what was done last with {told}", "A worker may be killed right after ack or back."
    expect_equal(steps[-1], [*scene.end], what, hint=hint)
    hint = "What was begun is awaited, or cancelled: another worker may have the message by now."
    expect_equal(late, [], f"what was done after handle ended, with {told}", hint=hint)


def _judge_answers(
    scene: Scene, steps: list[list[Any]], before: list[int], texts: list[str] | None, **_: Any
) -> None:
    told, inputs = scene.told, scene.inputs or []
    missing = [number for number in range(len(inputs)) if number not in before]
    asked = Counter(each[1] for each in steps if each[0] == "ask")
    wanted = Counter(inputs[number] for number in missing)
    more = sorted((asked - wanted).elements())
    hint = "store.saved(job_id) has the numbers of the texts that need not be asked; one error is enough."
    expect_equal(more, [], f"texts that were asked for once too often, with {told}", hint=hint)
    saves = sorted(each[1:] for each in steps if each[0] == "save")
    if not (scene.error or scene.is_stopped):
        hint = "Every text is asked for, whatever it and its answer are."
        left = sorted((wanted - asked).elements())
        expect_equal(left, [], f"texts that were not asked for, with {told}", hint=hint)
        numbers = [number for number, _ in saves]
        expect_equal(numbers, missing, f"the numbers of the answers that were saved, with {told}", hint=hint)
    given = [each[1:] for each in steps if each[0] == "given"]
    kept = sorted([inputs[number], text] for number, text in saves)
    expect_equal(kept, sorted(given), f"texts and answers as they were saved, with {told}")
    _judge_order(told, [step for step, *_ in steps])
    hint = "The list is the store's own: go over it, and leave it as it is."
    expect_equal(texts, scene.inputs, f"what is in store.inputs(job_id) after {told}", hint=hint)


def _judge_order(told: str, steps: list[str]) -> None:
    open_ = 0
    for step in steps:
        open_ += {"given": 1, "save": -1}.get(step, 0)
        what = f"answers that were not saved when the next was asked for, with {told}"
        hint = "Save each before you ask for the next."
        expect(step != "ask" or not open_, what, observed=open_, expected="none", hint=hint)
