"""Locks that a forked child finds open, though a thread of its parent held them at the fork.

Main path: an object with renew_locks() calls renew_in_children(self) once, when it is made.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Something with locks."""

    def renew_locks(self) -> None:
        """Make the locks anew."""
        ...


_owners: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_children(owner: Renewable) -> None:
    """Have `owner.renew_locks()` called in every child that is forked from now on."""
    _owners.add(owner)


def _renew() -> None:
    for owner in tuple(_owners):
        owner.renew_locks()


os.register_at_fork(after_in_child=_renew)
