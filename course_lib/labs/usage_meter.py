"""What a cell cost: calls, cached, failed, tokens, money, time; one plain line.

Main path: meter.on() prints the line under every cell that used the model.
Source: counts and cost from the endpoint's ledger; cache hits, and models reached without the endpoint, from
DSPy's history, where a hit has empty `usage` (dspy/clients/base_lm.py and call_result.py, DSPy 3.4.1).
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from dataclasses import dataclass
from typing import Any

from course_lib import lm
from course_lib.errors import CourseError
from course_lib.lm import process

_COURSE = "course/"
_SETTLE_S, _SETTLE_TRIES = 0.005, 5  # a request is entered in the ledger just after its last byte


@dataclass(slots=True)
class Reading:
    """What the meter read of one cell."""

    calls: int = 0
    """Requests at the endpoint, retries included, and answers from DSPy's cache."""
    cached: int = 0
    """Of these, answers from DSPy's cache."""
    failed: int = 0
    """Of these, requests that did not end in an answer."""
    tokens: int = 0
    """Prompt and completion, of requests that reached the model."""
    cost_usd: float = 0.0
    duration_s: float = 0.0

    def __str__(self) -> str:
        marks = [
            f"{count:,} {word}" for count, word in ((self.cached, "cached"), (self.failed, "failed")) if count
        ]
        of_these = f" ({', '.join(marks)})" if marks else ""
        return (
            f"{_counted(self.calls, 'call')}{of_these} · {_counted(self.tokens, 'token')} · "
            f"{_dollars(self.cost_usd)} · {self.duration_s:.2f} s"
        )


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def _dollars(cost_usd: float) -> str:
    """Write a cost to two digits that count, and never as a power of ten."""
    if cost_usd <= 0:
        return "$0"
    digits = 1 - math.floor(math.log10(cost_usd))
    return f"${cost_usd:,.2f}" if digits <= 2 else f"${cost_usd:.{digits}f}".rstrip("0")


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a reading begins: in the ledger, in DSPy's history, in time."""

    count: tuple[int, int]
    """Which count of requests this is: it begins anew with another endpoint and with lm.reset()."""
    requests: int
    last: Any
    clock_s: float


def _mark(after: _Mark | None = None) -> _Mark:
    """Return where things stand; `after` is an earlier mark, from which the ledger is read on."""
    ledger, history = _ledger(after), _history()
    count, requests = (0, 0), 0
    if ledger:
        count = process.starts(), ledger.resets
        requests = ledger.requests + (after.requests if after and after.count == count else 0)
    return _Mark(count, requests, history[-1] if history else None, time.perf_counter())


def _ledger(after: _Mark | None) -> lm.Ledger | None:
    """Return the ledger since a mark, or since its beginning if it was begun anew meanwhile.

    Returns None where no endpoint runs: asking would start one.
    """
    if not process.is_up():
        return None
    for _ in range(_SETTLE_TRIES):
        ledger = lm.ledger(since=after.requests if after else 0)
        if after and after.count != (process.starts(), ledger.resets):
            ledger = lm.ledger()
        if not ledger.under_way:
            break
        time.sleep(_SETTLE_S)
    return ledger


def _history() -> list[dict[str, Any]]:
    """Return DSPy's history of every model's calls; empty, without importing dspy, when nothing has."""
    base = sys.modules.get("dspy.clients.base_lm")
    return list(getattr(base, "GLOBAL_HISTORY", ()))


def _read(mark: _Mark) -> Reading:
    """Return what happened since the mark."""
    reading = Reading(duration_s=time.perf_counter() - mark.clock_s)
    if ledger := _ledger(mark):
        reading.calls = ledger.requests
        reading.failed = ledger.requests - ledger.statuses.get(200, 0)
        reading.tokens = ledger.prompt_tokens + ledger.completion_tokens
        reading.cost_usd = ledger.cost_usd
    # The history is bounded: when the mark has left it, all of it is newer.
    for entry in itertools.takewhile(lambda entry: entry is not mark.last, reversed(_history())):
        usage = entry["usage"] or {}
        if not str(entry["model"]).startswith(_COURSE):
            reading.calls += bool(usage.get("total_tokens"))  # dummies use no tokens, and are no model
            reading.tokens += usage.get("total_tokens") or 0
            reading.cost_usd += entry["cost"] or 0.0
        elif not usage:
            reading.calls += 1
            reading.cached += 1
    return reading


class Meter:
    """The meter of a notebook: on or off."""

    def __init__(self) -> None:
        self._shell: Any = None
        self._mark: _Mark | None = None

    def on(self) -> None:
        """Print the line under every cell that uses the model, from this cell on.

        Raises:
            CourseError: this is not a notebook.
        """
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is None:
            raise CourseError("meter.on() works in a notebook; in a script, read lm.ledger()")
        self.off()
        self._shell = shell
        shell.events.register("pre_run_cell", self._before_cell)
        shell.events.register("post_run_cell", self._after_cell)
        self._before_cell()

    def off(self) -> None:
        """Stop printing."""
        if self._shell is not None:
            self._shell.events.unregister("pre_run_cell", self._before_cell)
            self._shell.events.unregister("post_run_cell", self._after_cell)
            self._shell = self._mark = None

    def _before_cell(self, _info: Any = None) -> None:
        """Set the mark of the cell to come: what ran between cells belongs to none."""
        try:
            self._mark = _mark(self._mark)
        except CourseError:  # an endpoint that cannot be asked now says so when it is used
            self._mark = None

    def _after_cell(self, _result: Any = None) -> None:
        try:
            reading = _read(self._mark) if self._mark else None
        except CourseError as error:
            print(f"meter: {error}")  # a meter must not harm the cell it measures
            return
        if reading and reading.calls:
            print(reading)


meter = Meter()
"""The kernel's meter."""
