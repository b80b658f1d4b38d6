"""OpenTelemetry's current span in the threads of dspy.Parallel: lost; a Tracer's spans find their parent."""

from __future__ import annotations

import dspy
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from course_lib.debugging import Tracer
from tests.traps.conftest import SOLVED


class Wide(dspy.Module):
    """Does two things at once, each in a thread of DSPy's."""

    def __init__(self, inner: dspy.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self) -> dspy.Prediction:
        dspy.Parallel(num_threads=2, disable_progress_bar=True)([(self.inner, {"n": n}) for n in range(2)])
        return dspy.Prediction()


def test_a_span_opened_in_a_worker_is_the_root_of_a_trace_of_its_own() -> None:
    kept, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("plain")

    class Traced(dspy.Module):
        def forward(self, n):
            with tracer.start_as_current_span("inner"):
                return dspy.Prediction(n=n)

    with tracer.start_as_current_span("outer"):
        Wide(Traced())()

    traces = {span.context.trace_id for span in kept.get_finished_spans()}
    assert len(traces) == 3, SOLVED.format("its threads carry OpenTelemetry's context")


def test_a_tracers_spans_are_one_trace() -> None:
    class Inner(dspy.Module):
        def forward(self, n):
            return dspy.Prediction(n=n)

    with Tracer() as tracer, tracer.span("outer"):
        Wide(Inner())()

    assert {span.name for span in tracer.spans} == {"outer", "Wide", "Inner"}
    assert len({span.context.trace_id for span in tracer.spans}) == 1
