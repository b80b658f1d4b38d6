"""Names that books use for things DSPy does not have, and the real thing each one is here.

Main path: NAMES is the table; names_table() shows it.
Source: DSPy 3.4.1; a test holds that no `book` path exists in it and that every one of `points` does.
"""

from __future__ import annotations

from dataclasses import dataclass

from course_lib.labs import chapters
from course_lib.labs.reading import Shown, table


@dataclass(frozen=True, slots=True)
class Name:
    """One name a book uses."""

    name: str
    """As it is written in books."""
    book: str
    """Where books look for it, below the package dspy; empty for a setting."""
    here: str
    """What it is in this course."""
    on: str
    """The extension point it stands on, in words."""
    points: tuple[str, ...]
    """The same as dotted paths that exist in the installed DSPy."""
    notebook: str
    """Number of the notebook that builds it."""


_CALLBACK = "dspy.utils.callback.BaseCallback"
_CACHE = ("dspy.clients.cache.Cache", "dspy.configure_cache")
_TOOL = ("dspy.Tool", "dspy.Tool.from_mcp_tool")

NAMES = (
    Name(
        "CustomAdapter",
        "adapters.CustomAdapter",
        "the adapter you build, and the conformance suite it passes",
        "dspy.Adapter",
        ("dspy.Adapter", "dspy.ChatAdapter"),
        "01",
    ),
    Name(
        "DatabaseAdapter",
        "adapters.DatabaseAdapter",
        "adapters.DatabaseAdapter: PostgreSQL handed to the model as narrow tools",
        "dspy.Tool, MCP",
        _TOOL,
        "01",
    ),
    Name(
        "APIAdapter",
        "adapters.APIAdapter",
        "adapters.APIAdapter: an HTTP service handed to the model as tools",
        "dspy.Tool, MCP",
        _TOOL,
        "01",
    ),
    Name(
        "FileSystemAdapter",
        "adapters.FileSystemAdapter",
        "adapters.FileSystemAdapter: one folder, with no way out of it, handed over as tools",
        "dspy.Tool, MCP",
        _TOOL,
        "01",
    ),
    Name(
        "Cache(redis_url=...)",
        "performance.Cache",
        "caching.TieredCache: memory, Redis, disk under every model call",
        "dspy.clients.cache.Cache, assigned to dspy.cache",
        _CACHE,
        "02",
    ),
    Name(
        "CacheManager",
        "performance.CacheManager",
        "caching.CacheManager: sets the tiers up, warms, reports, invalidates",
        "dspy.clients.cache.Cache, assigned to dspy.cache",
        _CACHE,
        "02",
    ),
    Name(
        "BatchProcessor",
        "performance.BatchProcessor",
        "caching.BatchProcessor: bounded, ordered, resumable",
        "dspy.Module.acall, dask.distributed",
        ("dspy.Module.acall", "dspy.Module.batch", "dspy.Parallel"),
        "02",
    ),
    Name(
        "PerformanceMonitor",
        "performance.PerformanceMonitor",
        "measure.PerformanceMonitor: percentiles, throughput, tokens, cost",
        "callbacks, usage tracker",
        (_CALLBACK, "dspy.track_usage"),
        "02",
    ),
    Name(
        "performance_monitoring=True",
        "",
        "DSPy takes any setting and ignores this one; use measure.PerformanceMonitor",
        "callbacks, usage tracker",
        (_CALLBACK, "dspy.track_usage"),
        "02",
    ),
    Name(
        "AsyncRunner",
        "performance.AsyncRunner",
        "concurrency.AsyncRunner: a limit, deadlines, cancellation, backpressure",
        "acall, anyio",
        ("dspy.Module.acall", "dspy.asyncify"),
        "03",
    ),
    Name(
        "AsyncModule",
        "asyncio.AsyncModule",
        "a dspy.Module with a method aforward",
        "dspy.Module",
        ("dspy.Module", "dspy.Module.acall", "dspy.syncify"),
        "03",
    ),
    Name(
        "ResilientProcessor",
        "ResilientProcessor",
        "concurrency.ResilientProcessor: back-off, breaker, bulkhead, fallback model, hedging",
        "a wrapper around the engine of dspy.LM, stamina",
        ("dspy.LM", "dspy.is_retryable_lm_error"),
        "03",
    ),
    Name(
        "ExponentialBackoff",
        "ExponentialBackoff",
        "concurrency.ExponentialBackoff: waits that grow, with jitter",
        "a wrapper around the engine of dspy.LM, stamina",
        ("dspy.LM", "dspy.is_retryable_lm_error"),
        "03",
    ),
    Name(
        "CircuitBreaker",
        "CircuitBreaker",
        "concurrency.CircuitBreaker: stops asking a model that is down",
        "a wrapper around the engine of dspy.LM",
        ("dspy.LM", "dspy.is_retryable_lm_error"),
        "03",
    ),
    Name(
        "TraceLogger",
        "tracing.TraceLogger",
        "debugging.TraceLogger: one structured, redacted line a span",
        "BaseCallback",
        (_CALLBACK,),
        "04",
    ),
    Name(
        "Tracer",
        "tracing.Tracer",
        "debugging.Tracer: spans with prompts, tokens and cost",
        "BaseCallback, OpenTelemetry",
        (_CALLBACK,),
        "04",
    ),
    Name(
        "Tracing(enabled=True)",
        "Tracing",
        "debugging.Tracer, switched on",
        "BaseCallback, OpenTelemetry",
        (_CALLBACK,),
        "04",
    ),
    Name(
        "DistributedTracer",
        "tracing.DistributedTracer",
        "debugging.Tracer, with its context carried over HTTP and queue",
        "BaseCallback, OpenTelemetry",
        (_CALLBACK,),
        "04",
    ),
    Name(
        "ObservableModule",
        "ObservableModule",
        "debugging.ObservableModule: a module that reports on itself",
        "BaseCallback, prometheus-client",
        (_CALLBACK, "dspy.Module"),
        "04",
    ),
    Name(
        "MetricsCollector",
        "MetricsCollector",
        "debugging.MetricsCollector: counts and distributions, ready to scrape",
        "BaseCallback, prometheus-client",
        (_CALLBACK,),
        "04",
    ),
    Name(
        "DeploymentConfig",
        "deployment.DeploymentConfig",
        "deployment.DeploymentConfig: typed settings that refuse a bad deployment",
        "pydantic-settings",
        ("dspy.configure", "dspy.LM"),
        "05",
    ),
    Name(
        "AdaptiveOptimizer",
        "AdaptiveOptimizer",
        "deployment.AdaptiveOptimizer: watches quality, re-optimises, lets out only what is better",
        "dspy.MIPROv2, and an evaluation as gate",
        ("dspy.MIPROv2", "dspy.Evaluate"),
        "05",
    ),
)


def names_table(notebook: str | None = None) -> Shown:
    """Show the names books use and what each is here: all, or those that one notebook (`"02"`) builds."""
    return table(
        [
            {
                "name in books": name.name,
                "what it is here": name.here,
                "built on": name.on,
                "notebook": chapters.label(name.notebook),
            }
            for name in NAMES
            if notebook in (None, name.notebook)
        ],
        caption="None of these names exists in DSPy",
    )
