"""Models with an engine of a check's own and no server; one spends so many tokens as a question says.

Main path: a subclass of CheckEngine -> its lm("check/model"); spending_model() -> a dspy.LM; ask it "spend
17". "spend ?" spends 10 for the first request, 20 for the second, ...; "fail" fails, "garble" is answered
with nothing.
Source: the contract of engines in dspy/clients/engines/base.py (DSPy 3.4.1).
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import dspy
from dspy.lm15 import Message, RateLimitError, Request, Response, TextPart, Usage

from course_lib.exercises.concurrency.watched import until


def cached(spent: int) -> int:
    """Return how many of the tokens that were spent on a request its server had read before."""
    return spent // 5


def response(request: Request, answer: str, spent: int = 0) -> Response:
    """Return an answer as `question -> answer` reads it; empty for an empty one."""
    text = f"[[ ## answer ## ]]\n{answer}\n\n[[ ## completed ## ]]" if answer else ""
    sums = {"input_tokens": spent, "output_tokens": 1, "total_tokens": spent + 1}
    usage = Usage(**sums, cache_read_tokens=cached(spent))
    made = Message.assistant([TextPart(text=text)])
    dated = f"{request.model}-2026-01-15"  # the model that was asked has another name
    return Response(id="1", model=dated, message=made, finish_reason="stop", usage=usage)


class CheckEngine:
    """An engine of a check's own; `answered` is what its twin for tasks waits for, behind each answer."""

    def complete(self, request: Request) -> Response:
        """Answer one request."""
        raise NotImplementedError

    async def answered(self) -> None:
        """Let others have their turn."""
        await asyncio.sleep(0)

    def lm(self, name: str, **settings: Any) -> dspy.LM:
        """Return a model that asks this engine, sync and async; its other settings are dspy.LM's."""
        both = {"engine": self, "async_engine": _ForTasks(self)}
        return dspy.LM(name, **{"cache": False, "num_retries": 0, **settings}, **both)


class _ForTasks:
    def __init__(self, engine: CheckEngine) -> None:
        self._engine = engine

    async def complete(self, request: Request) -> Response:
        made = self._engine.complete(request)
        await self._engine.answered()
        return made


class _Spending(CheckEngine):
    """Answers one request after another, and counts them."""

    def __init__(self, wanted: int) -> None:
        self.asked, self.wanted = 0, wanted

    def complete(self, request: Request) -> Response:
        self.asked += 1
        asked = re.findall(r"spend (\d+|\?)|(fail)|(garble)", repr(request.messages[-1]))[-1]
        if asked[1]:
            raise RateLimitError("busy")
        spent = 10 * self.asked if asked[0] == "?" else int(asked[0] or 2)
        return response(request, "" if asked[2] else "spend 5", spent)

    async def answered(self) -> None:
        await until(lambda: self.asked >= self.wanted)


def spending_model(name: str = "large", *, wanted: int = 0, cache: bool = False) -> dspy.LM:
    """Return `paid/NAME`; for `acall` it answers when so many have asked as are wanted."""
    return _Spending(wanted).lm(f"paid/{name}", cache=cache)
