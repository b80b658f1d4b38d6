"""A cached answer shown as a stream: the chunks that the model would have sent, piece by piece, at once.

Main path: inside dspy.streamify, front.py sends pieces_of(result) to the stream before it returns the answer.
Source: dspy.lm15.response_to_events and dspy/clients/engines/streaming.ListenerBridge, the same road that a
live answer takes to stream listeners (DSPy 3.4.1, dspy/clients/execution.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import anyio
import anyio.from_thread
import dspy
from dspy.clients.call_context import stream_emitted
from dspy.clients.call_result import CallResult
from dspy.clients.engines.streaming import ListenerBridge
from dspy.lm15 import response_to_events

from course_lib.caching.single_flight import on_event_loop
from course_lib.lm import tokens


def pieces_of(result: CallResult, model: str) -> Iterator[Any]:
    """Yield the chunks of an answer as DSPy's engines send them; joined, their text is the answer's.

    Text comes in tokens, never in single characters, over which DSPy's listeners stumble. What has no form
    as a stream (an answer of LiteLLM's, a part without one) yields nothing: the Prediction follows anyway.
    """
    caller = dspy.settings.caller_predict
    for response in result.responses:
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


async def send(result: CallResult, model: str, *, in_task: bool) -> None:
    """Send an answer's pieces to the stream of this call; waits for a slow reader, as a live stream does.

    A sync program of dspy.streamify runs in a worker thread of AnyIO, whose way to the stream's loop is used.
    From another thread, such as one of dspy.Parallel, there is none; a live answer would fail there. This one
    is given without being shown.
    """
    pieces, stream = list(pieces_of(result, model)), dspy.settings.send_stream
    if in_task and pieces:
        await _send_all(stream, pieces)
    if in_task or on_event_loop() or not pieces:
        return
    try:
        anyio.from_thread.check_cancelled()
    except RuntimeError:  # not a worker thread of AnyIO
        return
    anyio.from_thread.run(_send_all, stream, pieces)


async def _send_all(stream: Any, pieces: list[Any]) -> None:
    stream_emitted()  # as in a live stream: no second try with another adapter once text was shown
    for piece in pieces:
        await stream.send(piece)
