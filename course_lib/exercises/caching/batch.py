"""Exercise 2.6, a batch that can be killed: what the endpoint was asked before and after a real SIGKILL.

Main path: EXERCISE -> exercises/caching.py. Each check runs the learner's function on a journal of its own;
where a kill is needed, in a process of its own.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path

from course_lib.exercises.engine.checks import expect, expect_equal, without_error
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.seen import counted, in_another_process
from course_lib.lm import client

Pair = tuple[str, str]
Resumable = Callable[[Iterable[Pair], Callable[[str], str], Path], Iterator[Pair]]

ITEMS: tuple[Pair, ...] = (
    ("T-1", "Where is my parcel?"),
    ("T-2", "The zip of my tent is torn."),
    ("T-3", "I was charged twice."),
    ("T-4", "How do I change my password?"),
    ("T-5", "Which boots run small?"),
    ("T-6", "Can I return a lamp?"),
    ("T-7", "My voucher is refused."),
    ("T-8", "When do you ship to Norway?"),
)
KILLED_AT = 5
READ_AHEAD = 16


def ask_model(text: str) -> str:
    """Ask the endpoint one question, without DSPy or cache; the answer says to what, so no two are equal."""
    body = {"model": "sim-small", "messages": [{"role": "user", "content": text}]}
    reply = client.call("POST", "/v1/chat/completions", body)["choices"][0]["message"]["content"]
    return f"{text} {reply}"


def run_until_killed(resumable: Resumable, path: Path) -> None:
    """Run the batch, and kill this process once call number KILLED_AT has been paid for."""
    calls = count(1)

    def ask(text: str) -> str:
        answer = ask_model(text)
        if next(calls) == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    for _ in resumable(ITEMS, ask, path):
        pass


@contextmanager
def _place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="course-") as folder:
        yield Path(folder) / "journal.jsonl"


def _resumed(
    resumable: Resumable, path: Path, after: str, items: Iterable[Pair] = ITEMS
) -> tuple[list[Pair], int]:
    """Run the batch again; returns what it yields, each key in order, and how many calls were paid."""
    pairs, calls = counted(
        lambda: without_error(
            lambda: [(str(key), answer) for key, answer in resumable(iter(items), ask_model, path)],
            f"the batch goes on after {after}",
            expected="the remaining items",
            hint="The journal's last line may be half a line. Which lines can be trusted?",
            errors=(ValueError, KeyError, IndexError, TypeError, AttributeError, OSError),
        )
    )
    expect_equal(
        [key for key, _ in pairs], [key for key, _ in items], f"the keys that come out after {after}"
    )
    return pairs, len(calls)


def answers_in_order_and_keeps_errors(resumable: Resumable) -> None:
    """Every item comes out once, in order, and one that fails comes out as an error."""

    def ask(text: str) -> str:
        if "zip" in text:
            raise TimeoutError("the model did not answer")
        return text.upper()

    with _place() as path:
        got = without_error(
            lambda: list(resumable(iter(ITEMS[:4]), ask, path)),
            "one failed item does not end the batch",
            expected="('T-2', 'error: TimeoutError'), and then the other items",
            hint="Catch Exception around ask(text) alone, and go on with a text that says what happened.",
            errors=TimeoutError,
        )
        wanted = [(key, text.upper()) for key, text in ITEMS[:4]]
        wanted[1] = ("T-2", "error: TimeoutError")
        expect_equal([tuple(pair) for pair in got], wanted, "the pairs that come out, one of them failed")


def reads_no_further_than_it_must(resumable: Resumable) -> None:
    """An input without an end is read as it is needed."""

    def endless() -> Iterator[Pair]:
        for read in count(1):
            expect(
                read <= READ_AHEAD,
                "three answers of an endless input can be had",
                observed=f"{read} items were read before the third answer came out",
                expected=f"at most {READ_AHEAD}",
                hint="list(items) needs the end of the input. Work on one item, yield it, go on.",
            )
            yield f"T-{read}", f"question {read}"

    with _place() as path:
        got = [tuple(pair) for pair in islice(resumable(endless(), str.upper, path), 3)]
        wanted = [(f"T-{n}", f"QUESTION {n}") for n in (1, 2, 3)]
        expect_equal(got, wanted, "the first three pairs of an endless input")


def pays_once_for_what_was_answered(resumable: Resumable) -> None:
    """After a SIGKILL at the fifth call, only the item that was under way is paid for again."""
    with _place() as path:
        _, paid = counted(
            lambda: in_another_process(
                run_until_killed,
                resumable,
                path,
                what=f"the batch runs until it is killed at call {KILLED_AT}",
                expected="a batch that was still calling the model",
                exit_code=-signal.SIGKILL,
                hint="Each item that is not in the journal is asked once, in order: is ask() called for all?",
            )
        )
        got, more = _resumed(resumable, path, "a kill")
        empty = [key for key, answer in got if not answer]
        expect(
            not empty,
            "every item has its answer after the kill",
            observed=f"no answer for {', '.join(empty)}",
            expected=f"the answer of {ITEMS[KILLED_AT - 1][0]}, which was under way, asked for again",
            hint="What the journal says is done must be done: write the line after ask() has answered.",
        )
        wanted = len(ITEMS) - KILLED_AT + 1
        expect(
            more == wanted,
            "what was answered before the kill is not paid for again",
            observed=f"{len(paid)} calls before the kill, {more} after it",
            expected=f"{wanted} after it: the item under way, and those that were never asked",
            hint="Before an answer is yielded its line must have left the process: write, then flush. A line "
            "that waits in a buffer, or for the end of the batch, dies with it. And no item is left out.",
        )
        _, again = _resumed(resumable, path, "a whole run")
        expect_equal(again, 0, "calls of a third run, when everything is in the journal")


def copes_with_half_a_line(resumable: Resumable) -> None:
    """A journal that ends in half a line costs that one item, once."""
    with _place() as path:
        list(resumable(iter(ITEMS[:4]), ask_model, path))
        whole = path.read_bytes() if path.is_file() else b""
        expect(
            whole,
            "the journal is a file at `path`",
            observed="nothing there, or an empty file",
            expected="what was answered, a line per item",
            hint="Open `path` for appending.",
        )
        path.write_bytes(whole[:-9])  # what a kill in the middle of a write leaves
        _, more = _resumed(resumable, path, "half a line at the journal's end")
        hint = "The half line is no answer: its item is asked again, and the four new ones once."
        expect_equal(more, len(ITEMS) - 3, "calls after half a line at the journal's end", hint=hint)
        _, again = _resumed(resumable, path, "half a line that was mended")
        hint = "Was the first new line glued to the half one? Cut the half line off before you append."
        expect_equal(again, 0, "calls of the run after that", hint=hint)


def goes_by_keys(resumable: Resumable) -> None:
    """Each key keeps its own answer when a new item comes in front of the others."""
    with _place() as path:
        first = dict(resumable(iter(ITEMS[:4]), ask_model, path))
        items = (("T-0", "Do you sell gift cards?"), *ITEMS[:4])
        got, more = _resumed(resumable, path, "a new item in front", items)
        foreign = [key for key, answer in got if first.get(key, answer) != answer]
        expect(
            more == 1 and not foreign,
            observed=f"{more} calls, {len(foreign)} answers of another item",
            expected="1 call, for the new item",
            hint="How many lines there are does not say which items they are of: look a key up.",
        )


EXERCISE = Exercise(
    id="2.6",
    title="A batch that can be killed",
    lesson="02_caching",
    minutes=15,
    difficulty="medium",
    concepts=("checkpoint", "JSONL", "flush", "generators", "idempotence"),
    hints=(
        "Three steps: read the journal into a dict of key -> answer, then for each item look its key up or "
        "ask, then yield. What is asked is written before it is yielded.",
        "A file object keeps what you write in the process until it is full or flushed; SIGKILL gives it no "
        "time for either. journal.flush() hands the line to the operating system, which survives.",
        "A line counts if it ends in a line break. Cut the rest off before you append: "
        "`with path.open('r+b') as journal: journal.truncate(length of the whole lines in bytes)`.",
    ),
    checks=(
        answers_in_order_and_keeps_errors,
        reads_no_further_than_it_must,
        pays_once_for_what_was_answered,
        copes_with_half_a_line,
        goes_by_keys,
    ),
    why="A journal is true if each line was written after its answer came, and before anyone saw it. Then a "
    "kill costs what was under way and nothing else. Keys, not counts, say whose line it is; and half a line "
    "is cut off, for what is appended to it would be lost with it. BatchProcessor keeps the same rules with "
    "many items under way, in SQLite, whose transactions are whole or not there.",
    deadline_s=45.0,
)
