"""What a check says: `expect`, `expect_equal`, and `run` for a learner's coroutine.

Main path: expect(...) -> CheckFailed with what was checked, observed and expected -> a card.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from course_lib.errors import CourseError

T = TypeVar("T")

LONGEST_SHOWN_CHARS = 600


class CheckFailed(CourseError):  # noqa: N818  a verdict on the learner's thing, not a mistake of the course
    """The learner's thing does not do what a check asks for."""

    def __init__(self, what: str, *, observed: str, expected: str, hint: str = "") -> None:
        super().__init__(f"{what}; expected {expected}, got {observed}")
        self.what = what
        self.observed = observed
        self.expected = expected
        self.hint = hint


def show(value: object) -> str:
    """Return a repr that fits a card, also for a value whose own repr fails or is very long."""
    try:
        text = repr(value)
    except Exception as error:  # border: the learner's own __repr__
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    if len(text) <= LONGEST_SHOWN_CHARS:
        return text
    return f"{text[:LONGEST_SHOWN_CHARS]}... ({len(text)} characters)"


def expect(condition: object, what: str, *, observed: object, expected: str, hint: str = "") -> None:
    """Fail the check unless `condition` holds.

    Args:
        condition: anything with a truth value.
        what: what was checked, a fixed sentence ("a hit in the slow tier fills the fast tier").
        observed: what the learner's thing did; a string is shown as it is, anything else by its repr.
        expected: what it should have done, in words.
        hint: one sentence for exactly this mistake, shown on the card.

    Raises:
        CheckFailed: `condition` is false.
    """
    if not condition:
        seen = observed if isinstance(observed, str) else show(observed)
        raise CheckFailed(what, observed=seen, expected=expected, hint=hint)


def expect_equal(got: object, want: object, what: str, *, hint: str = "") -> None:
    """Fail the check unless `got == want`; both are shown by their repr.

    Raises:
        CheckFailed: they differ, or cannot be compared.
    """
    try:
        equal = bool(got == want)
    except Exception:  # border: the learner's own __eq__, or an array without one truth value
        equal = False
    if not equal:
        raise CheckFailed(what, observed=show(got), expected=show(want), hint=hint)


class Stops:
    """What must be told to stop when a check runs out of time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Callable[[], object]] = []
        self._stopped = False

    def add(self, call: Callable[[], object]) -> None:
        """Have `call` run at the stop, or at once when that has already been."""
        with self._lock:
            self._calls.append(call)
            late = self._stopped
        if late:
            call()

    def discard(self, call: Callable[[], object]) -> None:
        """Forget `call`: what it would stop has ended by itself."""
        with self._lock:
            self._calls.remove(call)

    def stop(self) -> None:
        """Run every call that is still waiting."""
        with self._lock:
            self._stopped = True
            for call in self._calls:
                call()


STOPS: contextvars.ContextVar[Stops | None] = contextvars.ContextVar("course_check_stops", default=None)


async def _stoppable(coroutine: Coroutine[Any, Any, T]) -> T:
    stops = STOPS.get()
    if stops is None:
        return await coroutine
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(coroutine)

    def cancel() -> object:
        return loop.call_soon_threadsafe(task.cancel)

    stops.add(cancel)
    try:
        return await task
    finally:
        stops.discard(cancel)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return its result, also where an event loop is already running.

    It gets a loop of its own: what the learner bound to the notebook's loop cannot be used in it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_stoppable(coroutine))
    outcome: list[T] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()

    def work() -> None:
        try:
            outcome.append(context.run(asyncio.run, _stoppable(coroutine)))
        except BaseException as error:  # border: carried to the calling thread, raised there
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]
