# mypy: allow-subclassing-any
"""The call of an LM that is under way, and a callback that drops its answer if the program cannot read it.

Main path: dspy.configure(callbacks=[cache.watcher]); an adapter's parse fails -> the answer leaves the cache.
Source: dspy.utils.callback.BaseCallback (DSPy 3.4.1), whose handlers run in the caller's own context.

For DSPy a reply that cannot be parsed is a successful call: it is in the cache before the adapter looks at
it, and every retry reads it again.
"""

# ruff: noqa: ARG002  the handlers' signatures are DSPy's

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from dspy.utils.callback import BaseCallback


@dataclass(slots=True, eq=False)
class LMCall:
    """A call of an LM, changed in place: DSPy's `acall` runs get() and put() in copies of the context."""

    lm: Any
    endpoint: str | None = None
    """DSPy puts it into the request of an ordinary call, but not into that of a typed `lm15.Request`."""
    key: str | None = None
    """Of the entry that the call is about."""
    stamp: tuple[int, int] | None = None
    """Which invalidations were known when it was asked."""
    is_open: bool = True


current_call: ContextVar[LMCall | None] = ContextVar("course_cache_call", default=None)
"""The call of an LM that is under way in this context, or was the last one."""


@contextmanager
def calling(lm: Any, options: Mapping[str, Any]) -> Iterator[LMCall]:
    """Yield the call of `lm` under way: the one that the watcher noted, or one for this block."""
    call = current_call.get()
    if call is None or not call.is_open or call.lm is not lm:
        call = LMCall(lm)
    call.endpoint = endpoint_of({**lm.kwargs, **options})
    token = current_call.set(call)
    try:
        yield call
    finally:
        current_call.reset(token)


def endpoint_of(options: Mapping[str, Any]) -> str | None:
    """Return the address that the options of a call name, or None: the provider's own."""
    url = options.get("api_base") or options.get("base_url")
    return str(url).rstrip("/") if url else None


class CacheWatcher(BaseCallback):
    """Knows which entry each model call was about, and drops it when the adapter cannot read it."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self._reading: dict[str, str] = {}

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin a note of the call, which the cache fills in."""
        current_call.set(LMCall(instance, endpoint_of(getattr(instance, "kwargs", {}))))

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Close the note: what is asked from now on is not this call's."""
        call = current_call.get()
        if call is not None:
            call.is_open = False

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Remember whose reply is being read; reading may ask another model."""
        call = current_call.get()
        if call is not None and call.key is not None:
            self._reading[call_id] = call.key

    def on_adapter_parse_end(
        self, call_id: str, outputs: Any, exception: BaseException | None = None
    ) -> None:
        """Drop the reply if it could not be read."""
        key = self._reading.pop(call_id, None)
        if key is not None and isinstance(exception, Exception):
            self._cache.forget(key, because="could not be parsed")
