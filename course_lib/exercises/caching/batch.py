"""Exercise 2.6, a batch that can be killed: random items, runs and kills, and what may come out of them.

Main path: EXERCISE -> engine.registry; each check draws items and lets a `_World` run the learner's function.
"""

from __future__ import annotations

import atexit
import os
import random
import resource
import shutil
import signal
import unicodedata
from asyncio import CancelledError, QueueFull
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from course_lib.exercises.engine.checks import CheckFailed, expect, expect_equal, show
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted, in_another_process
from course_lib.lm import client

Pair = tuple[str, str]

READ_AHEAD = 16
_PIECES = (*"aB0-éßſ𝄞 \t\n\r\x0b\0\x85\u2028\ufeff\\\"',:[", "e\u0301", "\r\n", "\\n", "null", "error: ")
_NAMED = ("Busy", "LMRateLimitError", "APITimeoutError", "TimeoutError", "ConnectionError")
_NESTED = [type(name, (TimeoutError,), {"__qualname__": f"Model.{name}"}) for name in _NAMED]
_ERRORS = (QueueFull, StopIteration, KeyError, OSError, RecursionError, AssertionError, *_NESTED)
_INTERRUPTS = (KeyboardInterrupt, SystemExit, CancelledError, type("Stop", (BaseException,), {}))


def alike(text: str) -> list[str]:
    """Return a text and others that are nearly it: in case, blanks, a letter, far from both ends."""
    changed = [text, text.swapcase(), text.casefold(), text.strip(), unicodedata.normalize("NFC", text)]
    changed += [text + end for end in (*" \0\r\néö", "\u2028")] + [start + text for start in "0 \t\ufeff"]
    return [*dict.fromkeys([*changed, *(text * 150 + middle + text * 150 for middle in "ab")])]


def _text(most: int = 4) -> str:
    return "".join(random.choices(_PIECES, k=random.randint(0, most)))


def _items(more: int = 0) -> list[Pair]:
    """Draw items whose keys are nearly equal, and which have few texts."""
    base, number = f"{_text()}aßB{_text()}e\u0301", random.randint(1, 9)
    keys = [*alike(base), f"{number}", f"0{number}", f"{number}.0", ""]
    keys = [*dict.fromkeys([*keys, *(f"{_text()}{n}" for n in range(10, 12 + more))])]
    texts = [_text() for _ in range(4)]
    return [(key, random.choice(texts)) for key in random.sample(keys, len(keys))]


class _Model:
    """Answers differently each time, with any text or an error; `given` lists what it said to which text."""

    def __init__(self, interrupt: Any = None, at: int = 0, *, fails_at: int = 4, says: str = "") -> None:
        self.given, self.raised, self.calls = list[Pair](), list[BaseException](), 0
        self.interrupt, self.at, self.fails_at, self.says = interrupt, at, fails_at, says

    def __call__(self, text: str) -> str:
        self.calls += 1
        if self.interrupt and self.calls == self.at:
            raise self.interrupt
        answers = ["", f"{_text(8)}{random.random()}", f"{_text()}é𝄞{self.calls}{_text()}"]
        answer = self.says or random.choice([*answers, f"error: {random.choice(_ERRORS).__name__}"])
        if self.calls % self.fails_at == 0:
            self.raised.append(random.choice(_ERRORS)("the model did not answer"))
            self.given.append((text, f"error: {type(self.raised[-1]).__name__}"))
            raise self.raised[-1]
        self.given.append((text, answer * random.choice((1,) * 9 + (900,))))
        return self.given[-1][1]


class _World:
    """A learner's batch and its journal, beside `known`: all that came out, which is to come out again."""

    def __init__(self, resumable: Any, *folder: str) -> None:
        self.resumable, self.folder, self.name, self.told = resumable, Path(*folder), "journal", ""
        self.known, self.perhaps = dict[str, str](), dict[str, str]()
        self.folder.mkdir(exist_ok=True)

    def run(self, items: Sequence[Pair], most: int = 10**6, model: _Model | None = None) -> None:
        """Run the batch, to its end or to a kill at an answer, and compare what comes out with what may."""
        model, got, began = model or _Model(), list[Pair](), self.told
        is_whole = most >= len(items) and not model.interrupt
        ended = f" (interrupted at call {model.at})" if model.interrupt else f" (killed at answer {most})"
        self.told += f"{', then ' * bool(began)}{len(items)} items{'' if is_whole else ended}"
        try:
            self._read(items, most, model, got)
            seen, wanted = f"{len(got)} answers, and no interrupt", "what interrupted ask, raised"
            hint = "A bare except, or BaseException, catches more than errors: say Exception."
            expect(not model.interrupt, f"the end of {self.told}", observed=seen, expected=wanted, hint=hint)
        except BaseException as error:
            is_told = began or {error, error.__cause__} & {*model.raised}
            if is_told and isinstance(error, Exception) and not isinstance(error, CheckFailed):
                hint = "Catch Exception around ask(text) alone. And which lines of the journal count?"
                seen, what = f"{type(error).__name__}: {error!s:.200}", f"the batch goes on: {self.told}"
                raise CheckFailed(what, observed=seen, expected="no error", hint=hint) from error
            if error is not model.interrupt:
                raise
        self._judge(items, got, model, is_whole=is_whole)

    def _read(self, items: Sequence[Pair], most: int, model: _Model, got: list[Pair]) -> None:
        """Read answers, and see how many items each needed; a copy of the folder is what a kill leaves."""
        left: Any = iter(items)
        for key, answer in self.resumable(left, model, self.folder / self.name):
            got.append((key, answer))
            hint = "list(items) needs the end of the input. Work on one item, yield it, go on."
            what = f"items read ahead of answer {len(got)}, over {READ_AHEAD}"
            ahead = max(len(items) - left.__length_hint__() - len(got), READ_AHEAD)
            expect_equal(ahead, READ_AHEAD, what, hint=hint)
            if len(got) == most:
                self.folder = Path(shutil.copytree(self.folder, f"{self.folder}-killed"))
                return

    def _judge(self, items: Sequence[Pair], got: list[Pair], model: _Model, *, is_whole: bool) -> None:
        hint = "The items say what comes out, and in which order; the journal only knows answers."
        due = items if is_whole else items[: len(got)]
        for number, (pair, item) in enumerate(zip_longest(got, due, fillvalue=(None,)), start=1):
            what = f"the key of answer {number} of {len(got)}: {self.told}"
            expect_equal(pair[0], item[0], what, hint=hint)
        hint = "Look its key up; an error and an empty text are answers too. Write, flush, then yield."
        for key, answer in got:
            what = f"the answer to key {key!r:.60}, which came out before: {self.told}"
            expect_equal(answer, self.known.get(key, answer), what, hint=hint)
        texts, new = dict(items), [(key, answer) for key, answer in got if key not in self.known]
        hint = "What ask returned, as it is, or its error's class; for each key, and not for each text."
        given = Counter(model.given)
        for key, answer in (pair for pair in new if pair not in self.perhaps.items()):
            said = [each for text, each in given.elements() if text == texts[key]]
            what = f"the answer to key {key!r:.60}, one that ask gave to its text: {self.told}"
            seen, wanted = show(answer), f"one of {show(said)}, which no other key has"
            expect(answer in said, what, observed=seen, expected=wanted, hint=hint)
            given[texts[key], answer] -= 1
        hint = "Ask once for each item, not again for what came out. The journal is the file at `path` alone."
        most = len(new) + (0 if is_whole else READ_AHEAD + 1)
        expect_equal(max(model.calls, most), most, f"calls for {len(new)} new keys: {self.told}", hint=hint)
        self.known |= got


def answers_in_order(resumable: Any) -> None:
    """Every item is asked once and comes out in order, and one that fails comes out as an error."""
    items = _items()
    with TemporaryDirectory(prefix="course-") as folder:
        for name, fails_at in (("a", 4), ("b", 1)):
            world = _World(resumable, folder, "two")
            world.name = name  # a journal each: all is asked again
            world.run(items, model=_Model(fails_at=fails_at))


def goes_by_keys(resumable: Any) -> None:
    """What came out comes out again, after kills and in another order; 16 items are read ahead at most."""
    for more in (0, 0, 0, 90):
        items = _items(more)
        with TemporaryDirectory(prefix="course-") as folder:
            world = _World(resumable, folder, "world")
            for count in random.choices(range(1, len(items)), k=3):
                world.run(random.sample(items, count), random.choice([random.randint(1, count), 99]))
            for _ in range(3):
                world.run(random.sample(items, len(items)))


def can_be_interrupted(resumable: Any) -> None:
    """An interrupt is no answer: it ends the batch, and its item is asked again."""
    for interrupt in _INTERRUPTS:
        items = _items()
        with TemporaryDirectory(prefix="course-") as folder:
            world = _World(resumable, folder, "world")
            world.run(items, model=_Model(interrupt("stop"), at=random.randint(1, 9)))
            world.run(items)


def cuts_half_a_line(resumable: Any) -> None:
    """Half a line at the end of a journal of lines costs that one item, once."""
    items = [("a parcel", "Where is it?"), *((f"{key}é", text) for key, text in _items())][:6]
    for count, says in ((1, "on its way"), (2, ""), (3, "")):
        with TemporaryDirectory(prefix="course-") as folder:
            first = _World(resumable, folder, "whole")
            first.run(items[:count], model=_Model(says=says))
            whole = b"".join(each.read_bytes() for each in first.folder.glob("journal") if each.is_file())
            last = whole.rfind(b"\n", 0, -1) + 1
            if whole.count(b"\n") != count or not whole.endswith(b"\n"):
                continue  # not a line for each item: a database keeps its own transactions whole
            ends = random.sample(range(last + 1, len(whole)), min(40, len(whole) - last - 1))
            for end in {*ends, len(whole) - 1}:
                world = _World(resumable, folder, f"cut at {end}")
                world.known, world.perhaps = dict([*first.known.items()][:-1]), first.known
                world.told = f"a journal of {count}, the last one cut to {whole[last:end]!r:.60}"
                (world.folder / "journal").write_bytes(whole[:end])
                for _ in range(3):
                    world.run(items)


def ask_model(text: str) -> str:
    """Ask the endpoint one question, without DSPy or cache; the answer says to what, so no two are equal."""
    body = {"model": "sim-small", "messages": [{"role": "user", "content": text}]}
    reply = client.call("POST", "/v1/chat/completions", body)["choices"][0]["message"]["content"]
    return f"{text} {reply}"


def pays_once(resumable: Any) -> None:
    """After a SIGKILL at the fifth answer, none of the five is paid for again."""
    items = [(key, f"Where is parcel {number}?") for number, (key, _) in enumerate(_items()[:9], start=100)]
    with TemporaryDirectory(prefix="course-") as folder:

        def run_until_killed(most: int) -> None:
            for number, _ in enumerate(resumable(iter(items), ask_model, path), start=1):
                if number == most:
                    os.kill(os.getpid(), signal.SIGKILL)
                if number == 5:  # what is written next stops in the middle, and the process ends
                    atexit.register(os.kill, os.getpid(), signal.SIGKILL)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 9,) * 2)

        path, killed = Path(folder, "journal"), -signal.SIGKILL
        what, wanted = "the batch runs until it is killed", "a fifth answer, and then the kill"
        for most in (5, 6):
            in_another_process(run_until_killed, most, what=what, expected=wanted, exit_code=killed)
        got, again = counted(lambda: [*resumable(iter(items), ask_model, path)])
    hint = "Write the answer, then flush, then yield: a line that waits in a buffer dies with the process."
    what, left = "what was answered before the kill is not paid for again: calls after it", len(items) - 5
    expect_equal(max(len(again), left), left, what, hint=hint)
    foreign = [key for (key, text), (_, answer) in zip(items, got, strict=True) if text not in str(answer)]
    expect_equal(foreign, [], "items that have no answer of their own after the kill", hint=hint)


EXERCISE = Exercise(
    title="A batch that can be killed",
    minutes=10,
    difficulty="medium",
    hints=(
        "Read the journal into a dict; then, for each item, look its key up, or ask and write; then yield.",
        "What you write stays in the process until journal.flush() hands it to the operating system.",
        "A line counts if it ends in a line break: journal.truncate(bytes of whole lines) cuts off the rest.",
    ),
    checks=(answers_in_order, can_be_interrupted, goes_by_keys, pays_once, cuts_half_a_line),
    why="Each line is written after its answer came and before anyone saw it: a kill costs what was under "
    "way. Keys, not counts, say whose line it is. BatchProcessor keeps these rules in SQLite.",
    deadline_s=100.0,
)
