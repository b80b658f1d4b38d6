"""What the checks of section 3 share: a model whose requests are watched, waiting, and how a task ended.

Main path: model = Watched(hang_rate=1.0); task = ensure_future(model("a")); task.cancel();
await expect_end(task, "CancelledError", "how it ended"); await expect_left(model, 1, "what it saw").
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

from course_lib import lm
from course_lib.exercises.engine.checks import CheckFailed, expect

_LONG_S = 5.0
"""So long may go by until something happens that should happen at once."""


async def until(is_true: Callable[[], object]) -> bool:
    """Wait until something is true, and say whether it became so."""
    end_s = time.monotonic() + _LONG_S
    while not is_true() and time.monotonic() < end_s:  # noqa: ASYNC110  nothing tells us
        await asyncio.sleep(0.005)
    return bool(is_true())


async def turns(*, ahead_s: float = 0.0) -> None:
    """Let everything happen that may happen by itself, after the clock of this loop was set ahead."""
    if ahead_s:
        loop = asyncio.get_running_loop()
        vars(loop)["time"] = lambda time_s=loop.time: time_s() + ahead_s
    for _ in range(20):
        await asyncio.sleep(0.002)


async def expect_end(task: asyncio.Future[Any], wanted: str, what: str, *, hint: str = "") -> None:
    """Fail the check unless a task ends so: by an error of this name, or "returned" with something.

    A task that goes on is cancelled, as often as it takes.
    """
    error = None
    if not await until(task.done):
        end = "it still waits"
        for _ in range(100):
            task.cancel()
            await asyncio.sleep(0.001)
    elif task.cancelled():
        end = "CancelledError"
    else:
        error = task.exception()
        end = f"{type(error).__name__}: {error!s:.200}" if error else f"returned {task.result()!r}"
    if not end.startswith(wanted):
        raise CheckFailed(what, observed=end, expected=wanted, hint=hint) from error


class Held:
    """A call that goes on until it may end; it counts how often it has begun."""

    def __init__(self) -> None:
        self.begun, self.may_end = 0, asyncio.Event()

    async def __call__(self, _: object = None) -> None:
        """Begin a call."""
        self.begun += 1
        await self.may_end.wait()


class Watched:
    """A model under a profile for these faults; only the requests to it are counted."""

    def __init__(self, **faults: Any) -> None:
        self._profile = f"check-{zlib.crc32(repr(faults).encode()):x}"  # the endpoint takes 100 names
        lm.profile(self._profile, **faults)
        self.lm = lm.connect(f"sim-large@{self._profile}", cache=False, num_retries=0)
        seen = lm.ledger()
        self._since, self._before = seen.requests, seen.under_way
        self.begun = self.now = self.most = 0
        """Calls of this object that have begun, that are under way now, and the most that were at once."""

    async def __call__(self, item: object = "") -> Any:
        """Ask the model a new question."""
        self.begun += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self.lm.acall(f"Question {self.begun} {item}?")
        finally:
            self.now -= 1

    def calls(self) -> list[lm.Call]:
        """Return the requests that have ended, also where the client left before the server had read one."""
        ended = lm.ledger(self._since).calls
        return [call for call in ended if call.profile == self._profile or not call.prompt_tokens]

    def statuses(self) -> dict[int, int]:
        """Return how often each status was sent; 499 where the client left."""
        return dict(Counter(call.status for call in self.calls()))

    def under_way(self) -> int:
        """Return how many requests go on."""
        return lm.ledger().under_way - self._before

    async def is_quiet(self) -> bool:
        """Wait until no request goes on, and say whether it became so."""
        return await until(lambda: self.under_way() <= 0)


async def expect_left(model: Watched, count: int, what: str, *, hint: str = "") -> None:
    """Fail the check unless the model saw the client leave so many requests, and no other one."""
    is_so = await until(lambda: model.statuses() == {499: count} and model.under_way() <= 0)
    observed = f"statuses {model.statuses()}, and {max(0, model.under_way())} under way"
    wanted = f"statuses {{499: {count}}} (the client left), and 0 under way"
    expect(is_so, what, observed=observed, expected=wanted, hint=hint)
