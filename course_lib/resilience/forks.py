"""A forked child takes over no lock that a thread of the parent holds, and no call that one is making."""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakSet

things: WeakSet[Any] = WeakSet()
"""Each has a `_lock`, which is open in a child, and `_begin_anew()` if it knows of calls under way."""


def _after_fork() -> None:
    for thing in tuple(things):
        thing._lock._at_fork_reinit()  # noqa: SLF001
        getattr(thing, "_begin_anew", tuple)()


os.register_at_fork(after_in_child=_after_fork)
