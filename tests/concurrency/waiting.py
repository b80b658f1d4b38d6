"""How tests of this folder wait: for what is needed, and no fixed time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from course_lib import lm

PATIENCE_S = 20.0


async def until(holds: Callable[[], Any], _what: str = "") -> None:
    """Wait until something holds; it may be asked with an await."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.005)


async def until_ledger(holds: Callable[[lm.Ledger], Any]) -> None:
    """Wait until the endpoint has seen something."""

    async def seen() -> Any:
        return holds(await asyncio.to_thread(lm.ledger))

    await until(seen)
