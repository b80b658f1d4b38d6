"""A cached answer shown as a stream: the chunks that the model would have sent, piece by piece, at once.

Main path: inside dspy.streamify, front.py sends pieces_of(record) to the stream before it returns the answer.
Source: dspy.lm15.response_to_events and dspy/clients/engines/streaming.ListenerBridge, the same road that a
live answer takes to stream listeners (DSPy 3.4.1, dspy/clients/execution.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anyio
import anyio.from_thread
import dspy
from dspy.clients.call_context import stream_emitted
from dspy.clients.call_result import CACHE_FORMAT, CallResult
from dspy.clients.engines.streaming import ListenerBridge
from dspy.lm15 import response_to_events

from course_lib.lm import tokens


def is_streaming() -> bool:
    """Return whether this call runs inside dspy.streamify."""
    return dspy.settings.send_stream is not None


def pieces_of(record: Any, model: str) -> Iterator[Any]:
    """Yield the chunks of a record as DSPy's engines send them; joined, their text is the answer's.

    Text comes in tokens, never in single characters, over which DSPy's listeners stumble. What has no form
    as a stream (a record of LiteLLM's, a part without one) yields nothing: the Prediction follows anyway.
    """
    if not (isinstance(record, dict) and record.get("_dspy_format") == CACHE_FORMAT):
        return
    caller = dspy.settings.caller_predict
    for response in CallResult.load(record).responses:
        bridge = ListenerBridge(model, id(caller) if caller else None)
        try:
            events = list(response_to_events(response))
        except TypeError:  # lm15's word for a part that no stream can carry
            return
        for event in events:
            for smaller in _cut(event):
                chunk = bridge.chunk(smaller)
                if chunk is not None:
                    yield chunk


def _cut(event: Any) -> Iterator[Any]:
    delta = getattr(event, "delta", None)
    if delta is None or delta.type not in {"text", "thinking"} or not delta.text:
        yield event
        return
    first, *rest = tokens.split(delta.text)
    yield replace(event, delta=replace(delta, text=first))
    for piece in rest:  # log-probabilities belong to the whole text: they go out once, with the first piece
        bare = {"logprobs": (), "logprobs_complete": True} if delta.type == "text" else {}
        yield replace(event, delta=replace(delta, text=piece, **bare))


async def send(record: Any, model: str) -> None:
    """Send a record's pieces to the stream of this task; waits for a slow reader, as a live stream does."""
    await _send_all(dspy.settings.send_stream, list(pieces_of(record, model)))


def send_from_thread(record: Any, model: str) -> None:
    """Send a record's pieces from a worker thread of dspy.streamify.

    From another thread, such as one of dspy.Parallel, there is no way to the stream's loop; a live answer
    would fail there. This one is given without being shown.
    """
    pieces = list(pieces_of(record, model))
    if _has_running_loop() or not pieces:
        return
    try:
        anyio.from_thread.check_cancelled()
    except RuntimeError:  # not a worker thread of AnyIO
        return
    anyio.from_thread.run(_send_all, dspy.settings.send_stream, pieces)


async def _send_all(stream: Any, pieces: list[Any]) -> None:
    if pieces:
        stream_emitted()  # as in a live stream: no second try with another adapter once text was shown
    for piece in pieces:
        await stream.send(piece)


def _has_running_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
