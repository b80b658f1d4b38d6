# mypy: allow-subclassing-any
"""What `limited` and `resilient` put in the place of an LM's engine, and how they ask the LM's own.

Source: dspy/clients/execution.py and engines/base.py (DSPy 3.4.1). For DSPy an engine makes one attempt,
under the cache and inside DSPy's own loop of retries.
"""

from __future__ import annotations

from typing import Any, Self

import dspy
from dspy.clients import execution
from dspy.clients.backend_selection import CLIENT_KEYS
from dspy.lm15 import Request

_FLAGS = ("supports_function_calling", "supports_reasoning", "supports_response_schema", "supported_params")


class Engine:
    """Says of itself what the LM supports, and is the same in a copied program."""

    def __init__(self, lm: dspy.LM) -> None:
        for name in _FLAGS:  # adapters look at them, on the event loop too
            setattr(self, name, getattr(lm, name))

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self


def with_engines(lm: dspy.LM, engine: Engine, async_engine: Engine, **settings: Any) -> dspy.LM:
    """Return a copy of an LM that asks these; connection settings (api_base, timeout) stay with `lm`."""
    connection = dict.fromkeys(CLIENT_KEYS & lm.kwargs.keys())
    return lm.copy(engine=engine, async_engine=async_engine, **connection, **settings)


def engine_of(lm: dspy.LM, request: Request, *, in_task: bool) -> tuple[Any, Request]:
    """Return the engine that DSPy would take for an LM, and the request as that one takes it."""
    call = execution.PreparedCall(None, None, {}, {"model": request.model}, request, False, 1, True)
    backend, request, _ = execution._engine(lm, call, in_task)  # noqa: SLF001
    return backend, request
