"""check("0.1", thing): runs an exercise's checks on what the learner made.

Main path: is it still the stub? -> each check in order, each with a time limit -> line, card, event.
"""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass
from textwrap import shorten
from typing import Literal

from course_lib.exercises.engine import progress, registry
from course_lib.exercises.engine.cards import Card, say, show_card
from course_lib.exercises.engine.checks import CheckFailed
from course_lib.exercises.engine.limits import TooSlowError, call_within
from course_lib.exercises.engine.registry import Exercise, check_title
from course_lib.exercises.engine.sources import crash_line, source_of

Outcome = Literal["passed", "failed", "crashed", "not attempted"]

LONGEST_LINE_CHARS = 240
SLACK_S = 30.0
"""Added to the sum of an exercise's limits before a check without an end counts as interrupted."""


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """How a check ended. Shows nothing by itself when it is a cell's last value."""

    exercise: str
    outcome: Outcome
    message: str
    """One line, as printed after "0.1 failed: "."""
    rows: tuple[tuple[str, str], ...] = ()
    """What the card says: (label, text)."""
    checked: str = ""
    """Title of the check that failed or crashed."""

    @property
    def line(self) -> str:
        """The plain line that was printed."""
        return f"{self.exercise} {self.outcome}" + (f": {self.message}" if self.message else "")

    @property
    def text(self) -> str:
        """Everything the learner sees, as plain text."""
        return self.card().text()

    def card(self) -> Card:
        """Return the card that was shown."""
        title = registry.get(self.exercise).title
        return Card(f"{self.exercise} {title}: {self.outcome}", self.rows, outcome=self.outcome)

    def __repr__(self) -> str:
        return f"<{self.line}>"

    def _ipython_display_(self) -> None:
        """Show nothing: the line and the card have been shown."""


def check(exercise_id: str, *things: object) -> Result:
    """Check an exercise: print one line, show one card, remember the outcome.

    Args:
        exercise_id: the exercise's id, for instance "0.1".
        things: what the exercise asks for, in its order.

    Returns:
        Result: the outcome and its message; quiet as the last value of a cell.

    Raises:
        UnknownExerciseError: there is no exercise of this id.
        KeyboardInterrupt: the learner interrupted the kernel; the check is recorded as interrupted.
    """
    exercise = registry.get(exercise_id)
    say(*_tell_interrupted())
    limit_s = exercise.deadline_s * len(exercise.checks) + SLACK_S
    run = progress.start(exercise_id, source=source_of(things), limit_s=limit_s)
    started_s = time.monotonic()
    try:
        result = judge(exercise, *things)
    except KeyboardInterrupt:
        progress.end_run(exercise_id, run)
        say(f"{exercise_id} stopped: you interrupted the check, so it does not count; run the cell again.")
        raise
    progress.finish(
        exercise_id, run, outcome=result.outcome, message=result.message, checked=result.checked,
        seconds=round(time.monotonic() - started_s, 3),
    )  # fmt: skip
    say(shorten(result.line, LONGEST_LINE_CHARS, placeholder=" ... (see the card)"))
    show_card(result.card())
    say(*progress.notes())
    return result


def _tell_interrupted() -> list[str]:
    """Close the checks that a stopped kernel left open, and say which they were."""
    cut_off = progress.interrupted(progress.read())
    for event in cut_off:
        progress.end_run(event.exercise, event.run)
    exercises = dict.fromkeys(event.exercise for event in cut_off)
    return [f"the last check of {each} was interrupted (kernel stopped?); run it again" for each in exercises]


def judge(exercise: Exercise, *things: object) -> Result:
    """Run an exercise's checks and return the outcome, without showing or remembering anything."""
    untouched = [number for number, thing in enumerate(things, start=1) if exercise.is_stub(thing)]
    if not things or len(untouched) == len(things):
        return _not_attempted(exercise)
    if untouched:
        return _part_missing(exercise, untouched[0], len(things))
    for number, one in enumerate(exercise.checks):
        try:
            call_within(one, *things, deadline_s=exercise.deadline_s)
        except CheckFailed as failure:
            return _failed(exercise, number, failure)
        except TooSlowError as slow:
            return _too_slow(exercise, number, slow)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # border: the learner's code may raise anything
            return _crashed(exercise, number, error)
    titles = "\n".join(f"{check_title(one)}." for one in exercise.checks)
    count = len(exercise.checks)
    return Result(
        exercise.id,
        "passed",
        f"{count} of {count} checks",
        (
            ("Checked", titles),
            ("Next", f'solution("{exercise.id}") shows ours beside yours, with the reason.'),
        ),
    )


def _next_steps(exercise: Exercise) -> tuple[str, str]:
    count = len(exercise.hints)
    hints = "1 hint" if count == 1 else f"{count} hints"
    return "Stuck?", f'hint("{exercise.id}") gives the next of {hints}.'


def _not_attempted(exercise: Exercise) -> Result:
    message = "it is still as it was given; fill in the exercise's cell, run it, then run this one again"
    rows = (
        ("State", "Still as it was given. Fill in the exercise's cell, run it, then run this cell again."),
        ("About", f"{exercise.minutes} minutes, {exercise.difficulty}; {', '.join(exercise.concepts)}."),
        _next_steps(exercise),
    )
    return Result(exercise.id, "not attempted", message, rows)


def _part_missing(exercise: Exercise, number: int, count: int) -> Result:
    what = f"part {number} of {count} is still as it was given"
    expected = f"all {count} parts filled in"
    rows = (("Checked", what), ("Observed", "a stub"), ("Expected", expected), _next_steps(exercise))
    return Result(
        exercise.id, "failed", f"{what}; expected {expected}", rows, checked="all parts are filled in"
    )


def _checked_rows(exercise: Exercise, number: int, what: str) -> tuple[tuple[str, str], ...]:
    before = f" ({number} of {len(exercise.checks)} checks passed before this one)" if number else ""
    return (("Checked", what + before),)


def _failed(exercise: Exercise, number: int, failure: CheckFailed) -> Result:
    rows = (
        *_checked_rows(exercise, number, failure.what),
        ("Observed", failure.observed),
        ("Expected", failure.expected),
        *((("Think about", failure.hint),) if failure.hint else ()),
        _next_steps(exercise),
    )
    message = " ".join(f"{failure.what}; expected {failure.expected}, got {failure.observed}".split())
    return Result(exercise.id, "failed", message, rows, checked=check_title(exercise.checks[number]))


def _too_slow(exercise: Exercise, number: int, slow: TooSlowError) -> Result:
    title = check_title(exercise.checks[number])
    rows = (
        *_checked_rows(exercise, number, title),
        ("Observed", f"{slow}, and was stopped"),
        ("Expected", f"an end within {slow.deadline_s:g} s"),
        ("Think about", "A loop that never ends, or a wait for something that never comes?"),
        _next_steps(exercise),
    )
    return Result(exercise.id, "failed", f"{slow} ({title})", rows, checked=title)


def _words_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # border: the learner's own __str__
        return "(its message could not be read)"


def _crashed(exercise: Exercise, number: int, error: BaseException) -> Result:
    title = check_title(exercise.checks[number])
    words = _words_of(error)
    raised = type(error).__name__ + (f": {words}" if words else "")
    line = crash_line(error.__traceback__, check_file=inspect.getfile(exercise.checks[number]))
    rows = (
        *_checked_rows(exercise, number, title),
        ("Observed", raised),
        ("Where", line or "at the call itself; no line of your code was running"),
        ("Expected", "no exception"),
        _next_steps(exercise),
    )
    message = " ".join((raised + (f" ({line})" if line else "")).split())
    return Result(exercise.id, "crashed", message, rows, checked=title)
