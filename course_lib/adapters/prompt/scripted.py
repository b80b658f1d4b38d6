"""A model that says what it is told to: for holding an adapter to its contract without a model's moods.

Main path: lm = scripted(replies=["answer: yes"]); dspy.context(lm=lm); lm.history shows what it was asked.
Source: the engine contract of dspy.LM (dspy/clients/engines/base.py, DSPy 3.4.1).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, ToolCallPart, Usage, response_to_events

from course_lib.lm import tokens


class Script:
    """Replies in turn, the last one for ever; a mapping is a call of the tool `name` with `args`."""

    supports_function_calling = True
    supports_response_schema = False
    supports_reasoning = False
    supported_params = frozenset({"tools", "tool_choice"})

    def __init__(self, replies: Sequence[str | Mapping[str, Any]]) -> None:
        self.replies = list(replies)
        self.asked = 0

    def complete(self, request: Request) -> Response:
        """Answer with the next reply."""
        reply = self.replies[min(self.asked, len(self.replies) - 1)]
        self.asked += 1
        if isinstance(reply, str):
            parts, finish_reason = [TextPart(reply)], "stop"
        else:
            parts, finish_reason = [ToolCallPart("call_1", reply["name"], dict(reply["args"]))], "tool_call"
        return Response(
            id="scripted",
            model=request.model,
            message=Message.assistant(parts),
            finish_reason=finish_reason,
            usage=Usage(input_tokens=1, output_tokens=1, total_tokens=2),
        )

    def stream(self, request: Request) -> Iterator[Any]:
        """Stream the next reply, in pieces such as models send."""
        for event in response_to_events(self.complete(request)):
            delta: Any = getattr(event, "delta", None)
            if getattr(delta, "type", "") != "text":
                yield event
                continue
            for piece in tokens.split(delta.text):
                yield replace(event, delta=replace(delta, text=piece))


class _AsyncScript:
    """The same, for `acall`."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def complete(self, request: Request) -> Response:
        return self._script.complete(request)

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        for event in self._script.stream(request):
            yield event

    async def aclose(self) -> None:
        """Nothing is open."""


def scripted(replies: Sequence[str | Mapping[str, Any]]) -> tuple[Any, Script]:
    """Return a dspy.LM that gives `replies`, and its script, which counts what was asked."""
    script = Script(replies)
    lm = dspy.LM(
        "script/replies", engine=script, async_engine=_AsyncScript(script), cache=False, num_retries=0
    )
    return lm, script
