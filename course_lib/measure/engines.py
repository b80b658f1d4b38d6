# mypy: allow-subclassing-any
"""What `limited` and `resilient` put in the place of an LM's engine, and how they ask the LM's own.

Source: dspy/clients/execution.py and engines/base.py (DSPy 3.4.1). For DSPy an engine makes one attempt,
under the cache and inside DSPy's own loop of retries.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Self

import dspy
from dspy._vendor.lm15.transports import AsyncTransportResponse, StdlibAsyncTransport, TransportRequest
from dspy.clients import execution
from dspy.clients.backend_selection import CLIENT_KEYS
from dspy.clients.engines.lm15_engine import AsyncLM15Engine
from dspy.lm15 import CollectionLimitError, Request

MOST_BYTES = 1024 * 1024
"""Of an answer, more than any model writes; a stream may have eight times that, since each token's event
repeats what stands around it. More is neither kept nor parsed, which would hold up all other answers."""
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
    is_made_here = isinstance(backend, AsyncLM15Engine)  # DSPy asks nobody for another transport
    if is_made_here and type(made := backend.router._shared_transport()) is StdlibAsyncTransport:  # noqa: SLF001
        made.__class__ = _Bounded
    return backend, request


class _Bounded(StdlibAsyncTransport):
    """Cuts off an answer that is too large: LMCollectionLimitError, after which nothing is repeated."""

    async def _do_stream(self, request: TransportRequest) -> AsyncTransportResponse:
        response = await super()._do_stream(request)
        is_stream = (response.header("content-type") or "").startswith("text/event-stream")
        response._chunks = _bounded(response._chunks, MOST_BYTES * (8 if is_stream else 1))  # noqa: SLF001
        return response


async def _bounded(chunks: AsyncIterator[bytes], most_bytes: int) -> AsyncIterator[bytes]:
    left = most_bytes
    async for chunk in chunks:
        if (left := left - len(chunk)) < 0:
            raise CollectionLimitError(f"the answer has more than {most_bytes:,} bytes")
        yield chunk
