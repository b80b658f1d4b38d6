"""The end of tasks that are no longer wanted."""

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
