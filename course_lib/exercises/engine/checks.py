"""What a check says: `expect` and its kin; `run` for coroutines, `result_of` for calls that may be async.

Main path: expect(...) -> CheckFailed with what was checked, observed and expected -> a card.
To "fail the check" is to raise CheckFailed.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import tracemalloc
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from unittest.mock import patch

from course_lib.errors import CourseError

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

LONGEST_SHOWN_CHARS, SOON_S = 600, 5.0
_ROUND = 300
_LIMIT_BYTES = 6 * _ROUND  # less than a place in a list for each
_WAKE_S = 0.05
"""How often a loop comes back to Python code, where a check that has run out of time can be stopped."""


class CheckFailed(CourseError):  # noqa: N818  a verdict on the learner's thing, not a mistake of the course
    """The learner's thing does not do what a check asks for; the arguments are those of `expect`."""

    def __init__(self, what: str, *, observed: object, expected: str, hint: str = "") -> None:
        self.what = what
        self.observed = observed if isinstance(observed, str) else show(observed)
        self.expected = expected
        self.hint = hint
        super().__init__(f"{what}; expected {expected}, got {self.observed}")


class NotChecked(CourseError):  # noqa: N818  no mistake of anybody: the check could not be made
    """A check comes to no verdict, for a reason that is not in the answer; it says why, and the remedy."""


def show(value: object) -> str:
    """Return a repr that fits a card, also for a value whose own repr fails or is very long."""
    try:
        text = repr(value)
    except Exception as error:  # border: the learner's own __repr__
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return shortened(text, LONGEST_SHOWN_CHARS)


def shortened(text: str, most_chars: int) -> str:
    """Return a text as it is, or so many of its characters and how many there are."""
    return text if len(text) <= most_chars else f"{text[:most_chars]}... ({len(text)} characters)"


def expect(condition: object, what: str = "", *, observed: object, expected: str, hint: str = "") -> None:
    """Fail the check unless `condition` holds.

    Args:
        condition: anything with a truth value.
        what: a fixed sentence ("a hit in the slow tier fills the fast tier"); else line 1 of the docstring.
        observed: what the learner's thing did; a string is shown as it is, anything else by its repr.
        expected: what it should have done, in words.
        hint: one sentence for exactly this mistake, shown on the card.
    """
    if not condition:
        raise CheckFailed(what, observed=observed, expected=expected, hint=hint)


def expect_equal(got: object, want: object, what: str, *, hint: str = "") -> None:
    """Fail the check unless `got == want`; both are shown by their repr."""
    try:
        equal = bool(got == want)
    except Exception:  # border: the learner's own __eq__, or an array without one truth value
        equal = False
    expect(equal, what, observed=show(got), expected=show(want), hint=hint)


def expect_one_of(got: object, allowed: Collection[object], what: str, *, hint: str = "") -> None:
    """Fail the check unless `got` is one of `allowed`, which are shown."""
    is_one = any(isinstance(got, type(each)) and got == each for each in allowed)
    expect(is_one, what, observed=show(got), expected=f"one of {', '.join(map(str, allowed))}", hint=hint)


def expect_error(error_class: type[E], call: Callable[[], object], what: str, *, hint: str = "") -> E:
    """Return the error that `call` raises; fail the check unless it is one of this class."""
    other: Exception | None = None
    try:
        observed = f"it returned {show(call())}"
    except error_class as error:
        return error
    except Exception as error:  # border: the learner's code may raise anything
        observed, other = f"it raised {type(error).__name__}: {error}", error
    raise CheckFailed(what, observed=observed, expected=error_class.__name__, hint=hint) from other


def without_error(
    call: Callable[[], T], what: str, *, expected: str = "no error", hint: str = "", errors: Any = Exception
) -> T:
    """Return what `call` returns; fail the check if it raises one of `errors`, a class or several."""
    try:
        return call()
    except CheckFailed:
        raise
    except errors as error:
        observed = f"{type(error).__name__}: {error!s:.200}"
        raise CheckFailed(what, observed=observed, expected=expected, hint=hint) from error


async def soon(
    work: Awaitable[T],
    what: str,
    *,
    within_s: float = SOON_S,
    expected: str = "no error",
    hint: str = "",
    errors: Any = (),
) -> T:
    """Return what `work` returns; fail the check if it does not end in time, or raises one of `errors`."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=within_s)
    if not task.done():
        task.cancel()
        raise CheckFailed(what, observed="it still waits", expected=f"it ends within {within_s} s", hint=hint)
    return without_error(task.result, what, expected=expected, hint=hint, errors=errors)


def expect_nothing_kept(use: Callable[[range], object], what: str, *, hint: str) -> None:
    """Fail the check if memory grows with the numbers that `use` is called for, each time after the first."""
    used = []
    tracemalloc.start()
    try:
        for first in range(0, 3 * _ROUND, _ROUND):
            use(range(first, first + _ROUND))
            gc.collect()
            used.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    kept = min(used[1] - used[0], used[2] - used[1])
    observed, wanted = f"{kept:,} bytes more after {_ROUND} more", f"less than {_LIMIT_BYTES:,}"
    expect(kept < _LIMIT_BYTES, f"nothing is kept of {what}", observed=observed, expected=wanted, hint=hint)


_unseen: list[BaseException | None] = []


@contextmanager
def strays() -> Iterator[list[BaseException | None]]:
    """Collect the errors that end a thread or a task of this block and that nobody awaits."""
    _unseen.clear()
    with patch("threading.excepthook", lambda ended: _unseen.append(ended.exc_value)):
        yield _unseen


async def _waking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine, and wake up now and then meanwhile; note errors that nobody awaits."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: _unseen.append(context.get("exception")))
    task = asyncio.ensure_future(coroutine)
    while not task.done():
        await asyncio.wait([task], timeout=_WAKE_S)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for each in others:
        each.cancel()
    left = (await asyncio.wait(others, timeout=5.0))[1] if others else set()
    for each in left:
        asyncio.tasks._unregister_task(each)  # noqa: SLF001  asyncio.run would wait for it for ever
    result, names = task.result(), sorted(getattr(each.get_coro(), "__qualname__", "a task") for each in left)
    what, hint = "a task that was left behind", "Who catches CancelledError raises it again."
    expect(not left, what, observed=f"{names} goes on", expected="it ends when it is cancelled", hint=hint)
    return result


def result_of(call: Callable[..., Any], *args: object) -> Any:
    """Return what `call(*args)` returns, also when it is written with `async def`."""
    result = call(*args)
    return run(result) if asyncio.iscoroutine(result) else result


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
