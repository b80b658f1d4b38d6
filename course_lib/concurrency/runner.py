"""Many calls at once, but never more than the limit; how each one ended is a value.

Main path: await AsyncRunner(limit=8).run(program, items) -> list of Outcome; async for outcome in .stream().
Source: dspy.Module.acall, dspy.asyncify and dspy.context (DSPy 3.4.1). Nothing in DSPy bounds `acall`.
One task reads the items and starts a task for each when a slot is free; they belong to its TaskGroup. So to
cancel that one task is to cancel all, and whoever leaves the stream does.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import math
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sized
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import KW_ONLY, dataclass
from typing import Any, Generic, TypeVar

import dspy
from pydantic import PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass as checked_dataclass
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from course_lib.concurrency import tasks
from course_lib.errors import CourseError
from course_lib.measure.calls import arguments
from course_lib.resilience import Deadline, DeadlineExceeded

T = TypeVar("T")
Items = Iterable[Any] | AsyncIterable[Any]

_AHEAD = 4
"""Items begun and not yet handed out, for each that may run: those that a slow one does not hold up."""
_UNBOUNDED = nullcontext()


class NotAsyncError(CourseError):
    """What should run many times at once would block the event loop."""


class CancelledItem(CourseError):  # noqa: N818  (says what happened)
    """A call ended as cancelled, though nobody had cancelled it."""


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """How one call ended."""

    index: int
    """The item's place in the input, from 0."""
    item: Any
    value: T | None = None
    error: Exception | None = None
    """Why there is no value; DeadlineExceeded where the time was over."""
    took_s: float = 0.0
    """From the call's start to its end; waiting for a slot is not in it."""

    @property
    def ok(self) -> bool:
        """Whether the call returned."""
        return self.error is None


@checked_dataclass(frozen=True)
class AsyncRunner:
    """Runs an async call over many items: `AsyncRunner(limit=8, item_deadline_s=2.0)`."""

    limit: PositiveInt
    """How many calls may be under way. Up to four times as many are begun before the reader takes them."""
    _: KW_ONLY
    item_deadline_s: PositiveFloat | None = None
    """Time for one call, from its start. The call sees it as `Deadline.current()`, and is cancelled then."""
    deadline_s: PositiveFloat | None = None
    """Time for all, from run() or stream()."""
    progress: bool | None = None
    """Show a bar; None to show it where a terminal is."""

    async def run(self, call: Callable[..., Awaitable[T]], items: Items) -> list[Outcome[T]]:
        """Return the outcome of every item, in order; for `call`, see stream().

        Past `deadline_s` what is left of a plain iterable fails without a call; an async one is read no more.
        """
        run = _Run(self, call, items)
        outcomes: list[Outcome[T]] = []
        try:
            async for outcome in self._stream(run, in_order=False):  # in order, a slow one would hold up all
                outcomes.append(outcome)  # noqa: PERF401  (those from before the deadline are kept)
        except DeadlineExceeded:
            if run.deadline.remaining_s():
                raise  # the iterable's own
            late = DeadlineExceeded("not called: the deadline for all had passed")
            left = () if isinstance(run.items, AsyncIterator) else run.items
            outcomes += [Outcome(index, item, error=late) for index, item in enumerate(left, len(outcomes))]
        return sorted(outcomes, key=lambda outcome: outcome.index)

    def stream(
        self, call: Callable[..., Awaitable[T]], items: Items, *, in_order: bool = True
    ) -> AsyncGenerator[Outcome[T], None]:
        """Yield outcomes while later items run: in the order of the input, or as they come.

        Settings of dspy.context and other context variables that hold here hold for every call. To leave
        the loop, or to be cancelled, cancels the calls under way. An error of the iterable is raised when
        the outcomes of the items before it are out.

        Args:
            call: an async function, or a dspy.Module with `aforward`. A dspy.Example or a dict is handed
                over by name, a tuple by place, any other item as it is.
            items: any iterable or async iterable, also an endless one.
            in_order: False to let a slow item hold up nobody.

        Raises:
            NotAsyncError: `call` is a plain function; at once, and nothing was called.
            DeadlineExceeded: `deadline_s` was over before the items were; after the last outcome.
        """
        return self._stream(_Run(self, call, items), in_order=in_order)

    async def _stream(self, run: _Run[T], *, in_order: bool) -> AsyncGenerator[Outcome[T], None]:
        """Take the tasks in the order in which they began or ended; the last one is the task that feeds."""
        queue: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
        is_hidden = None if self.progress is None else not self.progress
        bar = _Bar(total=run.total, unit="item", disable=is_hidden)
        failed = 0
        feed = run.feed(queue.put_nowait, in_order=in_order)
        feeding = asyncio.create_task(feed, context=run.context.copy())
        feeding.add_done_callback(queue.put_nowait)
        try:
            while (task := await queue.get()) is not feeding:
                outcome = await task
                run.room.release()
                failed += not outcome.ok
                if not bar.disable:
                    bar.set_postfix_str(f"{failed} failed", refresh=False)
                    bar.update()
                yield outcome
            feeding.result()
        finally:
            bar.close()
            await tasks.end(feeding)


class _Run(Generic[T]):
    """One pass over the items, in the context in which it was asked for."""

    def __init__(self, runner: AsyncRunner, call: Callable[..., Awaitable[T]], items: Items) -> None:
        self._call = _async_call(call)
        self.total = len(items) if isinstance(items, Sized) else None
        self.items = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self._item_deadline_s = runner.item_deadline_s or math.inf
        with Deadline.after(runner.deadline_s or math.inf).applied() as earliest:
            self.deadline = earliest
        self._slots = asyncio.Semaphore(runner.limit)
        self.room = asyncio.Semaphore(_AHEAD * runner.limit)
        """Places for items that are begun and not yet handed out."""
        self.context = copy_context()

    async def feed(self, announce: Callable[[asyncio.Task[Any]], None], *, in_order: bool) -> None:
        """Start a task for each item when there is a slot and room; announce it when it begins or ends.

        Raises:
            Exception: the iterable's, or DeadlineExceeded; when all tasks have ended.
        """
        ended_by: Exception | None = None
        async with asyncio.TaskGroup() as group:
            try:
                async with self.deadline.held():
                    async for index, item in self._numbered():
                        one = self._one(index, item)
                        task = group.create_task(one, context=self.context.copy())
                        if in_order:
                            announce(task)
                        else:
                            task.add_done_callback(announce)
            except Exception as error:  # border: the caller's own iterable
                ended_by = error
        if ended_by is not None:
            raise ended_by

    async def _numbered(self) -> AsyncIterator[tuple[int, Any]]:
        """Read an item only when it can be started at once."""
        for index in itertools.count():
            await self.room.acquire()
            await self._slots.acquire()
            try:
                item = await anext(self.items) if isinstance(self.items, AsyncIterator) else next(self.items)
            except (StopIteration, StopAsyncIteration):
                return
            yield index, item

    async def _one(self, index: int, item: Any) -> Outcome[T]:
        """Call, within what is left of the time."""
        began_s = time.monotonic()
        value: T | None = None
        error: Exception | None = None
        try:
            args, kwargs = arguments(item)
            left_s = min(self._item_deadline_s, self.deadline.remaining_s())
            async with Deadline.after(left_s).held() if left_s < math.inf else _UNBOUNDED:
                value = await self._call(*args, **kwargs)
        except asyncio.CancelledError:
            if tasks.is_cancelled():
                raise
            error = CancelledItem("the call was cancelled from inside: it awaited what was cancelled")
        except Exception as problem:  # border: one bad item must not end the others
            error = problem
        finally:
            self._slots.release()
        return Outcome(index, item, value, error, time.monotonic() - began_s)


class _Bar(tqdm):  # type: ignore[misc]
    """A progress bar without tqdm's thread, which would outlive it."""

    monitor_interval = 0


def _async_call(call: Any) -> Callable[..., Awaitable[Any]]:
    if isinstance(call, dspy.Module):
        if hasattr(call, "aforward"):
            return call.acall  # type: ignore[no-any-return]
    elif inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__):
        return call  # type: ignore[no-any-return]
    raise NotAsyncError(f"{call!r:.60} is no async function and would block; give dspy.asyncify(it)")
