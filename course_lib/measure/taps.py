"""Taps on one model call: what it used, and when the first text of its stream left.

Main path: PerformanceMonitor puts them in dspy.context for the time of the call; they pass on all they get.
Source: `usage_tracker` and `send_stream` as dspy/clients/execution.py uses them (DSPy 3.4.1): a tracker needs
`add_usage`, which is not called for an answer of the cache, and a stream needs `send`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from dspy.utils.callback import ACTIVE_CALL_ID


class Tokens(NamedTuple):
    """What one call used."""

    prompt: int
    completion: int
    cached: int
    """How many of the prompt's came from the provider's own prompt cache, at its price."""


class Noted(Protocol):
    """Where a tap writes down what it sees."""

    usage: Tokens | None
    first_token_s: float | None


class UsageTap:
    """Stands where DSPy looks for its usage tracker: notes this call's tokens, and passes them on."""

    def __init__(self, call_id: str, noted: Noted, tracker: Any) -> None:
        self._call_id, self._noted, self._tracker = call_id, noted, tracker
        # A track_usage() opened by an engine adds its entries here when it closes.
        self.usage_data = getattr(tracker, "usage_data", defaultdict(list))

    def __deepcopy__(self, _memo: dict[int, Any]) -> UsageTap:
        return self

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        """Take what DSPy reports at the end of a call that was not answered by its cache."""
        if ACTIVE_CALL_ID.get() == self._call_id:  # not of a model that this model calls
            prompt, completion, cached = self._noted.usage or (0, 0, 0)
            details = usage_entry.get("prompt_tokens_details") or {}
            self._noted.usage = Tokens(
                prompt + (usage_entry.get("prompt_tokens") or 0),
                completion + (usage_entry.get("completion_tokens") or 0),
                cached + (dict(details).get("cached_tokens") or 0),
            )
        if self._tracker is not None:
            self._tracker.add_usage(lm, usage_entry)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracker, name)


class StreamTap:
    """Stands where DSPy sends a stream's chunks: notes when the first text left, and passes all on."""

    def __init__(self, noted: Noted, stream: Any, clock: Callable[[], float]) -> None:
        self._noted, self._stream, self._clock = noted, stream, clock

    async def send(self, chunk: Any) -> None:
        """Send one chunk."""
        if self._noted.first_token_s is None and _has_text(chunk):
            self._noted.first_token_s = self._clock()
        await self._stream.send(chunk)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _has_text(chunk: Any) -> bool:
    choices = getattr(chunk, "choices", None)
    delta = getattr(choices[0], "delta", None) if choices else None
    return bool(getattr(delta, "content", None) or getattr(delta, "reasoning_content", None))
