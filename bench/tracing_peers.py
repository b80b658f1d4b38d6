"""Other ways to trace DSPy, for bench_tracing: OpenInference's instrumentation, and MLflow's autolog.

Main path: for name, tracing in installed().items(): with tracing(): program(...).
Each keeps prompts and replies, as it does by itself, and hands its spans to a thread of its own: in memory,
or, MLflow's, in SQLite. OpenInference's instrumentation is small (a dev extra, 0.5 MB). MLflow is not (3.17:
90 packages, 600 MB): a virtual environment of its own, with this project in it, runs the bench with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import dspy

METHODS = ("__call__", "acall", "forward", "aforward")
Tracing = Callable[[], AbstractContextManager[object]]


@cache
def _instrumentor() -> tuple[object, dict[str, object]]:
    from openinference.instrumentation.dspy import DSPyInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    return DSPyInstrumentor(), {"tracer_provider": provider}


@contextmanager
def openinference() -> Iterator[None]:
    """Instrument DSPy; what it puts back has lost DSPy's callbacks, so the methods are put back here."""
    classes = (dspy.Module, dspy.Predict, dspy.Adapter, dspy.ChatAdapter, dspy.BaseLM, dspy.LM, dspy.Tool)
    before = [(each, name, vars(each)[name]) for each in classes for name in METHODS if name in vars(each)]
    instrumentor, options = _instrumentor()
    instrumentor.instrument(**options)
    try:
        yield
    finally:
        instrumentor.uninstrument()
        for each, name, method in before:
            setattr(each, name, method)


@cache
def _store() -> TemporaryDirectory[str]:
    """Return the folder of the database to which MLflow is pointed."""
    folder = TemporaryDirectory(prefix="bench-mlflow-")
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{Path(folder.name) / 'traces.db'}")
    mlflow.set_experiment("bench")
    return folder


@contextmanager
def mlflow_autolog() -> Iterator[None]:
    _store()
    import mlflow

    usage = dspy.settings.track_usage
    mlflow.dspy.autolog(silent=True)  # for the process: a dspy.context that is open already does not see it
    try:
        yield
    finally:
        mlflow.flush_trace_async_logging()  # or it would disturb the next round
        mlflow.dspy.autolog(disable=True, silent=True)
        dspy.settings.configure(track_usage=usage)


PEERS: dict[str, tuple[str, Tracing]] = {
    "OpenInference": ("openinference.instrumentation.dspy", openinference),
    "MLflow's autolog": ("mlflow", mlflow_autolog),
}


def installed() -> dict[str, Tracing]:
    """Return the peers that are there, and print which are not."""
    found = {}
    for name, (module, tracing) in PEERS.items():
        try:
            is_there = find_spec(module) is not None
        except ModuleNotFoundError:  # what it stands in is not there either
            is_there = False
        if is_there:
            found[name] = tracing
        else:
            print(f"{name}: not compared, since {module} is not installed")
    return found
