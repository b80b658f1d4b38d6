"""Bells: wake one waiting thread or task from any thread.

Main path: bell = ThreadBell() or TaskBell(); the waiter waits, somebody else rings. A task that waits holds
no thread, so a thousand of them leave the thread pools free.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from contextlib import suppress
from typing import Protocol


class ThreadBell:
    """Wakes one waiting thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ring(self) -> None:
        """Wake the thread, or keep it from falling asleep."""
        self._event.set()

    def wait(self, timeout_s: float) -> None:
        """Block this thread until the bell rings or the time is up."""
        self._event.wait(timeout_s)


class TaskBell:
    """Wakes one waiting task, from any thread; made in the task's own loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung: asyncio.Future[None] = self._loop.create_future()

    def ring(self) -> None:
        """Wake the task, or keep it from falling asleep; a loop that has closed has nobody to wake."""
        try:
            self._loop.call_soon_threadsafe(self._ring)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _ring(self) -> None:
        if not self._rung.done():
            self._rung.set_result(None)

    def probe(self) -> threading.Event:
        """Return an event that is set as soon as the loop's own thread pool has a thread to spare."""
        spared = threading.Event()
        with suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(self._ask_pool, spared)
        return spared

    def _ask_pool(self, spared: threading.Event) -> None:
        with suppress(RuntimeError):  # the pool has shut down
            self._loop.run_in_executor(None, spared.set)

    async def wait(self, timeout_s: float) -> None:
        """Let the loop go on until the bell rings or the time is up; no thread is held."""
        await asyncio.wait((self._rung,), timeout=timeout_s)


Bell = ThreadBell | TaskBell


class _Forgets(Protocol):
    def forget(self) -> None:
        """Drop all that belongs to threads of the parent process."""
        ...


_to_forget: weakref.WeakSet[_Forgets] = weakref.WeakSet()


def forget_in_child(table: _Forgets) -> None:
    """Have a forked child call `table.forget()`: those it names are threads and tasks of the parent."""
    _to_forget.add(table)


def _forget_all() -> None:
    for table in list(_to_forget):
        table.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
