"""check("0.1", thing): runs an exercise's checks on what the learner made.

Main path: is it still the stub? -> each check in order, each with a time limit -> line, card, event.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
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
Rows = tuple[tuple[str, str], ...]

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
    rows: Rows = ()
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
    for each in progress.close_interrupted():
        say(f"the last check of {each} was interrupted (kernel stopped?); run it again")
    limit_s = exercise.deadline_s * len(exercise.checks) + SLACK_S
    started_s = time.monotonic()
    try:
        with progress.checking(exercise_id, source=source_of(things), limit_s=limit_s) as finish:
            result = judge(exercise, *things)
            finish(outcome=result.outcome, message=result.message, checked=result.checked)
            finish(seconds=round(time.monotonic() - started_s, 3))
    except KeyboardInterrupt:
        say(f"{exercise_id} stopped: you interrupted the check, so it does not count; run the cell again.")
        raise
    say(shorten(result.line, LONGEST_LINE_CHARS, placeholder=" ... (see the card)"))
    show_card(result.card())
    say(*progress.notes())
    return result


def judge(exercise: Exercise, *things: object) -> Result:
    """Run an exercise's checks and return the outcome, without showing or remembering anything."""
    untouched = [number for number, thing in enumerate(things, start=1) if exercise.is_stub(thing)]
    if len(untouched) == len(things):
        return _not_attempted(exercise)
    if untouched:
        return _part_missing(exercise, untouched[0], len(things))
    for number, one in enumerate(exercise.checks):
        if result := _problem(exercise, number, one, things):
            return result
    titles = "\n".join(f"{check_title(one)}." for one in exercise.checks)
    count = len(exercise.checks)
    after = f'solution("{exercise.id}") shows ours beside yours, with the reason.'
    rows = (("Checked", titles), ("Next", after))
    return Result(exercise.id, "passed", f"{count} of {count} checks", rows)


def _problem(
    exercise: Exercise, number: int, one: Callable[..., object], things: tuple[object, ...]
) -> Result | None:
    """Run one check; return what is wrong, None if nothing is."""
    outcome: Outcome = "failed"
    try:
        call_within(one, *things, deadline_s=exercise.deadline_s)
        return None
    except CheckFailed as failure:
        message, checked, rows = _failed(one, failure)
    except TooSlowError as slow:
        message, checked, rows = _too_slow(one, slow)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # border: the learner's code may raise anything
        outcome, (message, checked, rows) = "crashed", _crashed(one, error)
    if number:
        checked += f" ({number} of {len(exercise.checks)} checks passed before this one)"
    rows = (("Checked", checked), *rows, _next_steps(exercise))
    return Result(exercise.id, outcome, " ".join(message.split()), rows, check_title(one))


def _failed(one: Callable[..., object], failure: CheckFailed) -> tuple[str, str, Rows]:
    title = check_title(one)
    what = failure.what or title[:1].lower() + title[1:]
    message = f"{what}; expected {failure.expected}, got {failure.observed}"
    hint = (("Think about", failure.hint),) if failure.hint else ()
    rows = (("Observed", failure.observed), ("Expected", failure.expected), *hint)
    return message, what, rows


def _too_slow(one: Callable[..., object], slow: TooSlowError) -> tuple[str, str, Rows]:
    title = check_title(one)
    rows = (
        ("Observed", f"{slow}, and was stopped"),
        ("Expected", f"an end within {slow.deadline_s:g} s"),
        ("Think about", "A loop that never ends, or a wait for something that never comes?"),
    )
    return f"{slow} ({title})", title, rows


def _crashed(one: Callable[..., object], error: BaseException) -> tuple[str, str, Rows]:
    words = _words_of(error)
    raised = type(error).__name__ + (f": {words}" if words else "")
    line = crash_line(error.__traceback__, check_file=inspect.getfile(one))
    where = line or "at the call itself; no line of your code was running"
    rows = (("Observed", raised), ("Where", where), ("Expected", "no exception"))
    return raised + (f" ({line})" if line else ""), check_title(one), rows


def _words_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # border: the learner's own __str__
        return "(its message could not be read)"


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
    what, expected = f"part {number} of {count} is still as it was given", f"all {count} parts filled in"
    rows = (("Checked", what), ("Observed", "a stub"), ("Expected", expected), _next_steps(exercise))
    return Result(
        exercise.id, "failed", f"{what}; expected {expected}", rows, checked="all parts are filled in"
    )
