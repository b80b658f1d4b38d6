"""What a forked child must make anew: locks that a thread of its parent held, connections, calls under way.

Main path: an object with renew() calls renew_in_children(self) once, when it is made; one that has nothing
but a lock to renew takes it from renewed_lock().
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

_owners: weakref.WeakSet[Any] = weakref.WeakSet()


def renew_in_children(owner: Any) -> None:
    """Have `owner.renew()` called in every child that is forked from now on."""
    _owners.add(owner)


_locks: weakref.WeakSet[threading.Lock] = weakref.WeakSet()


def renewed_lock() -> threading.Lock:
    """Return a lock that is open in every forked child, as those of Python's own logging are."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def _renew_all() -> None:
    for lock in tuple(_locks):
        lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001
    for owner in tuple(_owners):
        owner.renew()


os.register_at_fork(after_in_child=_renew_all)
