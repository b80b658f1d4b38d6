"""Work off the caller's event loop: a function in a thread of its own, a coroutine on a loop kept for it.

Main path: in_thread(function), on_kept_loop(coroutine) -> concurrent.futures.Future; both keep the context.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], T], *, name: str) -> Future[T]:
    """Start `work` in a daemon thread of its own, with the caller's context.

    Not an executor's: those have few threads, which calls past their deadline would keep, and Python waits
    for them at its end.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def body() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # border: the thread's; whoever waits gets it
            outcome.set_exception(
                error if isinstance(error, Exception) else RuntimeError(type(error).__name__)
            )

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(body,), name=name, daemon=True).start()
    return outcome


def on_kept_loop(work: Coroutine[Any, Any, T]) -> Future[T]:
    """Start `work` on the loop kept for async tools that synchronous code calls, with the caller's context.

    One loop for all calls, so that what a tool keeps between them (a connection pool) stays on its loop.
    """
    outcome: Future[T] = Future()

    def begin() -> None:
        task = asyncio.get_running_loop().create_task(work)
        waiting.add(task)
        task.add_done_callback(finish)

    def finish(task: asyncio.Task[T]) -> None:
        waiting.discard(task)
        if task.cancelled():
            outcome.set_exception(RuntimeError("the call was cancelled"))
        elif error := task.exception():
            outcome.set_exception(error)
        else:
            outcome.set_result(task.result())

    loop, waiting = _kept_loop()
    loop.call_soon_threadsafe(begin, context=contextvars.copy_context())
    return outcome


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never has to wait: the sync form of an async body."""
    try:
        work.send(None)
    except StopIteration as finished:
        result: T = finished.value
        return result
    raise RuntimeError("the coroutine waits for something, so it needs an event loop")


@functools.cache
def _kept_loop() -> tuple[asyncio.AbstractEventLoop, set[asyncio.Task[Any]]]:
    """Return the loop, running in a daemon thread, and the tasks on it (a loop holds them only weakly)."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="tool-loop", daemon=True).start()
    return loop, set()


# A forked child has no threads: it starts a loop of its own when it needs one.
os.register_at_fork(after_in_child=_kept_loop.cache_clear)
