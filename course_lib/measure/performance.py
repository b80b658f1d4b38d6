"""The report of a PerformanceMonitor: a row per model and per program, then what the process used.

Main path: monitor.report() -> Report; print it, or read report.models[0].p99_ms.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from course_lib.measure.quantiles import Latencies
from course_lib.measure.taps import Tokens

FEW = 100
"""Below so many samples a p99 is little more than the slowest of them."""


@dataclass(slots=True)
class Series:
    """What is counted under one name; the monitor's own lock guards it."""

    latency: Latencies
    cached: Latencies
    first_token: Latencies
    errors: Counter[str]
    cancelled: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0

    @classmethod
    def empty(cls, exact_limit: int) -> Series:
        """Return a series without samples."""
        return cls(Latencies(exact_limit), Latencies(exact_limit), Latencies(exact_limit), Counter())

    def add_usage(self, used: Tokens, cost_usd: float | None) -> None:
        """Count tokens, and their price if it is known."""
        self.prompt_tokens += used.prompt
        self.cached_tokens += used.cached
        self.completion_tokens += used.completion
        if cost_usd is None:
            self.unpriced += 1
        else:
            self.cost_usd += cost_usd

    def copy(self) -> Series:
        """Return the same counts, apart from what is added from now on."""
        return Series(
            self.latency.copy(),
            self.cached.copy(),
            self.first_token.copy(),
            self.errors.copy(),
            self.cancelled,
            self.prompt_tokens,
            self.cached_tokens,
            self.completion_tokens,
            self.cost_usd,
            self.unpriced,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One model, or one program (the outermost module that was called)."""

    name: str
    calls: int
    """All that ended: answered, from a cache, failed, cancelled."""
    cached: int
    """Answered by DSPy's cache, without the model."""
    cancelled: int
    errors: dict[str, int]
    """Failed calls by the name of the exception."""
    latency: Latencies
    """Of the calls that succeeded and were not cached: failures and hits would flatter it.

    A program's row cannot tell hits apart, so it has all that succeeded, as its users see them.
    """
    cached_latency: Latencies
    """Of the cache hits."""
    first_token: Latencies
    """From the call to the first text of its stream; empty without streamify."""
    prompt_tokens: int
    cached_tokens: int
    """Those of the prompt that the provider had in its own prompt cache."""
    completion_tokens: int
    cost_usd: float
    unpriced: int
    """Calls of a model whose price no list knows; they are not in `cost_usd`."""

    @classmethod
    def of(cls, name: str, series: Series) -> Row:
        """Return the row of a series."""
        failed = series.errors.total()
        calls = series.latency.count + series.cached.count + series.cancelled + failed
        return cls(
            name,
            calls,
            series.cached.count,
            series.cancelled,
            dict(series.errors),
            series.latency,
            series.cached,
            series.first_token,
            series.prompt_tokens,
            series.cached_tokens,
            series.completion_tokens,
            series.cost_usd,
            series.unpriced,
        )

    @property
    def failed(self) -> int:
        """Calls that ended with an error."""
        return sum(self.errors.values())

    @property
    def error_share(self) -> float:
        """Failed calls over all calls that were not cancelled."""
        judged = self.calls - self.cancelled
        return self.failed / judged if judged else 0.0

    @property
    def hit_share(self) -> float:
        """Cache hits over all calls that were answered."""
        answered = self.cached + self.latency.count
        return self.cached / answered if answered else 0.0

    @property
    def mean_ms(self) -> float:
        """Mean latency."""
        return self.latency.mean_ms

    @property
    def p50_ms(self) -> float:
        """Median latency."""
        return self.latency.percentile(50)

    @property
    def p90_ms(self) -> float:
        """Nine of ten calls are faster."""
        return self.latency.percentile(90)

    @property
    def p95_ms(self) -> float:
        """Nineteen of twenty calls are faster."""
        return self.latency.percentile(95)

    @property
    def p99_ms(self) -> float:
        """All but one call in a hundred are faster."""
        return self.latency.percentile(99)


@dataclass(frozen=True, slots=True)
class Use:
    """What this process used while the monitor listened; the endpoint is a process of its own."""

    wall_s: float
    cpu_s: float
    rss_bytes: int
    """Memory now."""
    rss_most_bytes: int
    """The most that was seen when a call began or ended."""

    @property
    def cpu_share(self) -> float:
        """CPU time over wall time: 1 is one core kept busy."""
        return self.cpu_s / self.wall_s if self.wall_s > 0 else 0.0


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """Everything at one moment."""

    models: tuple[Row, ...]
    programs: tuple[Row, ...]
    span_s: float
    """From the first call's beginning to the last one's end."""
    most_in_flight: int
    """Most model calls under way at the same moment, those waiting for a retry included."""
    under_way: int
    use: Use

    @property
    def calls(self) -> int:
        """Calls of models; DSPy's retries are part of their call."""
        return sum(row.calls for row in self.models)

    @property
    def cached(self) -> int:
        """Of these, answered by a cache."""
        return sum(row.cached for row in self.models)

    @property
    def failed(self) -> int:
        """Of these, ended with an error."""
        return sum(row.failed for row in self.models)

    @property
    def prompt_tokens(self) -> int:
        """Tokens sent, as the provider counts them."""
        return sum(row.prompt_tokens for row in self.models)

    @property
    def cached_tokens(self) -> int:
        """Of the tokens sent, those that came cheaper out of the provider's prompt cache."""
        return sum(row.cached_tokens for row in self.models)

    @property
    def completion_tokens(self) -> int:
        """Tokens written, as the provider counts them."""
        return sum(row.completion_tokens for row in self.models)

    @property
    def cost_usd(self) -> float:
        """Price of both."""
        return sum(row.cost_usd for row in self.models)

    @property
    def throughput_per_s(self) -> float:
        """Answers of programs per second of the span, or of models if no program ran."""
        rows = self.programs or self.models
        answered = sum(row.latency.count + row.cached for row in rows)
        return answered / self.span_s if self.span_s > 0 else 0.0

    @property
    def mean_in_flight(self) -> float:
        """Model calls under way on average: the time of all successful calls over the span."""
        busy_ms = sum(row.latency.sum_ms + row.cached_latency.sum_ms for row in self.models)
        return busy_ms / 1000 / self.span_s if self.span_s > 0 else 0.0

    def __str__(self) -> str:
        cells = [_HEAD, *(_cells(row) for row in self._rows())]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                text.ljust(width) if at == 0 else text.rjust(width)
                for at, (text, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        return "\n".join([*lines, *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(_cell(text, "th", at) for at, text in enumerate(_HEAD))
        body = "".join(
            f"<tr>{''.join(_cell(text, 'td', at) for at, text in enumerate(_cells(row)))}</tr>"
            for row in self._rows()
        )
        notes = "<br>".join(escape(note) for note in self._notes())
        return (  # no colours of its own: the notebook's theme gives them
            f'<table style="font-variant-numeric:tabular-nums"><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table><p>{notes}</p>"
        )

    def _rows(self) -> Sequence[Row]:
        return (*self.models, *self.programs)

    def _notes(self) -> list[str]:
        notes = [
            f"{self.throughput_per_s:,.1f} answers/s over {self.span_s:.2f} s; model calls in flight: "
            f"{self.mean_in_flight:.1f} on average, {self.most_in_flight} at most",
            f"{self.prompt_tokens:,} + {self.completion_tokens:,} tokens, ${self.cost_usd:.6f}; CPU "
            f"{self.use.cpu_share:.0%} of one core; memory {_mb(self.use.rss_bytes)} MB, "
            f"at most {_mb(self.use.rss_most_bytes)} MB",
        ]
        if errors := sum((Counter(row.errors) for row in self._rows()), Counter()):
            notes.append("errors: " + ", ".join(f"{name} {count}" for name, count in errors.most_common()))
        if cancelled := sum(row.cancelled for row in self._rows()):
            notes.append(f"cancelled: {cancelled}")
        if self.under_way:
            notes.append(f"still under way: {self.under_way}")
        if unpriced := sum(row.unpriced for row in self.models):
            notes.append(f"{unpriced} calls of a model without a listed price are not in the cost")
        if any(0 < row.latency.count < FEW for row in self._rows()):
            notes.append(f"(with fewer than {FEW} calls, p99 is little more than the slowest one)")
        if any(not row.latency.is_exact for row in self._rows()):
            notes.append("(percentiles of long rows are within 1 %)")
        return notes


_HEAD = ("", "calls", "cached", "errors", "mean ms", "p50", "p90", "p95", "p99", "first token p50")


def _cells(row: Row) -> tuple[str, ...]:
    times = (row.mean_ms, row.p50_ms, row.p90_ms, row.p95_ms, row.p99_ms, row.first_token.percentile(50))
    return (row.name, f"{row.calls:,}", f"{row.cached:,}", f"{row.failed:,}", *map(_ms, times))


def _ms(ms: float) -> str:
    if math.isnan(ms):
        return "-"
    return f"{ms:,.1f}" if ms < 100 else f"{ms:,.0f}"


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f}"


def _cell(text: str, tag: str, column: int) -> str:
    scope = ' scope="col"' if tag == "th" else ""
    return f'<{tag}{scope} style="text-align:{"right" if column else "left"}">{escape(text)}</{tag}>'
