"""What the tests of data streams share: a stream of a test's own, a consumer in the background, waiting."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from course_lib.concurrency import events
from course_lib.concurrency.events import Consumer, Event, EventStream
from tests.concurrency.waiting import PATIENCE_S

_numbers = itertools.count(1)


@asynccontextmanager
async def stream_of(url: str, **options: Any) -> AsyncIterator[EventStream]:
    stream = EventStream(url, f"events-{next(_numbers)}", **options)
    try:
        yield stream
    finally:
        await stream.aclose()


def consuming(stream: EventStream, handle: Any, **options: Any) -> AbstractAsyncContextManager[Consumer]:
    """Run a consumer in the block, and stop it gracefully at the end."""
    return events.consuming(stream, handle, **{"idle_s": 60, "retry_s": 0.02, **options})


async def drained(stream: EventStream) -> None:
    """Wait until nothing waits and nothing is under way; and the group holds nothing either."""
    async with asyncio.timeout(PATIENCE_S):
        await stream.drained()
    assert await pending(stream) == 0


async def pending(stream: EventStream) -> int:
    groups = await stream._redis.xinfo_groups(stream.name)
    return sum(int(group["pending"]) for group in groups)


def numbered(count: int, **options: Any) -> list[Event]:
    return [Event("number", {"n": n}, id=str(n), **options) for n in range(count)]
