"""The proof of each exercise from four sides: stub, solution, other right answers, wrong answers.

Main path: prove() -> a Proof per exercise, each from a process of its own; report(proofs) -> lines to read.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from course_lib.authoring import regions
from course_lib.authoring.build import registered
from course_lib.authoring.errors import AuthoringError
from course_lib.authoring.isolation import isolated
from course_lib.authoring.lesson import Cell, Lesson
from course_lib.authoring.reading import read_all
from course_lib.authoring.trial import Attempt, Plan, Verdict
from course_lib.paths import LESSONS

EXERCISE_DEADLINE_S = 300.0
AT_ONCE = 2
WRONG_ANSWERS_WANTED = 3


class UnknownExercisesError(AuthoringError):
    """A proof was asked of an exercise that no lesson sets."""


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
    advice: tuple[str, ...] = ()
    """What would make the proof stronger."""

    @property
    def holds(self) -> bool:
        """Whether all four sides are as they should be."""
        return not self.problems

    def as_dict(self) -> dict[str, object]:
        """Return the proof as `course proof --json` prints it."""
        sides = {"right": self.right, "wrong": self.wrong}
        told = {
            side: [{"outcome": each.outcome, "message": each.message} for each in verdicts]
            for side, verdicts in sides.items()
        }
        return {"id": self.id, "stub": self.stub.outcome, "solution": self.solution.outcome, **told}


def prove(
    only: Collection[str] | None = None, *, lessons: Path = LESSONS, known: Collection[str] | None = None
) -> list[Proof]:
    """Prove the exercises of every lesson, or those named, in the order of the course.

    Raises:
        BrokenLessonError: a lesson's source is wrong.
        UnknownExercisesError: an exercise named is in no lesson.
    """
    known = registered() if known is None else known
    found = {
        exercise: lesson for lesson in read_all(lessons, known=known) for exercise in lesson.exercise_ids()
    }
    unknown = [exercise for exercise in only or () if exercise not in found]
    if unknown:
        raise UnknownExercisesError(
            f"no lesson sets exercise {', '.join(unknown)}; known: {', '.join(found) or 'none'}"
        )
    wanted = [(exercise, lesson) for exercise, lesson in found.items() if not only or exercise in only]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        proofs = list(pool.map(lambda pair: prove_one(pair[1], pair[0]), wanted))
    missing = [] if only else [exercise for exercise in known if exercise not in found]
    return proofs + [_unset(exercise) for exercise in missing]


def prove_one(lesson: Lesson, exercise: str) -> Proof:
    """Prove one exercise of a lesson in a process and a work folder of its own."""
    own, right, wrong = (lesson.cells_of(exercise, part) for part in ("exercise", "right", "wrong"))
    stub, solution, *answers = _try(plan(lesson, exercise))
    passed, refused = answers[: len(right)], answers[len(right) :]
    problems = [
        *_side(own[0], "the stub", stub, "not attempted"),
        *_side(own[0], "the solution", solution, "passed"),
        *_enough(own[0], len(wrong)),
    ]
    for cell, verdict in zip(right, passed, strict=True):
        problems += _side(cell, "the right answer", verdict, "passed")
    for cell, verdict in zip(wrong, refused, strict=True):
        problems += _side(cell, "the wrong answer", verdict, cell.outcome or "", cell.message or "")
    located = tuple(f"lessons/{lesson.path.name}:{each}" for each in problems)
    return Proof(exercise, stub, solution, tuple(passed), tuple(refused), located, _advice(refused))


def plan(lesson: Lesson, exercise: str) -> Plan:
    """Return what must run to prove one exercise: stub, solution, right answers, wrong answers."""
    own = lesson.cells_of(exercise, "exercise")
    checks = lesson.cells_of(exercise, "check")
    needs = [
        cell
        for cell in lesson.cells
        if cell.has("needs") and cell.exercise != exercise and cell.line < checks[-1].line
    ]
    solved = {cell.id: regions.solved(cell.source) for cell in own}
    attempts = [{cell.id: regions.learner(cell.source) for cell in own}, solved]
    for answer in [*lesson.cells_of(exercise, "right"), *lesson.cells_of(exercise, "wrong")]:
        replaced = [cell for cell in own if cell.line < answer.line][-1]
        attempts.append({**solved, replaced.id: answer.source})
    return Plan(
        needs=tuple(regions.solved(cell.source) for cell in needs),
        attempts=tuple(Attempt(tuple(each.values())) for each in attempts),
        checks=tuple(cell.source for cell in checks),
    )


def _try(plan: Plan) -> list[Verdict]:
    with tempfile.TemporaryDirectory(prefix="course-proof-") as scratch:
        log = Path(scratch) / "log.txt"
        with log.open("w", encoding="utf-8") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "course_lib.authoring.trial"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env={**isolated(Path(scratch)), "MPLBACKEND": "agg"},
                cwd=scratch,
                text=True,
                encoding="utf-8",
            )
        try:
            answer, _ = process.communicate(plan.to_json(), timeout=EXERCISE_DEADLINE_S)
            ended = f"ended with exit code {process.returncode}"
        except subprocess.TimeoutExpired:
            process.kill()  # the servers it started end with it
            process.communicate()
            answer, ended = "", f"was stopped after {EXERCISE_DEADLINE_S:.0f} s"
        if answer:
            return [Verdict(**each) for each in json.loads(answer)]
        words = f"its process {ended}: {' | '.join(log.read_text('utf-8', 'replace').splitlines()[-3:])}"
        return [Verdict("crashed", words, words, raised=True)] * len(plan.attempts)


def _side(cell: Cell, side: str, verdict: Verdict, outcome: str, message: str = "") -> list[str]:
    if verdict.raised or verdict.outcome != outcome:
        return [f"{cell.line}: {side} should be {outcome!r}, it is {verdict.outcome!r}: {verdict.message}"]
    told = f"{verdict.message}\n{verdict.text}"
    if message and not says(told, message):
        return [f"{cell.line}: {side} should be told {message!r}, it is told {told!r}"]
    return []


def _enough(cell: Cell, wrong: int) -> list[str]:
    if wrong >= WRONG_ANSWERS_WANTED:
        return []
    return [f"{cell.line}: {wrong} wrong answers are shipped; at least {WRONG_ANSWERS_WANTED} are needed"]


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


def _advice(wrong: Sequence[Verdict]) -> tuple[str, ...]:
    is_told_apart = len({verdict.text for verdict in wrong}) == len(wrong)
    return () if is_told_apart else ("two wrong answers get the same message",)


def _unset(exercise: str) -> Proof:
    words = f"exercise {exercise} is registered, but no lesson sets it"
    verdict = Verdict("crashed", words, words, raised=True)
    return Proof(exercise, verdict, verdict, (), (), (f"{words}; add its cells to a lesson",))


def report(proofs: Sequence[Proof]) -> str:
    """Return one line per exercise, what does not hold, and the counts."""
    lines: list[str] = []
    for proof in proofs:
        state = "proved" if proof.holds else "NOT proved"
        sides = f"stub {proof.stub.outcome}, solution {proof.solution.outcome}"
        answers = f"{len(proof.right)} right and {len(proof.wrong)} wrong answers"
        lines.append(f"{proof.id:<5} {state}: {sides}, {answers}")
        lines += [f"      {problem}" for problem in proof.problems]
        lines += [f"      advice: {advice}" for advice in proof.advice]
    held = sum(proof.holds for proof in proofs)
    stubs = sum(proof.stub.outcome == "not attempted" for proof in proofs)
    solutions = sum(proof.solution.outcome == "passed" for proof in proofs)
    right = sum(len(proof.right) for proof in proofs)
    wrong = sum(len(proof.wrong) for proof in proofs)
    lines.append(
        f"exercises proved: {held} of {len(proofs)}; stubs not attempted: {stubs}, "
        f"solutions passed: {solutions}, other right answers tried: {right}, wrong answers tried: {wrong}"
    )
    return "\n".join(lines)
