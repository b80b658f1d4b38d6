"""A run captured at the model's boundary: replayed without a model, walked through, edited, compared.

Main path: with record("run.jsonl"): ...; with replay("run.jsonl"): ...; diff(before, after). In a test,
`with golden("tests/golden/triage.jsonl"): program(...)`; GoldenError says what differs from the kept run.
The endpoint writes and answers (lm.taping); here DSPy's own cache is put aside, since what a cache answers
reaches no endpoint, and the recording becomes an object.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import Path
from typing import Any, overload

import dspy
from dspy.clients.cache import Cache

from course_lib.lm import client, taping
from course_lib.lm.places import in_place_of, ordinary
from course_lib.lm.recordings import (
    CHAT,
    Recorded,
    RecordingError,
    Writer,
    differing,
    each_text,
    lines_of,
    load,
)

_MOST_MATCHED = 200


class Recording(Sequence[Recorded]):
    """The requests of a run and their answers, in the order in which they came; an edit makes a new one."""

    def __init__(self, steps: Sequence[Recorded]) -> None:
        self._steps = tuple(steps)

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read a recording from its file.

        Raises:
            RecordingError: as lm.recordings.load says; or it is no ordinary file.
        """
        return cls(load(ordinary(path)))

    def save(self, path: str | Path) -> None:
        """Write it to a file that its owner alone may read, in place of what is there, as a whole.

        Raises:
            RecordingError: it cannot be written; what was there is untouched.
        """
        with in_place_of(ordinary(path)) as file:
            writer = Writer(file)
            for step in self:
                writer.add_line(step.as_line())
            writer.close()

    @overload
    def __getitem__(self, at: int) -> Recorded: ...
    @overload
    def __getitem__(self, at: slice) -> Recording: ...
    def __getitem__(self, at: int | slice) -> Recorded | Recording:
        """Return a step, 0 for the first, or some of them as a recording."""
        return Recording(self._steps[at]) if isinstance(at, slice) else self._steps[at]

    def __len__(self) -> int:
        return len(self._steps)

    def __repr__(self) -> str:
        rows = [
            f"{at:3}  {step.status}  {step.took_ms:8,.1f} ms  {_short(_asked(step))} -> {_short(step.reply)}"
            for at, step in enumerate(self)
        ]
        return "\n".join([f"Recording of {len(self)} requests", *rows])

    def with_reply(self, at: int, reply: str) -> Recording:
        """Return a copy in which the model wrote something else at this step.

        Replay it with `asks=True`, and the program goes on from there with the model.
        """
        return self._with(at, self[at].with_reply(reply))

    def with_prompt(self, at: int, old: str, new: str) -> Recording:
        """Return a copy in which the request of this step says `new` for `old`; ask() what then comes.

        Raises:
            RecordingError: `old` is nowhere in the messages.
        """
        step = self[at]
        asked = step.request.get("messages", [])  # a request for vectors has none
        messages = each_text(asked, lambda text: text.replace(old, new))
        if messages == asked:
            raise RecordingError(
                f"{old!r} is nowhere in the messages of step {at}; print(recording[{at}].prompt)"
            )
        return self._with(at, replace(step, request={**step.request, "messages": messages}, key=""))

    def _with(self, at: int, step: Recorded) -> Recording:
        at = range(len(self))[at]
        return Recording([*self._steps[:at], step, *self._steps[at + 1 :]])


def ask(step: Recorded) -> str:
    """Send the request of one step to the model now, and return the text that it writes."""
    request = {
        name: value for name, value in step.request.items() if name not in ("stream", "stream_options")
    }
    answer = client.call("POST", CHAT, request)
    return str(answer["choices"][0]["message"].get("content") or "")


@contextmanager
def record(path: str | Path, *, redact: Callable[[str], str] | None = None) -> Iterator[Path]:
    """Write each request of this process that reaches the endpoint, and its answer, to a new file.

    DSPy's cache is put aside in the block, for the whole process. A recording holds what people and models
    wrote, unless `redact` takes it out; keys are in none. One that is there already is replaced at the end,
    if the block has asked anything; of a process that is killed the new one stands beside it.

    Raises:
        RecordingError: the file cannot be written, or another block or process records to it, or the endpoint
            ended meanwhile, or nothing was asked; a recording that was there is untouched.
    """
    with _without_cache(), taping.record(path, redact=redact):
        yield Path(path)


@contextmanager
def replay(
    recording: str | Path | Sequence[Recorded], *, pace: float = 0.0, asks: bool = False
) -> Iterator[Recording]:
    """Answer this process's requests from a recording, or its file; no model is asked.

    DSPy's cache is put aside in the block, for the whole process. Arguments and errors are those of
    lm.taping.replay: a request that is not recorded fails, and so does the block. A process replays one
    recording at a time, in whatever thread.

    Raises:
        RecordingError: also where another block is open.
    """
    is_file = isinstance(recording, str | Path)
    steps = Recording.load(recording) if is_file else Recording(recording)  # type: ignore[arg-type]
    if not _replaying.acquire(blocking=False):
        raise RecordingError("this process replays another recording already; end that block before this one")
    try:
        with _without_cache(), taping.replay(steps, pace=pace, asks=asks):
            yield steps
    finally:
        _replaying.release()


_replaying = threading.Lock()  # at the endpoint a key has one recording
_lock = threading.Lock()
_put_aside: list[Any] = []  # the cache, once for each block that is open in any thread


@contextmanager
def _without_cache() -> Iterator[None]:
    with _lock:
        if not _put_aside:
            _put_aside.append(vars(dspy).get("cache"))  # not there before its first use
            dspy.cache = Cache(enable_disk_cache=False, enable_memory_cache=False, disk_cache_dir=None)
        else:
            _put_aside.append(_put_aside[0])
    try:
        yield
    finally:
        with _lock:
            former = _put_aside.pop()
            if not _put_aside and former is None:
                del dspy.cache
            elif not _put_aside:
                dspy.cache = former


# -- comparing -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """What differs at one step: in the prompt, in the answer, or the step is in one of the runs alone."""

    before: int | None
    """The step's number in the first run, None if it has none."""
    after: int | None
    prompt: tuple[str, ...]
    """The lines that differ, behind a minus or a plus."""
    reply: tuple[str, ...]

    def __str__(self) -> str:
        if self.before is None or self.after is None:
            where = f"only in the {'second' if self.before is None else 'first'} run"
            number = self.after if self.before is None else self.before
            return "\n".join([f"step {number}, {where}:", *(f"    {line}" for line in self.prompt)])
        place = f"step {self.before}" + f" (now {self.after})" * (self.before != self.after)
        parts = [("prompt", self.prompt), ("answer", self.reply)]
        lines = [
            line for name, part in parts if part for line in (f"  {name}:", *(f"    {each}" for each in part))
        ]
        return "\n".join([f"{place}:", *lines])


@dataclass(frozen=True, slots=True, repr=False)
class RunDiff:
    """All that differs between two runs; true if anything does."""

    changes: tuple[Change, ...]
    steps: int
    """How many steps the longer run has."""

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __repr__(self) -> str:
        if not self:
            return f"The runs are alike in all {self.steps} steps."
        head = f"{len(self.changes)} of {self.steps} steps differ:"
        return "\n".join([head, *map(str, self.changes)])


def diff(before: Sequence[Recorded], after: Sequence[Recorded]) -> RunDiff:
    """Compare two runs step by step: prompts by line, and answers; times and ids of requests do not count.

    Steps that ask for the same are laid beside one another, and what stands between two of them in order. Of
    long runs the first of equal requests is laid beside the first of the other run, the second beside the
    second: to look for more that are alike takes the cube of their number.
    """
    is_long = max(len(before), len(after)) > _MOST_MATCHED
    keys = [_keys(steps, is_numbered=is_long) for steps in (before, after)]
    changes = []
    for _, i, i_end, j, j_end in SequenceMatcher(a=keys[0], b=keys[1], autojunk=False).get_opcodes():
        for at, other in zip_longest(range(i, i_end), range(j, j_end)):
            first, second = None if at is None else before[at], None if other is None else after[other]
            change = Change(at, other, *_differences(first, second))
            if change.prompt or change.reply:
                changes.append(change)
    return RunDiff(tuple(changes), max(len(before), len(after)))


def _keys(steps: Sequence[Recorded], *, is_numbered: bool) -> list[tuple[str, int]]:
    """Return what each step asked, and for which time; else each is like the first of its kind."""
    asked = Counter[str]()
    keys = []
    for step in steps:
        keys.append((step.key, asked[step.key]))
        asked[step.key] += is_numbered
    return keys


def _differences(first: Recorded | None, second: Recorded | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if first is None or second is None:
        asked = [_asked(step).split("\n") if step else [] for step in (first, second)]
        return tuple(differing(asked[0], asked[1])), ()
    prompt = tuple(differing(lines_of(first.request), lines_of(second.request)))
    return prompt, tuple(differing(first.reply.split("\n"), second.reply.split("\n")))


def _asked(step: Recorded) -> str:
    """Return what was asked, without the line about the answer's form that adapters add."""
    messages = step.request.get("messages") or [{"content": step.request.get("input")}]
    return str(messages[-1].get("content")).split("\n\nRespond with")[0]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."


# -- a run that is kept, a regression test for prompts and answers ---------------------------------------

UPDATE = "COURSE_GOLDEN"
"""With `COURSE_GOLDEN=update` in the environment, kept runs are written anew."""


class GoldenError(AssertionError):
    """A run differs from the kept one, or there is none; pytest shows it as a failed test."""


@contextmanager
def golden(path: str | Path, *, in_order: bool = True) -> Iterator[None]:
    """Compare what the block asks the model, and what it answers, with a run that is kept in a file.

    Args:
        path: the kept run, a recording. Where it is missing, `COURSE_GOLDEN=update` writes it.
        in_order: whether the order counts; in a program that asks several things at once it does not.

    Raises:
        GoldenError: something differs. The message shows each step: prompt by line, and answer.
        RecordingError: the kept run cannot be read or written, or the block asked nothing.
    """
    path = ordinary(path)
    with tempfile.TemporaryDirectory() as folder:
        with record(Path(folder) / "run.jsonl") as file:
            yield
        run = Recording.load(file)
    how = f"run again with {UPDATE}=update, look at the difference, and commit the file"
    if os.environ.get(UPDATE) == "update":
        run.save(path)
        return
    if not path.exists():
        raise GoldenError(f"there is no kept run {path}; {how}")
    kept = Recording.load(path)
    if not in_order:
        kept, run = (Recording(sorted(each, key=lambda step: (step.key, step.reply))) for each in (kept, run))
    if found := diff(kept, run):
        raise GoldenError(f"this run is not the one in {path}. {found}\nIf that is right, {how}.")
