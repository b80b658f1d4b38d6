"""Makes a hidden request visible: ChatAdapter and XMLAdapter ask again in JSON when they cannot read a reply.

Main path: `with count_fallbacks() as fallbacks: ...; len(fallbacks)`.
Source: ChatAdapter.__call__ and acall (dspy/adapters/chat_adapter.py), with_callbacks
(dspy/utils/callback.py), DSPy 3.4.1. A fallback is a parse that fails with AdapterParseError, and then a
JSONAdapter that formats for the same caller. A subclass reports once for each level of its classes, and the
caller of an inner report is the outer one, so it is kept apart.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback
from dspy.utils.exceptions import AdapterParseError

from course_lib.adapters.prompt.reask import reason


@dataclass(slots=True)
class Fallback:
    """One answer that needed a second request."""

    adapter: str
    """Class of the adapter that could not read the first reply."""
    reason: str
    """Why it could not."""
    reply: str
    """The first reply, which was paid for and thrown away."""
    outcome: str = "no reply"
    """Of the second request: `read`, `not read`, or `no reply` if none came or it was empty."""


@dataclass(slots=True)
class _Attempt:
    """The adapter that works for a caller, and what it has read."""

    adapter: Any
    fallback: Fallback | None = None
    """The fallback that this attempt is, if it is one."""
    is_read: bool = False
    reason: str = "the reply was empty"
    reply: str = ""


class _Counter(BaseCallback):
    """Turns DSPy's events into Fallbacks; used by many threads at once."""

    def __init__(self, into: list[Fallback]) -> None:
        self._into = into
        self._lock = threading.Lock()
        self._attempts: dict[str, _Attempt] = {}
        """By the call id of the caller: a module, or another event of an adapter."""

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: Any) -> None:  # noqa: ARG002
        if (caller := ACTIVE_CALL_ID.get()) is None:
            return
        with self._lock:
            before, now = self._attempts.get(caller), _Attempt(instance)
            self._attempts[caller] = now
            is_json = isinstance(instance, dspy.JSONAdapter)
            if is_json and before and not (before.is_read or isinstance(before.adapter, dspy.JSONAdapter)):
                now.fallback = Fallback(type(before.adapter).__name__, before.reason, before.reply)
                self._into.append(now.fallback)

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        self._forget(call_id, outputs)
        if (attempt := self._attempts.get(ACTIVE_CALL_ID.get() or "")) is None:
            return
        attempt.is_read = exception is None
        if isinstance(exception, AdapterParseError):
            attempt.reason, attempt.reply = reason(exception), str(exception.lm_response)
        if attempt.fallback:
            attempt.fallback.outcome = "read" if attempt.is_read else "not read"

    def _forget(self, call_id: str, outputs: Any, exception: Any = None) -> None:  # noqa: ARG002
        with self._lock:
            self._attempts.pop(call_id, None)

    on_adapter_format_end = on_module_end = _forget


@contextmanager
def count_fallbacks() -> Iterator[list[Fallback]]:
    """List the fallbacks to JSON of a block as they begin, sync and async, in its threads and tasks.

    Other callbacks of DSPy's settings stay in place. DSPy reports to a block's callbacks only what runs in
    the block's context, so work that began elsewhere is not counted.
    """
    fallbacks: list[Fallback] = []
    with dspy.context(callbacks=[*dspy.settings.callbacks, _Counter(fallbacks)]):
        yield fallbacks
