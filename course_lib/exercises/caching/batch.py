"""Exercise 2.6, a batch that can be killed: what the model was asked before and after a real SIGKILL.

Main path: EXERCISE -> engine.registry; each check runs the learner's function on a journal of its own.
"""

from __future__ import annotations

import os
import random
import re
import signal
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from course_lib.exercises.engine.checks import expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted, in_another_process
from course_lib.lm import client

Pair = tuple[str, str]

ITEMS: tuple[Pair, ...] = (
    ("T-1", "Where is my parcel?"),
    ("T-2", "The zip of my tent is torn."),
    ("T-3", "I was charged twice."),
    ("T 4\tÜ\n", "Where is my parcel?"),  # a key is any text, and two keys may have one text
    ("T-5", "Which boots run small?"),
    ("T-6", "Can I return a lamp?"),
    ("T-7", "My voucher is refused."),
    ("", "Say nothing."),  # the answer is empty too
    ("T 4\tU\u0308\n", "Tell me all about tents."),  # looks like the fourth key; the answer is long
)
READ_AHEAD = 16
_LONG = "long " * 40_000
_FORMATTED = '\tin "two"\r\nlines, \u2028 or three\n'


class _Model:
    """Answers differently each time, with all that a text may hold, and lists what it was asked."""

    errors = TimeoutError, ConnectionError

    def __init__(self) -> None:
        self.asked, self.error = list[str](), random.choice(self.errors)

    def __call__(self, text: str) -> str:
        self.asked.append(text)
        if "zip" in text:
            raise self.error("the model did not answer")
        if "nothing" in text:
            return ""
        return f"answer {len(self.asked)} to {text}{_FORMATTED}" + _LONG * ("tents" in text)


def ask_model(text: str) -> str:
    """Ask the endpoint one question, without DSPy or cache; the answer says to what, so no two are equal."""
    body = {"model": "sim-small", "messages": [{"role": "user", "content": text}]}
    reply = client.call("POST", "/v1/chat/completions", body)["choices"][0]["message"]["content"]
    return f"{text} {reply}"


def run_until_killed(resumable: Any, path: Path) -> None:
    """Run the batch, and kill this process as soon as the fifth answer is there."""
    for number, _ in enumerate(resumable(iter(ITEMS), ask_model, path), start=1):
        if number == 5:
            os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def _journal() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="course-") as folder:
        yield Path(folder) / "journal"


def _ran(resumable: Any, items: Iterable[Pair], path: Path, after: str, model: Any) -> list[Pair]:
    """Run the batch; return what it yields, whose keys are those of the items in their order."""
    batch = partial(resumable, iter(items), model, path)
    errors = Exception if path.exists() else _Model.errors  # before there is a journal, others are crashes
    hint = "Catch Exception around ask(text) alone. And which lines of the journal can be trusted?"
    what = f"the batch goes on after {after}"
    got = without_error(lambda: [(key, answer) for key, answer in batch()], what, hint=hint, errors=errors)
    hint = "The items say what comes out, and in which order; the journal only knows answers."
    keys = [key for key, _ in items]
    expect_equal([key for key, _ in got], keys, f"the keys that come out after {after}", hint=hint)
    return got


def answers_in_order(resumable: Any) -> None:
    """Every item is asked once and comes out in order, and one that fails comes out as an error."""
    with _journal() as path:
        model = _Model()
        got = _ran(resumable, ITEMS, path, "an error of ask", model)
        wanted = [f"to {text}{_FORMATTED}" for _, text in ITEMS]
        wanted[1], wanted[-2] = f"error: {model.error.__name__}", ""
        wanted[-1] += "(long)"
        hint = "What ask returned, as it is, or the class of its error; for each key, and not for each text."
        shown = [re.sub(r"^answer \d+ ", "", str(answer)).replace(_LONG, "(long)") for _, answer in got]
        expect_equal(shown, wanted, "the answers that come out", hint=hint)
        expect_equal(len({answer for _, answer in got}), len(ITEMS), "different answers", hint=hint)
        _ran(resumable, ITEMS, path.with_name("another"), "another batch", model)
        hint = "Ask once for each item. The journal is the file at `path` alone."
        expect_equal(len(model.asked), 2 * len(ITEMS), "calls of two batches, a journal each", hint=hint)


def can_be_interrupted(resumable: Any) -> None:
    """An interrupt is no answer: it ends the batch, and its item is asked again."""

    def interrupted(text: str) -> str:
        if text == ITEMS[2][1]:
            raise KeyboardInterrupt
        return text

    with _journal() as path:
        got: list[Pair] = []
        with suppress(KeyboardInterrupt):
            got = list(resumable(iter(ITEMS[:4]), interrupted, path))
        hint = "A bare except, or BaseException, catches more than errors: say Exception."
        expect_equal(got, [], "what a batch yields in which ask was interrupted", hint=hint)
        model = _Model()
        _ran(resumable, ITEMS[:4], path, "an interrupt", model)
        what = "whether the item whose call was interrupted is asked again"
        expect_equal(ITEMS[2][1] in model.asked, True, what, hint=hint)


def reads_as_needed(resumable: Any) -> None:
    """An input without an end is read as it is needed."""
    numbers = iter(range(1000))
    items = ((f"T-{number}", f"question {number}") for number in numbers)
    with _journal() as path:
        list(islice(resumable(items, str.upper, path), 3))
    hint = "list(items) needs the end of the input. Work on one item, yield it, go on."
    what = f"three answers of an endless input: items read ahead, over {READ_AHEAD}"
    expect_equal(max(next(numbers, 1000), READ_AHEAD), READ_AHEAD, what, hint=hint)


def pays_once(resumable: Any) -> None:
    """After a SIGKILL at the fifth answer, none of the five is paid for again."""
    with _journal() as path:
        kill = partial(in_another_process, run_until_killed, resumable, path, exit_code=-signal.SIGKILL)
        kill(what="the batch runs until it is killed", expected="a fifth answer, and then the kill")
        got, again = counted(partial(_ran, resumable, ITEMS, path, "a kill", ask_model))
    hint = "Write the answer, then flush, then yield: a line that waits in a buffer dies with the process."
    what, left = "what was answered before the kill is not paid for again: calls after it", len(ITEMS) - 5
    expect_equal(max(len(again), left), left, what, hint=hint)
    foreign = [key for (key, text), (_, answer) in zip(ITEMS, got, strict=True) if text not in str(answer)]
    expect_equal(foreign, [], "items that have no answer of their own after the kill", hint=hint)


def cuts_half_a_line(resumable: Any) -> None:
    """Half a line at the end of a journal of lines costs that one item, once."""
    with _journal() as path:
        first = _ran(resumable, ITEMS[2:6], path, "nothing", _Model())
        whole = path.read_bytes() if path.is_file() else b""
        if whole.count(b"\n") != 4 or not whole.endswith(b"\n"):
            return  # not a line for each item: a database keeps its own transactions whole
        path.write_bytes(whole[:-9])  # what a kill in the middle of a write leaves
        hint = "Half a line is no answer, and what is appended to it is lost with it: cut it off first."
        calls_after = {"half a line at the journal's end": len(ITEMS) - 5, "half a line that was mended": 0}
        for after, calls in calls_after.items():
            model = _Model()
            got = _ran(resumable, ITEMS[2:], path, after, model)
            expect_equal(len(model.asked), calls, f"calls after {after}", hint=hint)
            expect_equal(got[:3], first[:3], f"the pairs before it, after {after}", hint=hint)


def goes_by_keys(resumable: Any) -> None:
    """Each key keeps its own answer when items come in another order, and a new one in front of them."""
    new = [(f"T-{n}", random.choice(ITEMS)[1]) for n in random.sample(range(10, 10**6), 3 * READ_AHEAD)]
    items, done = [*ITEMS, *new], 2 * READ_AHEAD
    with _journal() as path:
        model = _Model()
        first = dict(islice(resumable(iter(items), model, path), done))
        paid = len(model.asked)
        others = (("T-0", "Do you sell gift cards?"), *reversed(items), *items[:done])
        got = _ran(resumable, others, path, "another order", model)
        foreign = [key for key, answer in got if first.get(key, answer) != answer]
    calls, most = len(model.asked) - paid, 1 + len(items) - done
    seen = f"{calls} calls, {len(foreign)} answers of another item or cut"
    wanted = f"{most} calls, for items that had not come out, and each old answer as it was"
    hint = "Look each key up; an error and an empty text are answers too, and one may hold a line break."
    expect(calls <= most and not foreign, observed=seen, expected=wanted, hint=hint)


EXERCISE = Exercise(
    title="A batch that can be killed",
    minutes=10,
    difficulty="medium",
    hints=(
        "Read the journal into a dict; then, for each item, look its key up, or ask and write; then yield.",
        "What you write stays in the process until journal.flush() hands it to the operating system.",
        "A line counts if it ends in a line break: journal.truncate(bytes of whole lines) cuts off the rest.",
    ),
    checks=(answers_in_order, can_be_interrupted, reads_as_needed, pays_once, goes_by_keys, cuts_half_a_line),
    why="Each line is written after its answer came and before anyone saw it: a kill costs what was under "
    "way. Keys, not counts, say whose line it is. BatchProcessor keeps these rules in SQLite.",
    deadline_s=45.0,
)
