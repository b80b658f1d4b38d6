"""A streamified program that ends with anything but a Prediction never ends its stream."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from course_lib.concurrency.streaming import Done, stream
from tests.traps.conftest import SOLVED

PATIENCE_S = 0.5


class Text(dspy.Module):
    """A program that returns text, which `program(...)` and `acall` allow."""

    def __init__(self) -> None:
        super().__init__()
        self.has_ended = asyncio.Event()

    async def aforward(self, question: str) -> str:
        self.has_ended.set()
        return f"{question} Yes."


def test_plain_dspy_waits_after_the_program_has_ended() -> None:
    async def main() -> bool:
        program, got = Text(), []

        async def read() -> None:
            got.extend(
                [value async for value in dspy.streamify(program, is_async_program=True)(question="So?")]
            )

        reading = asyncio.create_task(read())
        await program.has_ended.wait()
        _, waiting = await asyncio.wait([reading], timeout=PATIENCE_S)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return bool(waiting)

    assert asyncio.run(main()), SOLVED.format("a stream ends with any value")


def test_a_stream_of_ours_ends_with_a_clear_error() -> None:
    async def main() -> list[Any]:
        program = Text()
        program.ask = dspy.Predict("question -> answer")
        return [event async for event in stream(program, question="So?")]

    error, done = asyncio.run(main())

    assert error.code == "not_a_prediction"
    assert "Text ended with str" in str(error.cause)
    assert done == Done()
