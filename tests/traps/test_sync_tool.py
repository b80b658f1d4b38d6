"""A tool that is not async stops every other task of the event loop while it works."""

from __future__ import annotations

import asyncio
import threading

import dspy

from course_lib.adapters.tools import limited
from tests.traps.conftest import SOLVED


async def runs_beside(make_tool, wait_s: float) -> bool:
    """Call a tool that waits for another task of the loop; return whether that task could run meanwhile."""
    other_ran = threading.Event()

    def slow(order: str) -> bool:
        """Look up an order, slowly."""
        return other_ran.wait(wait_s)

    calling = asyncio.create_task(make_tool(slow).acall(order="O-10001"))
    await asyncio.sleep(0)  # the call begins
    other_ran.set()
    return str(await calling).lower() == "true"


def test_a_plain_sync_tool_stalls_the_loop():
    could_run = asyncio.run(runs_beside(dspy.Tool, wait_s=0.3))

    assert not could_run, SOLVED.format("sync tools run off the event loop")


def test_a_limited_sync_tool_lets_the_loop_run():
    assert asyncio.run(runs_beside(lambda func: limited(func, deadline_s=60), wait_s=30))
