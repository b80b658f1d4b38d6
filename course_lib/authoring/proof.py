"""The proof of each exercise from four sides: stub, solution, other right answers, wrong answers.

Main path: prove() -> a Proof per exercise, each from a process of its own; report(proofs) -> lines to read.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from unittest import mock

from course_lib.authoring import regions, trial
from course_lib.authoring.kernel import isolated
from course_lib.authoring.lesson import AuthoringError, Cell, Lesson
from course_lib.authoring.reading import read_all
from course_lib.authoring.trial import Plan, Verdict
from course_lib.paths import LESSONS

EXERCISE_DEADLINE_S = 900.0
AT_ONCE = 6
"""More than cores: a check waits for deadlines and answers, two thirds of its time and more. With eight, on
two busy cores, a check that times something was seen to judge the machine instead of the answer.
"""
LONGEST = ("2.3", "5.3", "6.7.3", "4.6", "0.1", "6.6.2")
"""Begun first, whatever the number of their answers, so that none of them is left for the end, alone."""
PROCESSES = ForkServerContext() if sys.platform == "linux" else SpawnContext()
"""Forked from one process that has imported DSPy, where a fork is safe with the system's own libraries."""
LEAST_WRONG, LEAST_RIGHT = 6, 2
"""How many answers an exercise ships at least."""

_lock = threading.Lock()  # to start a process, multiprocessing looks at the others


@dataclass(frozen=True, slots=True)
class Proof:
    """What the four sides of one exercise showed."""

    id: str
    stub: Verdict
    solution: Verdict
    right: tuple[Verdict, ...]
    wrong: tuple[Verdict, ...]
    problems: tuple[str, ...]
    """What does not hold, each with its file and line; empty for a proved exercise."""

    @property
    def holds(self) -> bool:
        """Whether all four sides are as they should be."""
        return not self.problems

    def as_dict(self) -> dict[str, object]:
        """Return the proof as `course proof --json` prints it: outcomes, and a message for each answer."""
        answers = {
            side: [{"outcome": each.outcome, "message": each.message} for each in verdicts]
            for side, verdicts in (("right", self.right), ("wrong", self.wrong))
        }
        return {"id": self.id, "stub": self.stub.outcome, "solution": self.solution.outcome, **answers}


def prove(
    only: Collection[str] | None = None, *, lessons: Path = LESSONS, most_wrong: int | None = None
) -> list[Proof]:
    """Prove the exercises of every lesson, or those named, in the order of the course.

    Args:
        only: their ids; all without it.
        lessons: the folder of the lessons.
        most_wrong: try so many wrong answers of an exercise at most, from its first to its last; else all.

    Raises:
        BrokenLessonError: a lesson's source is wrong.
        AuthoringError: an exercise named is in no lesson.
    """
    found = {exercise: lesson for lesson in read_all(lessons) for exercise in lesson.exercise_ids()}
    if unknown := [exercise for exercise in only or () if exercise not in found]:
        raise AuthoringError(f"no lesson sets exercise {', '.join(unknown)}; known: {', '.join(found)}")
    wanted = [exercise for exercise in found if not only or exercise in only]
    if sys.platform == "linux":
        _import_once()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = {
            each: pool.submit(prove_one, found[each], each, most_wrong)
            for each in sorted(
                wanted, key=lambda each: (each not in LONGEST, -len(found[each].cells_of(each, "wrong")))
            )
        }
        return [begun[exercise].result() for exercise in wanted]


def _import_once() -> None:
    """Begin the process from which trials are forked; the cache's name leads to each trial's own folder."""
    forkserver.set_forkserver_preload(["dspy", "IPython.core.interactiveshell"])
    with mock.patch.dict(os.environ, DSPY_CACHEDIR="dspy_cache"):  # DSPy keeps it from its import on
        forkserver.ensure_running()


def prove_one(lesson: Lesson, exercise: str, most_wrong: int | None = None) -> Proof:
    """Prove one exercise of a lesson in a process and a work folder of its own."""
    own, right, shipped_wrong = (lesson.cells_of(exercise, part) for part in ("exercise", "right", "wrong"))
    count = len(shipped_wrong)
    tried = count if most_wrong is None else min(most_wrong, count)
    wrong = [shipped_wrong[number * count // tried] for number in range(tried)]
    expected = [
        (own[0], "the stub", "not attempted"),
        (own[0], "the solution", "passed"),
        *((cell, "the right answer", "passed") for cell in right),
        *((cell, "the wrong answer", cell.outcome) for cell in wrong),
    ]
    stub, solution, *answers = verdicts = _try(plan(lesson, exercise, [*right, *wrong]))
    problems = [
        problem
        for (cell, side, outcome), verdict in zip(expected, verdicts, strict=True)
        for problem in _side(cell, side, verdict, outcome)
    ]
    passed, refused = answers[: len(right)], answers[len(right) :]
    problems += [
        f"{own[0].line}: {len(shipped)} {kind} answers are shipped; at least {wanted} are needed"
        for kind, shipped, wanted in (("wrong", shipped_wrong, LEAST_WRONG), ("right", right, LEAST_RIGHT))
        if len(shipped) < wanted
    ]
    if len({regions.learner(cell.source) for cell in shipped_wrong}) < count:
        problems.append(f"{own[0].line}: two wrong answers are the same")
    located = tuple(f"lessons/{lesson.path.name}:{each}" for each in problems)
    return Proof(exercise, stub, solution, tuple(passed), tuple(refused), located)


def plan(lesson: Lesson, exercise: str, answers: Sequence[Cell]) -> Plan:
    """Return what must run to prove one exercise: stub, solution, then these answers."""
    own, checks = lesson.cells_of(exercise, "exercise"), lesson.cells_of(exercise, "check")
    needs = [
        regions.solved(cell.source)
        for cell in lesson.cells
        if cell.has("needs") and cell.exercise != exercise and cell.line < checks[-1].line
    ]
    solved = {cell.id: regions.solved(cell.source) for cell in own}
    attempts = [{cell.id: regions.learner(cell.source) for cell in own}, solved]
    for answer in answers:
        replaced = [cell for cell in own if cell.line < answer.line][-1]
        attempts.append({**solved, replaced.id: answer.source})
    return Plan(needs, [list(each.values()) for each in attempts], [cell.source for cell in checks])


def _try(plan: Plan) -> list[Verdict]:
    with tempfile.TemporaryDirectory(prefix="course-proof-") as scratch:
        folder = Path(scratch)
        environment = {**isolated(folder), "MPLBACKEND": "agg"}
        process = PROCESSES.Process(target=trial.main, args=(plan, folder, environment))
        with _lock:
            process.start()
        is_late = not wait([process.sentinel], EXERCISE_DEADLINE_S)
        with _lock:
            if is_late:
                process.kill()  # the servers it started end with it
            process.join()
        answer, log = folder / trial.ANSWER, folder / trial.LOG
        if answer.exists() and not is_late:
            return [Verdict(**each) for each in json.loads(answer.read_text("utf-8"))]
        late = f"was stopped after {EXERCISE_DEADLINE_S:.0f} s"
        ended = late if is_late else f"ended with exit code {process.exitcode}"
        lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
        words = f"its process {ended}: {' | '.join(lines[-3:])}"
        return [Verdict("raised", words, words)] * len(plan.attempts)


def _side(cell: Cell, side: str, verdict: Verdict, outcome: str | None) -> list[str]:
    if verdict.outcome != outcome:
        return [f"{cell.line}: {side} should be {outcome!r}, it is {verdict.outcome!r}: {verdict.message}"]
    told = f"{verdict.message}\n{verdict.text}"
    if cell.message and not says(told, cell.message):
        return [f"{cell.line}: {side} should be told {cell.message!r}, it is told {told!r}"]
    return []


def says(text: str, message: str) -> bool:
    """Whether `text` holds `message`, as it stands or as a regular expression.

    >>> says("0.1 failed: got 3, not 4", "got 3"), says("0.1 failed: got 3, not 4", "got [0-9], not 4")
    (True, True)
    """
    if message in text:
        return True
    try:
        return re.search(message, text) is not None
    except re.error:
        return False


def report(proofs: Sequence[Proof]) -> str:
    """Return one line per exercise, what does not hold, and the counts."""
    lines: list[str] = []
    for proof in proofs:
        state = "proved" if proof.holds else "NOT proved"
        sides = f"stub {proof.stub.outcome}, solution {proof.solution.outcome}"
        answers = f"{len(proof.right)} right and {len(proof.wrong)} wrong answers"
        lines.append(f"{proof.id:<5} {state}: {sides}, {answers}")
        lines += [f"      {problem}" for problem in proof.problems]
    lines.append(
        f"exercises proved: {sum(proof.holds for proof in proofs)} of {len(proofs)}; "
        f"stubs not attempted: {sum(proof.stub.outcome == 'not attempted' for proof in proofs)}, "
        f"solutions passed: {sum(proof.solution.outcome == 'passed' for proof in proofs)}, "
        f"other right answers tried: {sum(len(proof.right) for proof in proofs)}, "
        f"wrong answers tried: {sum(len(proof.wrong) for proof in proofs)}"
    )
    return "\n".join(lines)
