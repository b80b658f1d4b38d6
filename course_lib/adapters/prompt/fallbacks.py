"""Makes a hidden request visible: ChatAdapter and XMLAdapter ask again in JSON when they cannot read.

Main path: `with count_fallbacks() as fallbacks: ...; print(fallbacks)`.
Source: ChatAdapter.__call__ and acall (dspy/adapters/chat_adapter.py), with_callbacks
(dspy/utils/callback.py), DSPy 3.4.1. A fallback is seen as a parse that fails with AdapterParseError and a
JSONAdapter that then formats for the same caller. Every level of subclassing reports format and parse once
more; what an adapter reports from inside its own report is left out.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import dspy
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback
from dspy.utils.exceptions import AdapterParseError

from course_lib.adapters.prompt.reask import reason


@dataclass(frozen=True, slots=True)
class Fallback:
    """One answer that needed a second request."""

    adapter: str
    """Class of the adapter that could not read the first reply."""
    reason: str
    """Why it could not."""
    reply: str
    """The first reply, which was paid for and thrown away."""
    outcome: str = "no reply"
    """What became of the second request: `read`, `not read`, or `no reply` if none came, or it was empty."""


class Fallbacks:
    """What was seen: `answers` asked for, and `rows`, the fallbacks among them."""

    def __init__(self) -> None:
        self.answers = 0
        self._rows: list[Fallback] = []

    @property
    def rows(self) -> list[Fallback]:
        """The fallbacks, in the order in which they began."""
        return list(self._rows)

    def add(self, fallback: Fallback) -> int:
        """Enter a fallback; returns its place."""
        self._rows.append(fallback)
        return len(self._rows) - 1

    def settle(self, row: int, outcome: str) -> None:
        """Enter what became of a fallback."""
        self._rows[row] = replace(self._rows[row], outcome=outcome)

    def __len__(self) -> int:
        return len(self._rows)

    def __str__(self) -> str:
        needed = f"{len(self)} of {self.answers} answers needed a second request"
        lines = [f"  {row.adapter} -> JSONAdapter ({row.outcome}): {row.reason:.100}" for row in self._rows]
        return "\n".join([needed, *lines])

    __repr__ = __str__


@dataclass(slots=True)
class _Ask:
    """The adapter at work for one caller, and how far it came."""

    adapter: Any
    is_read: bool = False
    reason: str = "the reply was empty"
    reply: str = ""
    row: int | None = None
    """Which fallback this is, once it is one."""


class _Watch(BaseCallback):
    """Turns DSPy's events into Fallbacks; used by many threads at once."""

    def __init__(self, into: Fallbacks) -> None:
        self._into = into
        self._lock = threading.Lock()
        self._open: dict[str, tuple[str, Any, Any]] = {}
        self._asks: dict[Any, _Ask] = {}

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: Any) -> None:  # noqa: ARG002
        with self._lock:
            caller = self._begin(call_id, "format", instance)
            if caller is None:
                return
            before = self._asks.get(caller)
            if before and _falls_back(before, instance):
                row = self._into.add(Fallback(type(before.adapter).__name__, before.reason, before.reply))
                self._asks[caller] = _Ask(instance, row=row)
                return
            self._asks[caller] = _Ask(instance)
            is_part = caller in self._open  # such as the extraction within TwoStepAdapter.parse
            if not is_part and (before is None or isinstance(caller, tuple)):
                self._into.answers += 1

    def on_adapter_format_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:  # noqa: ARG002
        with self._lock:
            self._open.pop(call_id, None)

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: Any) -> None:  # noqa: ARG002
        with self._lock:
            self._begin(call_id, "parse", instance)

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:  # noqa: ARG002
        with self._lock:
            _, _, caller = self._open.pop(call_id, ("", None, None))
            ask = self._asks.get(caller)
            if ask is None:
                return
            ask.is_read = exception is None
            if isinstance(exception, AdapterParseError):
                ask.reason, ask.reply = reason(exception), str(exception.lm_response)
            if ask.row is not None:
                self._into.settle(ask.row, "read" if ask.is_read else "not read")

    def on_module_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:  # noqa: ARG002
        with self._lock:
            self._asks.pop(call_id, None)

    def _begin(self, call_id: str, kind: str, instance: Any) -> Any:
        """Note an event; returns its caller, or None for the same event reported by an inner level."""
        outer = self._open.get(ACTIVE_CALL_ID.get() or "")
        if outer and outer[0] == kind and outer[1] is instance:
            self._open[call_id] = (kind, instance, None)
            return None
        caller = _caller()
        self._open[call_id] = (kind, instance, caller)
        return caller


def _caller() -> Any:
    """Return what asks: a module's call, or, where there is none, the thread and task."""
    if (active := ACTIVE_CALL_ID.get()) is not None:
        return active
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident(), id(task)


def _falls_back(before: _Ask, now: Any) -> bool:
    was_json = isinstance(before.adapter, dspy.JSONAdapter)
    return isinstance(now, dspy.JSONAdapter) and not was_json and not before.is_read


@contextmanager
def count_fallbacks() -> Iterator[Fallbacks]:
    """Count the fallbacks to JSON of a block, sync and async, in its threads and tasks.

    Other callbacks of DSPy's settings stay in place. DSPy reports to a block's callbacks only what runs in
    the block's context, so work begun elsewhere meanwhile is not counted.
    """
    fallbacks = Fallbacks()
    with dspy.context(callbacks=[*dspy.settings.callbacks, _Watch(fallbacks)]):
        yield fallbacks
