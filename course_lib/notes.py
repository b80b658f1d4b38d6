"""A word to whoever traces or counts, from rooms that know nothing of either.

Main path: note("cache.hit", tier="redis"), a look at an empty tuple while nobody listens. Who listens finds
the call that it belongs to by the context in which it is told.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping

Fact = str | int | float | bool
"""A name, a number: never a prompt, an answer or what an error says, which may quote them."""

_log = logging.getLogger(__name__)
_lock = threading.Lock()
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]  # noqa: SLF001
_listeners: tuple[weakref.WeakMethod[Callable[[str, Mapping[str, Fact]], None]], ...] = ()


def note(name: str, **facts: Fact) -> None:
    """Tell all who listen that something happened: `note("retry", error="LMServerError", wait_s=0.2)`."""
    for reference in _listeners:
        if listener := reference():
            try:
                listener(name, facts)
            except Exception:  # border: what is told must not fail because of who listens
                _log.warning("a listener failed on the note %r", name, exc_info=True)


def listen(listener: Callable[[str, Mapping[str, Fact]], None]) -> None:
    """Call a bound method with each note from now on, where the note is made, while its object lives."""
    global _listeners
    with _lock:
        _listeners = (*(each for each in _listeners if each()), weakref.WeakMethod(listener))
