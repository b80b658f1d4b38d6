"""How soon a reader sees the first token: a stream of ours against httpx reading the endpoint's own stream.

Both wait for the same model, whose first token takes a time that is drawn anew for each request; the medians
of many requests are compared. DSPy's own streamify is told beside them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.ratio import paired, report

ROUNDS = 7
TURNS = 4
AT_MOST = 1.15
TTFT_MS = 150
QUESTION = "How long does express delivery take?"


async def seconds(first: Callable[[], Awaitable[float]]) -> float:
    """Return the mean time to the first token of some requests, in milliseconds."""
    return sum([await first() for _ in range(TURNS)]) / TURNS * 1e3


def main() -> bool:
    import dspy
    import httpx

    from course_lib import lm
    from course_lib.concurrency.streaming import Token, stream

    lm.connect()
    lm.profile("bench-first", ttft_p50_ms=TTFT_MS, ttft_p99_ms=TTFT_MS + 1, speed_p50_tokens_per_s=400)
    model = lm.connect("sim-large@bench-first", cache=False)
    program = dspy.Predict("question -> answer")
    messages = dspy.ChatAdapter().format(program.signature, [], {"question": QUESTION})
    body = {"model": "sim-large@bench-first", "messages": messages, "stream": True}
    loop = asyncio.new_event_loop()
    client = httpx.AsyncClient(headers={"Authorization": f"Bearer {lm.key()}"}, timeout=30)

    async def bare() -> float:
        """Read the endpoint until the answer's first word, past the mark of the field before it."""
        begun, text = time.perf_counter(), ""
        async with client.stream("POST", f"{lm.url()}/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
                if text.partition("[[ ## answer ## ]]")[2].strip():
                    return time.perf_counter() - begun
        raise AssertionError("no token came")

    async def ours() -> float:
        begun = time.perf_counter()
        async with stream(program, question=QUESTION) as events:
            async for event in events:
                if isinstance(event, Token):
                    return time.perf_counter() - begun
        raise AssertionError("no token came")

    async def dspys() -> float:
        begun, seen = time.perf_counter(), 0.0
        listener = dspy.streaming.StreamListener("answer")
        ask = dspy.streamify(program, stream_listeners=[listener], is_async_program=True)
        async for _ in ask(question=QUESTION):  # to its end: it complains when it is left
            seen = seen or time.perf_counter() - begun
        return seen

    def measured(first: Callable[[], Awaitable[float]]) -> Callable[[], float]:
        def measure() -> float:
            with dspy.context(lm=model):
                return loop.run_until_complete(seconds(first))

        return measure

    try:
        rounds: dict[str, Any] = {"rounds": ROUNDS}
        holds = report(
            "first token of a stream, against bare httpx",
            paired(measured(ours), measured(bare), **rounds),
            unit="ms",
            at_most=AT_MOST,
        )
        report(
            "  the same with DSPy's streamify", paired(measured(dspys), measured(bare), rounds=3), unit="ms"
        )
    finally:
        loop.run_until_complete(client.aclose())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    return holds


if __name__ == "__main__":
    raise SystemExit(not main())
