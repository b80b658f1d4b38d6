"""The report of a PerformanceMonitor: a row per model and per program, then what the process used.

Main path: monitor.report() -> Report; print it, or read percentile(report.models[0].latency_ms, 99).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from statistics import fmean

from course_lib.measure.usage import Usage

KEPT = 10_000
"""Means and percentiles are those of the last so many durations."""
FEW = 100
"""Below so many samples a p99 is little more than the slowest of them."""
HEAD = ("", "calls", "cached", "errors", "mean ms", "p50", "p90", "p95", "p99", "first token p50")


def percentile(durations_ms: Collection[float], percent: float) -> float:
    """Return the milliseconds that `percent` of the durations do not exceed; NaN without any."""
    import numpy as np  # 12 MB, which a service that draws no report does without

    return float(np.percentile(list(durations_ms), percent)) if durations_ms else math.nan


def _last_ones() -> deque[float]:
    return deque(maxlen=KEPT)


@dataclass(slots=True)
class Row:
    """One model, or one program (the outermost module that was called)."""

    name: str
    answered: int = 0
    """Calls that succeeded; in a model's row without those that a cache answered."""
    cached: int = 0
    """Calls that a cache answered, without the model; a program's row cannot tell them apart."""
    cancelled: int = 0
    """Calls that were given up."""
    errors: Counter[str] = field(default_factory=Counter)
    """Failed calls by the name of the exception."""
    usage: Usage = field(default_factory=Usage)
    """What the model reported; nothing in a program's row."""
    latency_ms: deque[float] = field(default_factory=_last_ones)
    """Durations of the last `answered` calls: those of failures and hits would flatter them."""
    first_token_ms: deque[float] = field(default_factory=_last_ones)
    """From the call to the first text of its stream; empty without streamify."""

    @property
    def calls(self) -> int:
        """All calls that ended."""
        return self.answered + self.cached + self.cancelled + self.errors.total()

    def cells(self) -> tuple[str, ...]:
        """Return the row as the report shows it, under HEAD."""
        mean_ms = fmean(self.latency_ms) if self.latency_ms else math.nan
        times_ms = [mean_ms, *(percentile(self.latency_ms, percent) for percent in (50, 90, 95, 99))]
        times_ms.append(percentile(self.first_token_ms, 50))
        times = ["-" if math.isnan(ms) else f"{ms:,.{int(ms < 100)}f}" for ms in times_ms]
        return (self.name, f"{self.calls:,}", f"{self.cached:,}", f"{self.errors.total():,}", *times)


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Everything at one moment."""

    models: list[Row]
    programs: list[Row]
    span_s: float
    """From the first call's beginning to the last one's end."""
    cpu_share: float
    """Share of one core that this process used in the span; the endpoint is a process of its own."""
    memory_bytes: int
    """Memory of this process when the report was made."""

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
        answers = sum(row.answered + row.cached for row in self.programs or self.models)
        return answers / self.span_s if self.span_s > 0 else 0.0

    def __repr__(self) -> str:
        table = [HEAD, *(row.cells() for row in [*self.models, *self.programs])]
        first, *widths = (max(map(len, column)) for column in zip(*table, strict=True))
        lines = ["  ".join([name.ljust(first), *map(str.rjust, cells, widths)]) for name, *cells in table]
        return "\n".join([*(line.rstrip() for line in lines), *self._notes()])

    def _notes(self) -> list[str]:
        rows, usage = [*self.models, *self.programs], self.usage
        errors = reduce(or_, (row.errors for row in rows), Counter[str]())  # a model's are its program's too
        counts = [row.answered for row in rows]
        notes = [
            f"{self.throughput_per_s:,.1f} answers/s over {self.span_s:.2f} s; "
            f"CPU {self.cpu_share:.0%} of one core; memory {self.memory_bytes / 1e6:,.0f} MB",
            f"{usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens, ${usage.cost_usd:.6f}",
            errors and "errors: " + ", ".join(f"{name} {count}" for name, count in errors.most_common()),
            usage.unpriced_calls
            and f"{usage.unpriced_calls} calls of a model without a listed price are not in the cost",
            any(0 < count < FEW for count in counts)
            and f"(with fewer than {FEW} calls, p99 is little more than the slowest one)",
            any(count > KEPT for count in counts) and f"(times are those of the last {KEPT:,} calls)",
        ]
        return [note for note in notes if note]
