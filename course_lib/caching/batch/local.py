"""Runs items in this process, awaited: tasks, which can be cancelled at a deadline.

Main path: LocalRunner(program, ...).run(item) -> Outcome.
Source: dspy.Module.acall, dspy.context, settings.usage_tracker, settings.trace (DSPy 3.4.1).
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import dspy

from course_lib.caching.batch.books import Outcome
from course_lib.caching.batch.errors import InputError
from course_lib.caching.batch.items import Failure
from course_lib.caching.batch.meter import Meter
from course_lib.caching.batch.plain import call_of
from course_lib.errors import CourseError

RunIn = Literal["auto", "threads", "tasks"]


class DeadlineError(CourseError):
    """An item took longer than it may."""


class LocalRunner:
    """Runs a program in the loop that calls it."""

    def __init__(
        self,
        program: Any,
        *,
        concurrency: int,
        deadline_s: float | None,
        keep_history: bool,
        run_in: RunIn = "auto",
    ) -> None:
        self._call = chosen_call(program, run_in, has_deadline=deadline_s is not None)
        self._program, self._deadline_s = program, deadline_s
        self._keep_history = keep_history
        self._threads: ThreadPoolExecutor | None = None
        if self._call is None:
            self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="course-batch-item")

    async def run(self, item: Any) -> Outcome:
        """Run one item under a meter of its own."""
        meter = Meter()
        args, kwargs = call_of(item)
        with settings_for(meter, keep_history=self._keep_history):
            if self._call is not None:
                return await run_metered(self._call(*args, **kwargs), meter, self._deadline_s)
            return await self._run_in_thread(partial(self._program, *args, **kwargs), meter)

    async def close(self) -> None:
        """Wait for the threads: what runs in one cannot be cancelled."""
        if self._threads is not None:
            await asyncio.to_thread(self._threads.shutdown)

    async def _run_in_thread(self, call: Callable[[], Any], meter: Meter) -> Outcome:
        assert self._threads is not None
        within = contextvars.copy_context()
        future = asyncio.get_running_loop().run_in_executor(self._threads, within.run, call)
        outcome = await run_metered(asyncio.shield(future), meter, self._deadline_s)
        if not future.done():  # past its deadline: its place is free when the thread is
            with suppress(Exception):
                await future
        return outcome


def chosen_call(program: Any, run_in: RunIn, *, has_deadline: bool) -> Callable[..., Any] | None:
    """Return how to await the program, or None to call it in threads.

    Raises:
        InputError: it can do only the other.
    """
    call = program.acall if isinstance(program, dspy.Module) else program
    can_await = hasattr(type(program), "aforward") or _is_async(program)
    can_call = hasattr(type(program), "forward") or not (isinstance(program, dspy.Module) or can_await)
    if (run_in == "tasks" and not can_await) or (run_in == "threads" and not can_call):
        raise InputError(
            f"{program!r:.60} cannot run in {run_in}: it has no "
            f'{"aforward" if run_in == "tasks" else "forward"}. Leave run_in at "auto"'
        )
    in_tasks = can_await and (run_in == "tasks" or has_deadline or not can_call)
    return call if in_tasks and run_in != "threads" else None


def _is_async(program: Any) -> bool:
    call = getattr(program, "__call__", None)  # noqa: B004  an object with an async __call__
    return inspect.iscoroutinefunction(program) or inspect.iscoroutinefunction(call)


def settings_for(meter: Meter, *, keep_history: bool) -> Any:
    """Return the dspy.context of one item: its own meter and trace, and no history unless it is wanted.

    DSPy's history and trace keep up to 10,000 entries each; over a long batch that is the memory.
    """
    more = {} if keep_history else {"disable_history": True}
    return dspy.context(usage_tracker=meter, trace=[], **more)


async def run_metered(call: Any, meter: Meter, deadline_s: float | None) -> Outcome:
    """Await `call` for as long as it may take; its error becomes a value."""
    try:
        async with asyncio.timeout(deadline_s) as limit:
            result = await call
    except Exception as error:  # border: one bad item must not end the batch
        if isinstance(error, TimeoutError) and limit.expired():
            error = DeadlineError(f"took longer than {deadline_s:g} s and was given up")
        return Outcome(None, Failure.of(error), meter.entries)
    return Outcome(with_usage(result, meter), None, meter.entries)


def with_usage(result: Any, meter: Meter) -> Any:
    """Return `result` with its usage set, as DSPy does where it keeps the tracker itself."""
    if dspy.settings.track_usage and isinstance(result, dspy.Prediction):
        result.set_lm_usage(meter.get_total_tokens())
    return result
