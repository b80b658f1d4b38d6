"""DSPy's helper for server-sent events refuses the chunks that DSPy's own listeners make."""

from __future__ import annotations

import asyncio

import dspy
import httpx

from course_lib.concurrency.streaming import serve, streaming_app
from tests.traps.conftest import SOLVED, reply

ANSWER = "Tents are dried in the shade."


def test_plain_dspys_helper_raises_on_its_own_chunks(script) -> None:
    async def main() -> str:
        listener = dspy.streaming.StreamListener("answer")
        program = dspy.Predict("question -> answer")
        ask = dspy.streamify(program, stream_listeners=[listener], is_async_program=True)
        return "".join([sent async for sent in dspy.streaming.streaming_response(ask(question="How?"))])

    with dspy.context(lm=script(reply(ANSWER)).plain_lm()):
        try:
            sent = asyncio.run(main())
        except ValueError as error:
            sent = str(error)

    assert "Unknown chunk value type: StreamResponse" in sent, SOLVED.format("the helper sends any chunk")


def test_a_streaming_app_sends_each_token(script) -> None:
    with dspy.context(lm=script(reply(ANSWER)).plain_lm()):
        app = streaming_app(dspy.Predict("question -> answer"))
        with serve(app) as service:
            sent = httpx.get(f"{service.url}/stream", params={"question": "How?"}).text

    assert sent.count("event: token") > 2
    assert sent.count("event: done") == 1
