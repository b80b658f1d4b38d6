"""The end of tasks that are no longer wanted, and of those that somebody has cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio


async def end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they have ended; asyncio logs nothing of how."""
    for task in tasks:
        task.cancel()
    with anyio.CancelScope(shield=True):
        await asyncio.wait(tasks)
    for task in tasks:
        _ = task.cancelled() or task.exception()


def is_cancelled() -> bool:
    """Say whether somebody has cancelled this task: a CancelledError may also come from what it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
