"""The report of a PerformanceMonitor: a row per model and per program, then what the process used.

Main path: monitor.report() -> Report; print it, or read report.models[0].latency.percentile(99).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

import numpy as np

from course_lib.measure.usage import Usage

KEPT = 10_000
"""Percentiles are those of the last so many durations."""
FEW = 100
"""Below so many samples a p99 is little more than the slowest of them."""


class Latencies:
    """Durations in milliseconds: all are counted and summed, the last KEPT are kept for percentiles."""

    def __init__(self) -> None:
        self.count, self.sum_ms = 0, 0.0
        self.kept_ms: deque[float] = deque(maxlen=KEPT)

    def add(self, ms: float) -> None:
        """Take one duration."""
        self.count += 1
        self.sum_ms += ms
        self.kept_ms.append(ms)

    @property
    def mean_ms(self) -> float:
        """Mean of all durations; NaN without any."""
        return self.sum_ms / self.count if self.count else math.nan

    def percentile(self, percent: float) -> float:
        """Return the milliseconds that `percent` of the kept durations do not exceed; NaN without any."""
        return float(np.percentile(self.kept_ms, percent)) if self.kept_ms else math.nan


@dataclass(slots=True)
class Row:
    """One model, or one program (the outermost module that was called)."""

    name: str
    latency: Latencies = field(default_factory=Latencies)
    """Of the calls that succeeded and were not cached: failures and hits would flatter it.

    A program's row cannot tell hits apart, so it has all that succeeded, as its users see them.
    """
    cached_latency: Latencies = field(default_factory=Latencies)
    """Of the cache hits."""
    first_token: Latencies = field(default_factory=Latencies)
    """From the call to the first text of its stream; empty without streamify."""
    errors: Counter[str] = field(default_factory=Counter)
    """Failed calls by the name of the exception."""
    cancelled: int = 0
    usage: Usage = field(default_factory=Usage)
    """What the model reported; nothing in a program's row."""

    @property
    def calls(self) -> int:
        """All calls that ended: answered, from a cache, failed, cancelled."""
        return self.latency.count + self.cached + self.failed + self.cancelled

    @property
    def cached(self) -> int:
        """Calls answered by a cache, without the model."""
        return self.cached_latency.count

    @property
    def failed(self) -> int:
        """Calls that ended with an error."""
        return self.errors.total()

    def cells(self) -> tuple[str, ...]:
        """Return the row as the report shows it, under HEAD."""
        times_ms = [self.latency.mean_ms, *map(self.latency.percentile, (50, 90, 95, 99))]
        times_ms.append(self.first_token.percentile(50))
        times = ["-" if math.isnan(ms) else f"{ms:,.{int(ms < 100)}f}" for ms in times_ms]
        return (self.name, f"{self.calls:,}", f"{self.cached:,}", f"{self.failed:,}", *times)


HEAD = ("", "calls", "cached", "errors", "mean ms", "p50", "p90", "p95", "p99", "first token p50")


class ProcessUse(NamedTuple):
    """What this process used while the monitor listened; the endpoint is a process of its own."""

    wall_s: float
    cpu_s: float
    rss_bytes: int
    """Memory now."""
    rss_most_bytes: int
    """The most that was seen when a call began or ended."""


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Everything at one moment."""

    models: list[Row]
    programs: list[Row]
    span_s: float
    """From the first call's beginning to the last one's end."""
    most_in_flight: int
    """Most model calls under way at the same moment, those waiting for a retry included."""
    under_way: int
    process: ProcessUse

    @property
    def calls(self) -> int:
        """Calls of models; DSPy's retries are part of their call."""
        return sum(row.calls for row in self.models)

    @property
    def cached(self) -> int:
        """Of these, answered by a cache."""
        return sum(row.cached for row in self.models)

    @property
    def usage(self) -> Usage:
        """What all models reported."""
        return sum((row.usage for row in self.models), Usage())

    @property
    def throughput_per_s(self) -> float:
        """Answers of programs per second of the span, or of models if no program ran."""
        answered = sum(row.latency.count + row.cached for row in self.programs or self.models)
        return answered / self.span_s if self.span_s > 0 else 0.0

    @property
    def mean_in_flight(self) -> float:
        """Model calls under way on average: the time of all successful calls over the span."""
        busy_ms = sum(row.latency.sum_ms + row.cached_latency.sum_ms for row in self.models)
        return busy_ms / 1000 / self.span_s if self.span_s > 0 else 0.0

    def __str__(self) -> str:
        table = [HEAD, *(row.cells() for row in self._rows())]
        first, *widths = (max(map(len, column)) for column in zip(*table, strict=True))
        lines = ["  ".join([name.ljust(first), *map(str.rjust, cells, widths)]) for name, *cells in table]
        return "\n".join([*(line.rstrip() for line in lines), *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:  # no colours of its own: the notebook's theme gives them
        rows = [('th scope="col"', HEAD), *(("td", row.cells()) for row in self._rows())]
        html = "".join(f"<tr>{_html_cells(tag, cells)}</tr>" for tag, cells in rows)
        notes = "<br>".join(map(escape, self._notes()))
        return f'<table style="font-variant-numeric:tabular-nums">{html}</table><p>{notes}</p>'

    def _rows(self) -> list[Row]:
        return [*self.models, *self.programs]

    def _notes(self) -> list[str]:
        rows, usage, use = self._rows(), self.usage, self.process
        errors = sum((row.errors for row in rows), Counter[str]())
        cancelled = sum(row.cancelled for row in rows)
        counts = [row.latency.count for row in rows]
        notes = [
            f"{self.throughput_per_s:,.1f} answers/s over {self.span_s:.2f} s; model calls in flight: "
            f"{self.mean_in_flight:.1f} on average, {self.most_in_flight} at most",
            f"{usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens, ${usage.cost_usd:.6f}; "
            f"CPU {use.cpu_s / max(use.wall_s, 1e-9):.0%} of one core; "
            f"memory {use.rss_bytes / 1e6:,.0f} MB, at most {use.rss_most_bytes / 1e6:,.0f} MB",
            errors and "errors: " + ", ".join(f"{name} {count}" for name, count in errors.most_common()),
            cancelled and f"cancelled: {cancelled}",
            self.under_way and f"still under way: {self.under_way}",
            usage.unpriced_calls
            and f"{usage.unpriced_calls} calls of a model without a listed price are not in the cost",
            any(0 < count < FEW for count in counts)
            and f"(with fewer than {FEW} calls, p99 is little more than the slowest one)",
            any(count > KEPT for count in counts) and f"(percentiles are those of the last {KEPT:,} calls)",
        ]
        return [note for note in notes if note]


def _html_cells(tag: str, cells: Sequence[str]) -> str:
    first, *others = (f">{escape(cell)}</{tag[:2]}>" for cell in cells)
    sided = [f'<{tag} style="text-align:right"{other}' for other in others]
    return "".join([f'<{tag} style="text-align:left"{first}', *sided])
