"""What the model's server saw of a block of code, how long it took, and how long an event loop stood still.

Main path: with watch() as seen: ...; print(seen) -> "1.20 s: 50 requests, at most 6 at once, 8 x 429".
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from course_lib import lm
from course_lib.measure.report import percentile

T = TypeVar("T")

_TICK_S = 0.005


@dataclass(slots=True)
class Seen:
    """How long a block took, and what the server saw of it; both stand when it has ended."""

    took_s: float = 0.0
    ledger: lm.Ledger | None = None

    def __str__(self) -> str:
        if self.ledger is None:
            return "the block has not ended"
        others = [f"{count} x {status}" for status, count in self.ledger.statuses.items() if status != 200]
        most = f"at most {self.ledger.most_at_once} at once"
        return f"{self.took_s:.2f} s: {', '.join([f'{self.ledger.requests} requests', most, *others])}"


@contextmanager
def watch() -> Iterator[Seen]:
    """Begin a new ledger, and fill in what the server saw when the block ends.

    With the ledger, rate limits and sequences of faults begin anew.
    """
    lm.reset()
    seen, began = Seen(), time.perf_counter()
    try:
        yield seen
    finally:
        seen.took_s = time.perf_counter() - began
        seen.ledger = lm.ledger()


async def until_quiet() -> None:
    """Wait until no request of this client is under way: a server notices late that a client has left."""
    while (await asyncio.to_thread(lm.ledger)).under_way:  # noqa: ASYNC110  nothing tells us
        await asyncio.sleep(_TICK_S)


async def longest_pause_ms(call: Awaitable[object]) -> float:
    """Await a call; return for how long the event loop could not do anything else meanwhile."""
    calling, pauses_s, last = asyncio.ensure_future(call), [0.0], time.perf_counter()
    while not calling.done():
        await asyncio.sleep(_TICK_S)
        now = time.perf_counter()
        pauses_s.append(now - last - _TICK_S)
        last = now
    await calling
    return 1000 * max(pauses_s)


async def outcomes_of(
    call: Callable[[T], Awaitable[object]], items: Sequence[T], *, every_s: float = 0.0
) -> dict[str, float]:
    """Call each item, one every so often, and count how the calls ended and what the server saw.

    Returns how many were "answered", how many raised an error of each class, the server's "requests", and
    "p95, s": the seconds that 95 of 100 calls did not exceed. A mistake in the program is raised.
    """

    async def one(number: int, item: T) -> tuple[str, float]:
        await asyncio.sleep(number * every_s)
        began, end = time.perf_counter(), "answered"
        try:
            await call(item)
        except (NameError, TypeError, AttributeError):
            raise
        except Exception as error:  # border: what is counted here
            end = type(error).__name__
        return end, time.perf_counter() - began

    with watch() as seen:
        outcomes = await asyncio.gather(*(one(number, item) for number, item in enumerate(items)))
        await until_quiet()
    ends, took_s = zip(*outcomes, strict=True)
    requests = seen.ledger.requests if seen.ledger else 0
    return {**Counter(ends), "requests": requests, "p95, s": round(percentile(took_s, 95), 3)}
