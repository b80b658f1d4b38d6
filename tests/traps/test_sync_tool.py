"""A tool that is not async stops every other task of the event loop while it works."""

from __future__ import annotations

import asyncio
import time

import dspy

from course_lib.adapters.tools.limits import limited
from tests.traps.conftest import SOLVED

TOOL_S = 0.3


def slow(order: str) -> str:
    """Look up an order, slowly."""
    time.sleep(TOOL_S)
    return f"{order} is on its way"


async def longest_stall_s(tool: dspy.Tool) -> float:
    """Call the tool beside a task that wants to run every 5 ms; return the longest it had to wait."""
    stalls = [0.0]

    async def tick() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            stalls.append(time.perf_counter() - before)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.02)
    assert "on its way" in await tool.acall(order="O-10001")
    await asyncio.sleep(0.02)
    ticking.cancel()
    return max(stalls)


def test_a_plain_sync_tool_stalls_the_loop():
    stalled_s = asyncio.run(longest_stall_s(dspy.Tool(slow)))

    assert stalled_s >= TOOL_S, SOLVED.format("sync tools run off the event loop")


def test_a_limited_sync_tool_lets_the_loop_run():
    stalled_s = asyncio.run(longest_stall_s(limited(slow)))

    assert stalled_s < TOOL_S / 2
