"""check("0.1", thing), hint("0.1") and solution("0.1"): what a learner calls in a notebook.

Main path: did its cell run? is it still the stub? -> each check, with a time limit -> card, event.
Hints come one at a time; our solution comes after a pass, or on asking twice.
"""

from __future__ import annotations

import contextvars
import ctypes
import inspect
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Literal

from course_lib.exercises.engine import notebookfile, progress, registry
from course_lib.exercises.engine.cards import Card, bounded_output, say, show_card
from course_lib.exercises.engine.checks import CheckFailed, NotChecked, result_of, shortened, strays
from course_lib.exercises.engine.registry import Exercise
from course_lib.exercises.engine.sources import cell_that_failed, crash_line, in_words, no_exit, source_now

Outcome = Literal["passed", "failed", "crashed", "not attempted", "not checked"]
"""Only the first three are attempts; "not checked" says that nothing can be said about the answer."""
Rows = tuple[tuple[str, str], ...]
_LONGEST_ROW_CHARS = 3_000


@dataclass(frozen=True, slots=True, repr=False)
class Result:
    """How a check ended. Shows nothing by itself when it is a cell's last value."""

    exercise: str
    outcome: Outcome
    message: str
    """What was seen, in one line."""
    card: Card
    """What was shown."""
    checked: str = ""
    """Title of the check that failed or crashed."""

    @property
    def line(self) -> str:
        """The verdict in one line."""
        return f"{self.exercise} {self.outcome}: {self.message}"

    @property
    def text(self) -> str:
        """The card as plain text."""
        return self.card.text()

    def __repr__(self) -> str:
        return f"<{self.line}>"

    def _ipython_display_(self) -> None:
        """Show nothing: the card has been shown."""


def check(exercise_id: object = None, *things: object) -> Result:
    """Check an exercise: show one card, remember the outcome.

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
    try:
        _expect_something_to_check(exercise, things)
        with progress.checking(exercise.id, source=source_now()) as end:
            result = judge(exercise, *things)
            end |= {"outcome": result.outcome, "checked": result.checked}
    except KeyboardInterrupt:
        say(f"{exercise.id} stopped: you interrupted the check, so it does not count; run the cell again.")
        raise
    except NotChecked as reason:
        result = _result(exercise, "not checked", str(reason), (("Why", _sentence(str(reason))),))
    show_card(result.card)
    say(*progress.notes())
    return result


def _expect_something_to_check(exercise: Exercise, things: tuple[object, ...]) -> None:
    if found := cell_that_failed():
        name, error = found
        raise NotChecked(f"the cell that makes {name} did not run ({error}); mend it, then run both again")
    count = len(inspect.signature(exercise.checks[0]).parameters)
    if len(things) != count:
        wanted = "one thing" if count == 1 else f"{count} things"
        raise NotChecked(f'it takes {wanted} and got {len(things)}: check("{exercise.id}", ...) as given')


def judge(exercise: Exercise, *things: object) -> Result:
    """Run an exercise's checks and return the outcome, without showing or remembering anything.

    Raises:
        NotChecked: a check came to no verdict.
    """
    untouched = [exercise.is_stub(thing) for thing in things]
    if all(untouched):
        message = "it is still as it was given; fill in the exercise's cell, run it, then run this one again"
        about = f"{exercise.minutes} minutes, {exercise.difficulty}."
        rows = (("State", _sentence(message)), ("About", about), _stuck(exercise))
        return _result(exercise, "not attempted", message, rows)
    if any(untouched):
        what = f"part {untouched.index(True) + 1} of {len(things)} is still as it was given"
        missing = CheckFailed(what, observed="a stub", expected=f"all {len(things)} parts filled in")
        return _not_passed(exercise, "all parts are filled in", missing)
    with no_exit(), bounded_output():
        return _checked(exercise, things)


def _checked(exercise: Exercise, things: tuple[object, ...]) -> Result:
    """Run the checks in order, up to the first that does not pass."""
    count = len(exercise.checks)
    titles = [(each.__doc__ or each.__name__).strip().splitlines()[0].rstrip(".") for each in exercise.checks]
    for before, check in enumerate(exercise.checks):
        with strays() as unseen:
            error = _call_within(exercise.deadline_s, check, *things)
        if isinstance(error, NotChecked):
            raise error
        if isinstance(error, CheckFailed):
            stray = next((stray for stray in unseen if _line_of(exercise, stray)), None)
            error.__cause__ = error.__cause__ or stray
        if error is not None:
            return _not_passed(exercise, titles[before], error, before=before)
    after = f'solution("{exercise.id}") shows ours beside yours, with the reason.'
    rows = (("Checked", "\n".join(f"{title}." for title in titles)), ("Next", after))
    return _result(exercise, "passed", f"{count} of {count} checks", rows)


class _Stopped(SystemExit):
    """Raised inside a check's thread to end it; Python lets a SystemExit end a thread in silence."""


def _call_within(deadline_s: float, call: Callable[..., object], *args: object) -> BaseException | None:
    """Call `call(*args)` in a thread of its own, with a copy of this one's context variables.

    Return what it raised, CheckFailed if it did not end within `deadline_s`, else None. On a busy machine
    there is more time: as many times as there is more to do than there are cores. A thread that is late is
    interrupted at its next Python instruction, and `checks.run` cancels its coroutines; one that waits inside
    C (a sleep, a socket) goes on until that returns, and its result is ignored.
    """
    deadline_s *= max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    ended, context = Future[object](), contextvars.copy_context()

    def work() -> None:
        try:
            ended.set_result(context.run(result_of, call, *args))
        except BaseException as error:  # border: carried to the calling thread, raised there
            ended.set_exception(error)

    thread = threading.Thread(target=work, name="course-check", daemon=True)
    try:
        thread.start()
        wait([ended], deadline_s)
    finally:
        if (is_late := not ended.done()) and thread.ident:
            number, error = ctypes.c_ulong(thread.ident), ctypes.py_object(_Stopped)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(number, error)
    return _without_end(deadline_s) if is_late else ended.exception()


def _without_end(deadline_s: float) -> CheckFailed:
    lm = sys.modules.get("course_lib.lm")  # not imported for this: where nobody did, nothing waits for it
    if lm and not lm.is_answering(within_s=2.0):
        remedy = "restart the kernel for a new one, run the cells above, then run this one again"
        raise NotChecked(f"the model's endpoint does not answer, so the check had to wait; {remedy}")
    seconds = f"{max(1, round(deadline_s))} s"
    observed, wanted = f"more than {seconds}; it was stopped", f"an end within {seconds}"
    hint = "A loop that never ends, a wait for something that never comes, a blocked event loop (time.sleep)?"
    return CheckFailed("", observed=observed, expected=wanted, hint=hint)


def _line_of(exercise: Exercise, error: BaseException | None) -> str:
    return crash_line(error, check_file=inspect.getfile(exercise.checks[0]))


def _not_passed(exercise: Exercise, title: str, error: BaseException, *, before: int = 0) -> Result:
    """Return the result of the check of this title; `before` is how many checks passed before it."""
    if isinstance(error, CheckFailed):
        outcome, message, rows = _failed(exercise, title, error)
    else:
        raised, line = in_words(error), _line_of(exercise, error)
        where = line or "at the call itself; no line of your code was running"
        rows = (("Checked", title), ("Observed", raised), ("Where", where), ("Expected", "no exception"))
        outcome, message = "crashed", raised + (f" ({line})" if line else "")
    passed = f"{before} of {len(exercise.checks)} checks passed" if before else ""
    rows = (*rows, ("Before it", passed), _stuck(exercise))
    return _result(exercise, outcome, " ".join(message.split()), rows, title)


def _failed(exercise: Exercise, title: str, failure: CheckFailed) -> tuple[Outcome, str, Rows]:
    what = failure.what or title[:1].lower() + title[1:]
    cause, line = failure.__cause__, _line_of(exercise, failure.__cause__)
    rows = (
        ("Checked", what),
        ("Observed", failure.observed or "an empty text"),
        ("Raised", f"{in_words(cause)} ({line})" if cause and line else ""),
        ("Expected", failure.expected),
        ("Think about", failure.hint),
    )
    return "failed", f"{what}; expected {failure.expected}, got {failure.observed}", rows


def _stuck(exercise: Exercise) -> tuple[str, str]:
    return "Stuck?", f'hint("{exercise.id}") helps, in steps: {len(exercise.hints)} in all.'


def _sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:]}."


def _result(exercise: Exercise, outcome: Outcome, message: str, rows: Rows, checked: str = "") -> Result:
    """Return a result and its card, on which a row without text is left out."""
    shown = tuple((label, shortened(text, _LONGEST_ROW_CHARS)) for label, text in rows if text)
    card = Card(f"{exercise.id} {outcome}: {exercise.title}", shown, outcome=outcome)
    return Result(exercise.id, outcome, shortened(message, _LONGEST_ROW_CHARS), card, checked)


def hint(exercise_id: object = None) -> None:
    """Show the next hint of an exercise, and how many there are.

    Raises:
        UnknownExerciseError: there is no exercise of this id.
    """
    exercise = registry.get(exercise_id)
    taken, count = progress.standing(progress.read(), exercise.id).hints, len(exercise.hints)
    if taken < count:
        progress.record(exercise.id, "hint", outcome=str(taken + 1))
    shown = exercise.hints[: taken + 1]
    rows = tuple((f"Hint {number} of {count}", text) for number, text in enumerate(shown, start=1))
    if len(shown) == count:
        rows += (("After that", f'This was the last hint. solution("{exercise.id}") shows ours.'),)
    title = f"hint {len(shown)} of {count}" if taken < count else f"no more hints ({count} of {count} taken)"
    show_card(Card(f"{exercise.id} {exercise.title}: {title}", rows))
    say(*progress.notes())


def not_yet(exercise_id: str, *, again: str) -> str:
    """Return why our solution is not shown now, "" if it is; `again` is how to ask a second time."""
    exercise, now = registry.get(exercise_id), progress.standing(progress.read(), exercise_id)
    if now.state == "passed" or now.solution_asked:
        return ""
    progress.record(exercise_id, "solution", outcome="asked")
    left = len(exercise.hints) - now.hints
    hints = f'hint("{exercise_id}") has {left} more for you' if left else "you have taken all its hints"
    return f"{exercise_id} is not passed yet; {hints}. To see our solution anyway, ask again: {again}."


def solution(exercise_id: object = None) -> None:
    """Show our solution beside the learner's, with the reason: after a pass, or on asking twice.

    Raises:
        UnknownExerciseError: there is no exercise of this id.
    """
    exercise = registry.get(exercise_id)
    if refusal := not_yet(exercise.id, again=f'solution("{exercise.id}")'):
        say(refusal, *progress.notes())
        return
    try:
        cells = notebookfile.solution(exercise.lesson, exercise.id)
    except notebookfile.NotebookFileError as error:
        say(f"{exercise.id} solution: {error}", *progress.notes())
        return
    progress.record(exercise.id, "solution", outcome="shown")
    ours = "\n\n".join(map(notebookfile.source_of, cells))
    kept = progress.last_source(progress.read(), exercise.id)
    yours = kept or "(nothing yet: it is kept when you run the check)"
    code = (("Yours, as last checked", yours), ("Ours", ours))
    show_card(Card(f"{exercise.id} {exercise.title}: solution", (("Why", exercise.why),), code))
    say(*progress.notes())
