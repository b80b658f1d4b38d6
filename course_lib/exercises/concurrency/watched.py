"""What the checks of section 3 share: a model whose requests are watched, and waiting for what should happen.

Main path: model = Watched("ex31-never", hang_rate=1.0); await model("a"); model.statuses().
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from course_lib import lm

_LONG_S = 5.0
"""So long may go by until something happens that should happen at once."""


async def until(is_true: Callable[[], bool]) -> bool:
    """Wait until something is true, and say whether it became so."""
    end_s = time.monotonic() + _LONG_S
    while not is_true() and time.monotonic() < end_s:  # noqa: ASYNC110  nothing tells us
        await asyncio.sleep(0.005)
    return is_true()


async def some_turns() -> None:
    """Let everything happen that may happen by itself."""
    for _ in range(20):
        await asyncio.sleep(0.002)


async def end_all(before: set[asyncio.Task[Any]]) -> None:
    """Cancel all tasks that were not there before, as often as it takes."""
    for _ in range(100):
        for task in asyncio.all_tasks() - before:
            task.cancel()
        await asyncio.sleep(0.001)


class Watched:
    """A call of a model under a profile of its own; only these requests are counted."""

    def __init__(self, profile: str, **values: Any) -> None:
        lm.profile(profile, **values)
        seen = lm.ledger()
        self._profile, self._since, self._before = profile, seen.requests, seen.under_way
        self._model = lm.connect(f"sim-large@{profile}", cache=False, num_retries=0)
        self._numbers = itertools.count()

    async def __call__(self, item: object = "") -> Any:
        """Ask the model a new question."""
        return await self._model.acall(f"Question {next(self._numbers)} {item}?")

    def calls(self) -> list[lm.Call]:
        """Return the requests that have ended."""
        return [call for call in lm.ledger(self._since).calls if call.profile == self._profile]

    def statuses(self) -> dict[int, int]:
        """Return how often each status was sent; 499 where the client left."""
        return dict(Counter(call.status for call in self.calls()))

    def under_way(self) -> int:
        """Return how many requests go on."""
        return lm.ledger().under_way - self._before
