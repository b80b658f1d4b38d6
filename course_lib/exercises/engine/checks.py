"""What a check says: `expect`, `expect_equal`, `without_error`, `fail`; and `run` for coroutines.

Main path: expect(...) -> CheckFailed with what was checked, observed and expected -> a card.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

from course_lib.errors import CourseError

T = TypeVar("T")

LONGEST_SHOWN_CHARS = 600
_WAKE_S = 0.05
"""How often a loop comes back to Python code, where a check that has run out of time can be stopped."""


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


def fail(what: str, *, observed: object, expected: str, hint: str = "") -> NoReturn:
    """Fail the check; the arguments are those of `expect`.

    Raises:
        CheckFailed: always.
    """
    seen = observed if isinstance(observed, str) else show(observed)
    raise CheckFailed(what, observed=seen, expected=expected, hint=hint)


def expect(condition: object, what: str = "", *, observed: object, expected: str, hint: str = "") -> None:
    """Fail the check unless `condition` holds.

    Args:
        condition: anything with a truth value.
        what: what was checked, a fixed sentence ("a hit in the slow tier fills the fast tier"); without it,
            line 1 of the check's docstring.
        observed: what the learner's thing did; a string is shown as it is, anything else by its repr.
        expected: what it should have done, in words.
        hint: one sentence for exactly this mistake, shown on the card.

    Raises:
        CheckFailed: `condition` is false.
    """
    if not condition:
        fail(what, observed=observed, expected=expected, hint=hint)


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
        fail(what, observed=show(got), expected=show(want), hint=hint)


def without_error(
    call: Callable[[], T],
    what: str,
    *,
    expected: str,
    hint: str = "",
    errors: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> T:
    """Return what `call` returns; an error of these classes fails the check.

    Raises:
        CheckFailed: one of `errors` was raised; its class and message are what was observed.
    """
    try:
        return call()
    except CheckFailed:
        raise
    except errors as error:
        fail(what, observed=f"{type(error).__name__}: {error!s:.200}", expected=expected, hint=hint)


async def _waking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine, and wake up now and then meanwhile."""
    task = asyncio.ensure_future(coroutine)
    while not task.done():
        await asyncio.wait([task], timeout=_WAKE_S)
    return task.result()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return its result, also where an event loop is already running.

    It gets a loop of its own: what the learner bound to the notebook's loop cannot be used in it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_waking(coroutine))
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(context.run, asyncio.run, _waking(coroutine)).result()
