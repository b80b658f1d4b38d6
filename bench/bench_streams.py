"""Fifty readers at once: all of them see tokens, and none sees its first one much later than the others."""

from __future__ import annotations

import asyncio
import time
from statistics import median
from typing import Any

CROWD = 50
ROUNDS = 5
AT_MOST = 3.0


def main() -> bool:
    import dspy

    from course_lib import lm
    from course_lib.concurrency.streaming import Final, Token, stream

    lm.connect()
    lm.profile("bench-crowd", ttft_p50_ms=150, ttft_p99_ms=151, speed_p50_tokens_per_s=100)
    model = lm.connect("sim-large@bench-crowd", cache=False)
    program = dspy.Predict("question -> answer")

    async def one(number: int) -> tuple[float, int, bool]:
        """Return the time to the first token, how many came, and whether they were the answer."""
        begun, first, text, tokens, final = time.perf_counter(), 0.0, "", 0, ""
        async with stream(program, question=f"What is {number} + {number}?") as events:
            async for event in events:
                if isinstance(event, Token):
                    first = first or time.perf_counter() - begun
                    text, tokens = text + event.text, tokens + 1
                elif isinstance(event, Final):
                    final = event.fields["answer"]
        return first, tokens, text == final != ""

    async def crowd() -> list[Any]:
        with dspy.context(lm=model):
            return await asyncio.gather(*(one(number) for number in range(CROWD)))

    holds, ratios = True, []
    for _ in range(ROUNDS + 1):  # the first does not count: the processes warm up
        seen = asyncio.run(crowd())
        holds &= all(tokens >= 2 and is_right for _, tokens, is_right in seen)
        firsts = sorted(first for first, *_ in seen)
        ratios.append(firsts[-1] / median(firsts))
        print(f"  first token: median {median(firsts) * 1e3:.0f} ms, slowest {firsts[-1] * 1e3:.0f} ms")
    print(f"{CROWD} streams at once: {'all stream their own answer' if holds else 'NOT ALL STREAM: MISSED'}")
    ratio = median(ratios[1:])
    is_even = ratio <= AT_MOST
    print(
        f"slowest first token against the median one: ratio {ratio:.2f} (at most {AT_MOST})"
        f": {'holds' if is_even else 'MISSED'}"
    )
    return holds and is_even


if __name__ == "__main__":
    raise SystemExit(not main())
