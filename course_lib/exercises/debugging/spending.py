"""A model that spends so many tokens as a question says, with no server: for checks of costs.

Main path: spending_model() -> a dspy.LM; ask it "spend 17". "spend ?" spends 10 for the first request, 20 for
the second, ...; "fail" fails, "garble" is answered with nothing.
Source: the contract of engines in dspy/clients/engines/base.py (DSPy 3.4.1).
"""

from __future__ import annotations

import re

import dspy
from dspy.lm15 import Message, RateLimitError, Request, Response, TextPart, Usage

from course_lib.exercises.concurrency.watched import until

_ANSWER = "[[ ## answer ## ]]\nspend 5\n\n[[ ## completed ## ]]"


class _Engine:
    """Answers one request after another, and counts them."""

    def __init__(self, wanted: int) -> None:
        self.asked, self.wanted = 0, wanted

    def complete(self, request: Request) -> Response:
        self.asked += 1
        asked = re.findall(r"spend (\d+|\?)|(fail)|(garble)", repr(request.messages[-1]))[-1]
        if asked[1]:
            raise RateLimitError("busy")
        spent = 10 * self.asked if asked[0] == "?" else int(asked[0] or 2)
        made = Message.assistant([TextPart(text="" if asked[2] else _ANSWER)])
        usage = Usage(input_tokens=spent, output_tokens=1, total_tokens=spent + 1)
        return Response(id="1", model=request.model, message=made, finish_reason="stop", usage=usage)


class _AsyncEngine:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine

    async def complete(self, request: Request) -> Response:
        response = self._engine.complete(request)
        await until(lambda: self._engine.asked >= self._engine.wanted)
        return response


def spending_model(name: str = "large", *, wanted: int = 0, cache: bool = False) -> dspy.LM:
    """Return `paid/NAME`; for `acall` it answers when so many have asked as are wanted."""
    engine = _Engine(wanted)
    both = {"engine": engine, "async_engine": _AsyncEngine(engine)}
    return dspy.LM(f"paid/{name}", cache=cache, num_retries=0, **both)
