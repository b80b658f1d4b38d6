"""A language model that replies with given texts, so that a test of an adapter depends on the adapter alone.

Main path: lm, script = scripted(["answer: yes"]); dspy.context(lm=lm); script.requests counts what was sent.
Source: the engine contract of dspy.LM (dspy/clients/engines/base.py), the logger `dspy`; DSPy 3.4.1.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, ToolCallPart, Usage, response_to_events

from course_lib.adapters.tools.limits import on_kept_loop
from course_lib.lm import tokens

T = TypeVar("T")
Reply = str | Mapping[str, Any]
"""A text, or a call of the tool `name` with `args`."""


class Script:
    """Gives the replies in turn, and the last one from then on."""

    supports_function_calling = True
    supported_params = frozenset({"tools", "tool_choice"})

    def __init__(self, replies: Sequence[Reply]) -> None:
        self.replies = list(replies)
        self.requests = 0

    def complete(self, request: Request) -> Response:
        """Answer with the next reply."""
        reply = self.replies[min(self.requests, len(self.replies) - 1)]
        self.requests += 1
        if isinstance(reply, str):
            part, reason = TextPart(reply), "stop"
        else:
            part, reason = ToolCallPart("call_1", reply["name"], dict(reply["args"])), "tool_call"
        return Response(
            id="scripted",
            model=request.model,
            message=Message.assistant([part]),
            finish_reason=reason,
            usage=Usage(input_tokens=1, output_tokens=1, total_tokens=2),
        )

    def stream(self, request: Request) -> Iterator[Any]:
        """Stream the next reply in pieces of one token, as models do."""
        for event in response_to_events(self.complete(request)):
            delta: Any = getattr(event, "delta", None)
            if getattr(delta, "type", "") == "text":
                yield from (replace(event, delta=replace(delta, text=t)) for t in tokens.split(delta.text))
            else:
                yield event


class _AsyncScript:
    """The same script for `acall`."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def complete(self, request: Request) -> Response:
        return self._script.complete(request)

    async def stream(self, request: Request) -> AsyncIterator[Any]:
        for event in self._script.stream(request):
            yield event


def scripted(replies: Sequence[Reply]) -> tuple[Any, Script]:
    """Return a dspy.LM that gives `replies`, and its script, which counts the requests."""
    script = Script(replies)
    engines = {"engine": script, "async_engine": _AsyncScript(script)}
    return dspy.LM("script/replies", **engines, cache=False, num_retries=0), script


@contextmanager
def quiet_dspy() -> Iterator[None]:
    """Drop what DSPy logs during the block, below CRITICAL, in the whole process."""
    logger = logging.getLogger("dspy")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


class Run(NamedTuple):
    """One call of a program with the scripted model."""

    prediction: Any
    messages: list[dict[str, Any]]
    options: dict[str, Any]
    """What went to the model beside the messages."""
    requests: int


def run(adapter: Any, program: Any, inputs: Any, reply: Any, *, use_acall: bool = False) -> Run:
    """Call a program whose model gives `reply`; outputs of the program are written as the adapter does."""
    if isinstance(reply, dict) and "args" not in reply:
        reply = adapter.format_assistant_message_content(program.predictors()[0].signature, reply)
    lm, script = scripted([reply])
    with dspy.context(lm=lm, adapter=adapter):
        prediction = finished(program.acall(**inputs)) if use_acall else program(**inputs)
    entry = lm.history[0]
    return Run(prediction, entry["messages"], entry["kwargs"], script.requests)


def finished(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on another thread's loop: in a notebook, this thread's loop is running."""
    return on_kept_loop(work).result()


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message, without its parts of other kinds."""
    content = message.get("content") or ""
    parts = [{"text": content}] if isinstance(content, str) else content
    return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
