# mypy: allow-subclassing-any
"""A callback that drops answers which the program could not read.

Main path: dspy.configure(callbacks=[cache.watcher]); an adapter's parse fails -> the answer leaves the cache.
Source: dspy.utils.callback.BaseCallback (DSPy 3.4.1), whose handlers run in the caller's own context.

For DSPy a reply that cannot be parsed is a successful call: it is in the cache before the adapter looks at
it, and every retry reads it again.
"""

# ruff: noqa: ARG002  the handlers' signatures are DSPy's

from __future__ import annotations

from typing import Any

from dspy.utils.callback import BaseCallback

from course_lib.caching import keys


class CacheWatcher(BaseCallback):
    """Knows which entry each model call was about, and drops it when the adapter cannot read it."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self._reading: dict[str, str] = {}

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin a note of the call, which the cache fills in."""
        keys.begin_call(instance)

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Close the note: what is asked from now on is not this call's."""
        call = keys.current_call.get()
        if call is not None:
            call.is_open = False

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Remember whose reply is being read; reading may ask another model."""
        call = keys.current_call.get()
        if call is not None and call.key is not None:
            self._reading[call_id] = call.key

    def on_adapter_parse_end(
        self, call_id: str, outputs: Any, exception: BaseException | None = None
    ) -> None:
        """Drop the reply if it could not be read."""
        key = self._reading.pop(call_id, None)
        if key is not None and isinstance(exception, Exception):
            self._cache.forget(key, because="could not be parsed")
