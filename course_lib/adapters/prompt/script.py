"""A language model that replies with given texts, so that a test of an adapter depends on the adapter alone.

Main path: lm, script = scripted(["answer: yes"]); dspy.context(lm=lm); script.requests counts what was sent.
Stand(adapter).run(program, expected, inputs) runs an adapter with it for the conformance suite.
quiet_dspy() keeps DSPy's warnings off the screen where the caller shows what they warn of.
Source: the engine contract of dspy.LM (dspy/clients/engines/base.py), the logger `dspy`, which has a handler
of its own (dspy/utils/logging_utils.py); DSPy 3.4.1.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

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
    supports_response_schema = False
    supports_reasoning = False
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

    async def aclose(self) -> None:
        """Nothing is open."""


def scripted(replies: Sequence[Reply]) -> tuple[Any, Script]:
    """Return a dspy.LM that gives `replies`, and its script, which counts the requests."""
    script = Script(replies)
    asynchronous = _AsyncScript(script)
    lm = dspy.LM("script/replies", engine=script, async_engine=asynchronous, cache=False, num_retries=0)
    return lm, script


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


@dataclass(frozen=True, slots=True)
class Run:
    """One call of a program with the scripted model."""

    prediction: Any
    messages: list[dict[str, Any]]
    options: dict[str, Any]
    """What went to the model beside the messages."""
    requests: int


class Stand:
    """An adapter under test; every run gets a copy of it and a new script."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter

    def adapter(self, **changes: Any) -> Any:
        """Return a copy of the adapter with attributes changed."""
        changed = copy.copy(self._adapter)
        for name, value in changes.items():
            setattr(changed, name, value)
        return changed

    def written(self, signature: Any, outputs: Any) -> str:
        """Return a reply that holds the outputs, as the adapter itself writes them in a demo."""
        return str(self._adapter.format_assistant_message_content(signature, outputs))

    def parse(self, signature: Any, text: str) -> dict[str, Any]:
        """Parse a text."""
        return dict(self.adapter().parse(signature, text))

    def run(
        self,
        program: Any,
        expected: Any,
        inputs: Any,
        *,
        reply: Any = None,
        adapter: Any = None,
        use_acall: bool = False,
    ) -> Run:
        """Call a program whose model replies `expected` as the adapter writes it, or `reply` as it stands."""
        signature = program.predictors()[0].signature
        lm, script = scripted([self.written(signature, expected) if reply is None else reply])
        with dspy.context(lm=lm, adapter=adapter or self.adapter()):
            prediction = finished(program.acall(**inputs)) if use_acall else program(**inputs)
        entry = lm.history[0]
        return Run(prediction, entry["messages"], entry["kwargs"], script.requests)


def finished(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on another thread's loop: in a notebook, this thread's loop is running."""
    return on_kept_loop(work).result()


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message, without its parts of other kinds."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
