"""What a piece of work cost: calls, cached, failed, tokens, money, time; one plain line.

Main path: `with meter(): ...` prints the line for a block, meter.on() for every cell that used the model.
Source: counts and cost from the endpoint's ledger; cache hits from DSPy's history, where a hit has empty
`usage` (dspy/clients/base_lm.py and call_result.py, DSPy 3.4.1).
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from course_lib import lm
from course_lib.errors import CourseError
from course_lib.lm import process

_COURSE = "course/"
_SETTLE_S = 0.005
_SETTLE_TRIES = 5


class NoNotebookError(CourseError):
    """The meter was switched on where there are no cells."""


@dataclass(slots=True)
class Reading:
    """What the meter read; filled in when its block ends."""

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


@dataclass(frozen=True, slots=True)
class _Mark:
    """Where a reading begins."""

    requests: int
    started: int
    last: Any
    clock_s: float


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def _dollars(cost_usd: float) -> str:
    """Write a cost to two digits that count, and never as a power of ten."""
    if cost_usd <= 0:
        return "$0"
    digits = 1 - math.floor(math.log10(cost_usd))
    return f"${cost_usd:,.2f}" if digits <= 2 else f"${cost_usd:.{digits}f}".rstrip("0")


def _history() -> list[dict[str, Any]]:
    """Return DSPy's history of every model's calls; empty, without importing dspy, when nothing has."""
    base = sys.modules.get("dspy.clients.base_lm")
    return getattr(base, "GLOBAL_HISTORY", [])


def _last() -> Any:
    history = _history()
    return history[-1] if history else None


def _since(last: Any) -> list[dict[str, Any]]:
    """Return the entries after `last`; all of them when it has left the history, which is bounded."""
    backwards = itertools.takewhile(lambda entry: entry is not last, reversed(list(_history())))
    return list(backwards)[::-1]


def _split(entries: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Part the course's models from those reached directly; dummies, which use no tokens, are neither."""
    ours = [entry for entry in entries if str(entry["model"]).startswith(_COURSE)]
    known = {id(entry) for entry in ours}
    return ours, [e for e in entries if id(e) not in known and (e["usage"] or {}).get("total_tokens")]


def _is_up() -> bool:
    """Return whether there is an endpoint to ask; asking one that is not there would start it."""
    known = process.describe()
    return bool(known["shared"] or known["running"])


@cache
def _watch_class() -> type[Any]:
    from dspy.utils.callback import BaseCallback

    class Watch(BaseCallback):  # type: ignore[misc]
        """Counts the calls of the course's models as they begin, those that fail included."""

        def __init__(self) -> None:
            self._count = itertools.count(1)  # its next() is atomic, so threads lose no call
            self.started = 0

        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:  # noqa: ARG002
            if str(instance.model).startswith(_COURSE):
                self.started = next(self._count)

    return Watch


class Meter:
    """The meter itself: call it for a block, switch it on for a whole notebook."""

    def __init__(self) -> None:
        self._known: int | None = None
        self._watch: Any = None
        self._shell: Any = None
        self._mark: _Mark | None = None

    @contextmanager
    def __call__(self, *, is_quiet: bool = False) -> Iterator[Reading]:
        """Measure a block and print the line at its end; the Reading keeps the figures.

        Work that other threads or tasks do meanwhile is counted too: the ledger is kept per kernel.
        """
        mark, reading = self._begin(), Reading()
        try:
            yield reading
        finally:
            self._read(mark, into=reading)
            if not is_quiet:
                print(reading)

    def on(self) -> None:
        """Print the line under every cell that uses the model, from this cell on.

        Raises:
            NoNotebookError: this is not a notebook.
        """
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is None:
            raise NoNotebookError("meter.on() works in a notebook; in a script, use `with meter():`")
        self.off()
        self._shell = shell
        shell.events.register("pre_run_cell", self._before_cell)
        shell.events.register("post_run_cell", self._after_cell)
        self._before_cell()

    def off(self) -> None:
        """Stop printing; a block of `with meter():` still works."""
        if self._shell is not None:
            self._shell.events.unregister("pre_run_cell", self._before_cell)
            self._shell.events.unregister("post_run_cell", self._after_cell)
            self._shell = None
        if self._watch is not None:
            dspy = sys.modules["dspy"]
            with suppress(RuntimeError):  # only the thread that configured DSPy first may do so again
                dspy.configure(
                    callbacks=[each for each in dspy.settings.callbacks if each is not self._watch]
                )
            self._watch = None
        self._mark = None

    def _before_cell(self, _info: Any = None) -> None:
        """Set the mark of the cell to come; asks the endpoint only if the model was used between cells."""
        self._listen()
        if self._mark is None or self._was_used(self._mark):
            self._mark = self._begin()
        else:
            self._mark = _Mark(self._mark.requests, self._mark.started, self._mark.last, time.perf_counter())

    def _after_cell(self, _result: Any = None) -> None:
        if self._mark is None or (self._hears() and not self._was_used(self._mark)):
            return
        reading = Reading()
        try:
            self._read(self._mark, into=reading)
        except CourseError as error:
            print(f"meter: {error}")  # a meter must not spoil the cell it measures
            return
        self._mark = _Mark(self._known or 0, self._started(), _last(), time.perf_counter())
        if reading.calls:
            print(reading)

    def _listen(self) -> None:
        """Put the watch among DSPy's callbacks once dspy is there, and again when a cell replaced them."""
        dspy = sys.modules.get("dspy")
        if dspy is None or not hasattr(dspy, "settings"):
            return
        if self._watch is None:
            self._watch = _watch_class()()
        callbacks = dspy.settings.callbacks
        if self._watch not in callbacks:
            with suppress(RuntimeError):  # configured from another thread: the history still tells
                dspy.configure(callbacks=[*callbacks, self._watch])

    def _hears(self) -> bool:
        """Return whether the watch is in place; if not, only the endpoint knows of calls that failed."""
        settings = getattr(sys.modules.get("dspy"), "settings", None)
        return settings is None or self._watch in settings.callbacks

    def _started(self) -> int:
        return self._watch.started if self._watch is not None else 0

    def _was_used(self, mark: _Mark) -> bool:
        """Return whether a model was called since; a look at two local values."""
        return self._started() != mark.started or _last() is not mark.last

    def _begin(self) -> _Mark:
        if not _is_up():
            self._known = 0
        else:
            with suppress(CourseError):  # an endpoint that cannot be asked now has its say when it is used
                since = self._known or 0
                self._known = since + lm.ledger(since=since).requests
        return _Mark(self._known or 0, self._started(), _last(), time.perf_counter())

    def _read(self, mark: _Mark, *, into: Reading) -> None:
        into.duration_s = time.perf_counter() - mark.clock_s
        ours, others = _split(_since(mark.last))
        into.cached = sum(1 for entry in ours if not entry["usage"])
        begun = max(len(ours), self._started() - mark.started)
        ledger = self._window(mark.requests, at_least=begun - into.cached)
        if ledger is not None:
            into.calls = ledger.requests
            into.failed = ledger.requests - ledger.statuses.get(200, 0)
            into.tokens = ledger.prompt_tokens + ledger.completion_tokens
            into.cost_usd = ledger.cost_usd
        into.calls += into.cached
        for entry in others:
            into.calls += 1
            into.tokens += entry["usage"]["total_tokens"]
            into.cost_usd += entry["cost"] or 0.0

    def _window(self, requests: int, *, at_least: int) -> lm.Ledger | None:
        """Return the ledger since `requests`, or since its last reset if there was one meanwhile.

        DSPy says how many requests there must be at least; fewer in the ledger means that the last one is not
        entered yet, or that the count began anew.
        """
        if not _is_up():
            return None
        ledger = lm.ledger(since=requests)
        for _ in range(_SETTLE_TRIES):
            if ledger.requests >= at_least:
                break
            whole = lm.ledger()
            if whole.requests < requests + ledger.requests:
                self._known = whole.requests
                return whole
            time.sleep(_SETTLE_S)
            ledger = lm.ledger(since=requests)
        self._known = requests + ledger.requests
        return ledger


meter = Meter()
"""The kernel's meter."""
