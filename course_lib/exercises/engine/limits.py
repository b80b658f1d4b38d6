"""Runs one check in a thread of its own, for as long as it may take and no longer.

Main path: call_within(check, thing, deadline_s=10) -> its result, its error, or TooSlowError.
The thread gets a copy of the caller's context variables, so `dspy.context(...)` around a check holds in it.
"""

from __future__ import annotations

import contextvars
import ctypes
import threading
from collections.abc import Callable

from course_lib.errors import CourseError


class TooSlowError(CourseError):
    """A check took longer than it may."""

    def __init__(self, deadline_s: float) -> None:
        super().__init__(f"took longer than {deadline_s:g} s")
        self.deadline_s = deadline_s


class _Stopped(SystemExit):
    """Raised inside a check's thread to end it; Python lets a SystemExit end a thread in silence."""


def _stop(thread: threading.Thread) -> None:
    """Interrupt a thread at its next Python instruction; `checks.run` then cancels its coroutines.

    Code that waits inside C (a sleep, a socket) goes on until that returns; its result is ignored.
    """
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(_Stopped))


def call_within(call: Callable[..., object], *args: object, deadline_s: float) -> None:
    """Call `call(*args)` in a thread.

    Raises:
        TooSlowError: it did not end within `deadline_s`.
        BaseException: whatever it raised.
    """
    errors, ended = list[BaseException](), threading.Event()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            context.run(call, *args)
        except BaseException as error:  # border: carried to the calling thread, raised there
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, name="course-check", daemon=True)
    thread.start()
    try:
        ended.wait(deadline_s)  # not join(): Python 3.11's, interrupted, declares a running thread ended
    finally:
        if not ended.is_set():
            _stop(thread)
    if not ended.is_set():
        raise TooSlowError(deadline_s)
    if errors:
        raise errors[0]
