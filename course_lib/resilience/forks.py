"""A forked child takes over no lock that a thread of the parent holds, and no call that one is making."""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakSet

things: WeakSet[Any] = WeakSet()
"""Each has a `_lock`, which is open in a child, and `_begin_anew()` if it knows of calls under way."""


held: WeakSet[Any] = WeakSet()
"""What must be at rest in a child: the `_lock` of each is held while the process forks."""
_now_held: list[Any] = []


def _before_fork() -> None:
    for thing in tuple(held):
        thing._lock.acquire()  # noqa: SLF001
        _now_held.append(thing)


def _release() -> None:
    while _now_held:
        _now_held.pop()._lock.release()  # noqa: SLF001


def _after_fork() -> None:
    for thing in tuple(things):
        thing._lock._at_fork_reinit()  # noqa: SLF001
    for thing in (*things, *_now_held):
        getattr(thing, "_begin_anew", tuple)()
    _release()


os.register_at_fork(before=_before_fork, after_in_parent=_release, after_in_child=_after_fork)
