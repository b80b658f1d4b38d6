"""A program streamified once, as a server would, streams for its first request only; later ones just wait."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy

from course_lib.concurrency.streaming import Token, stream
from tests.traps.conftest import SOLVED, reply

ANSWER = "Boots are washed by hand."


def pieces(values: list[Any]) -> int:
    return sum(isinstance(value, dspy.streaming.StreamResponse | Token) for value in values)


def test_plain_dspy_streams_the_first_request_and_no_other(script) -> None:
    async def main() -> list[int]:
        listener = dspy.streaming.StreamListener("answer")
        program = dspy.Predict("question -> answer")
        ask = dspy.streamify(program, stream_listeners=[listener], is_async_program=True)
        return [pieces([value async for value in ask(question=question)]) for question in ("a", "b")]

    with dspy.context(lm=script(reply(ANSWER)).plain_lm()):
        first, second = asyncio.run(main())

    assert first > 2
    assert second == 0, SOLVED.format("a listener may be used again")


def test_a_stream_of_its_own_for_each_request_streams_each(script) -> None:
    program = dspy.Predict("question -> answer")

    async def main() -> list[int]:
        return [pieces([event async for event in stream(program, question=text)]) for text in ("a", "b")]

    with dspy.context(lm=script(reply(ANSWER)).plain_lm()):
        assert min(asyncio.run(main())) > 2
