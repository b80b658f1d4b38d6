"""Spans of what DSPy does, joined into whole traces over threads, tasks, streams, HTTP and queues.

Main path: with Tracer(file="run.jsonl") as tracer: program(...); print(tree(tracer.spans)).
Source: CallListener knows each call's parent; OpenTelemetry's SDK makes the spans, with a provider of our own:
what other libraries of the process trace stays theirs.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from course_lib.debugging import attributes, exporters
from course_lib.debugging.exporters import Batches, JsonLines, Memory
from course_lib.measure.calls import BLOCK, LM, Call, CallListener
from course_lib.notes import Fact
from course_lib.redaction import redact_value

Carrier = TypeVar("Carrier", bound=MutableMapping[str, Any])

_W3C = TraceContextTextMapPropagator()
_WORDS = 500  # of an error's characters, at most
_LIMITS = SpanLimits(max_attribute_length=16_384, max_events=128)


class Tracer(CallListener):
    """Makes a span of each call of a module, model, tool, adapter, evaluation and optimizer.

    As a context manager or installed for good (see CallListener); several may listen at once. Retries,
    fallbacks, cache hits and breakers are events of the span in which they happened. What people and models
    write is in no span, unless `content` is set; then it is redacted.
    """

    def __init__(
        self,
        *more: SpanExporter,
        file: str | Path | None = None,
        collector: str | None = None,
        headers: Mapping[str, str] | None = None,
        content: bool = False,
        redact: Callable[[Any], Any] = redact_value,
        kept: int = 10_000,
        service: str = "course",
        provider: Any = None,
    ) -> None:
        """Say where spans go, beside memory.

        Args:
            more: any other exporters of OpenTelemetry's; each gets batches from a thread of its own.
            file: one file, a line of JSON a span, appended.
            collector: the address of an OTLP collector or viewer, such as http://127.0.0.1:4318.
            headers: sent to it, such as {"Authorization": "Bearer ..."}.
            content: whether spans hold prompts, answers, inputs, tool arguments and errors' words.
            redact: takes personal data and secrets out of content: of JSON values, nested.
            kept: so many spans are kept in memory, the last ones.
            service: the resource's `service.name`.
            provider: a provider to use in place of our own, such as trace.get_tracer_provider(); its
                exporters get the spans, and spans that others opened become parents of ours.

        Raises:
            ExporterError: a file that cannot be written, or an address that is none.
        """
        super().__init__()
        to: list[tuple[str, SpanExporter]] = [(type(each).__name__, each) for each in more]
        to += [(str(file), JsonLines(file))] if file else []
        to += [(collector, exporters.collector(collector, headers))] if collector else []
        self._memory, self._batches = Memory(kept), [Batches(each, name) for name, each in to]
        self._content, self._redact, self._is_ours = content, redact, provider is None
        self._file = str(file)
        resource = Resource({"service.name": service, "telemetry.sdk.language": "python"})
        self._provider = provider or TracerProvider(
            sampler=ALWAYS_ON, resource=resource, span_limits=_LIMITS, shutdown_on_exit=False
        )
        for processor in (self._memory, *self._batches):
            self._add(processor)
        self._tracer = self._provider.get_tracer("course_lib.debugging")

    def _add(self, processor: SpanProcessor) -> None:
        self._provider.add_span_processor(processor)

    # -- what was seen -------------------------------------------------------------------------------

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in that order; at most `kept`."""
        return list(self._memory.spans)

    @property
    def dropped(self) -> int:
        """Spans that an exporter did not get: its queue was full, or it did not take them."""
        return sum(each.dropped for each in self._batches)

    @property
    def last_error(self) -> str:
        """What is wrong with an exporter now, in one line; empty if nothing is."""
        problems = [f"{each.name}: {each.last_error}" for each in self._batches if each.last_error]
        return "; ".join(problems)

    def flush(self, within_s: float = 2.0) -> bool:
        """Wait until every exporter has what has ended; False if one takes longer."""
        return all([each.flush(within_s) for each in self._batches])

    def close(self) -> None:
        """Hand over what waits, for two seconds at most, and end the exporters."""
        for each in self._batches:
            each.shutdown()

    def __exit__(self, *error: object) -> None:
        """Stop listening; a file is complete then, and a collector is not waited for."""
        super().__exit__(*error)
        for each in self._batches:
            if each.name == self._file:
                each.flush(2.0)

    # -- spans of one's own, and from elsewhere ------------------------------------------------------

    @contextmanager
    def span(
        self,
        name: str,
        *,
        of: Mapping[str, Any] | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        **facts: Fact,
    ) -> Iterator[Span]:
        """Open a span for a block; what runs below it, in DSPy's threads too, is in its trace.

        Args:
            name: without personal data: not the path of a request, but its route.
            of: what inject() wrote, in another process perhaps: headers, or an event's data.
            kind: SpanKind.SERVER for a request that is answered, SpanKind.CONSUMER for an event.
            facts: attributes.
        """
        call = Call(BLOCK, None, self, self.current())
        parent = self._context_of(call.parent)
        if of is not None and (given := of.get("traceparent")) and isinstance(given, str):
            parent = _W3C.extract({"traceparent": given}, Context())
        span = self._tracer.start_span(name, parent, kind, {"dspy.kind": BLOCK, **facts})
        call.data = span
        with ExitStack() as stack:
            stack.callback(self._close, call, span)
            if not self._is_ours:
                stack.enter_context(
                    trace.use_span(span, record_exception=False, set_status_on_exception=False)
                )
            try:
                with self.opened(call):
                    yield span
            except BaseException as error:
                self._fail(span, error)
                raise

    def inject(self, carrier: Carrier) -> Carrier:
        """Write the current span into a dict, as W3C `traceparent`: headers of a request, an event's data.

        `httpx.get(url, headers=tracer.inject({}))`; the other side opens `span(name, of=request.headers)`.
        """
        call = self.current()
        if call is not None and call.data is not None:
            _W3C.inject(carrier, trace.set_span_in_context(call.data, Context()))
        return carrier

    # -- what CallListener says ----------------------------------------------------------------------

    def began(self, call: Call, inputs: Mapping[str, Any]) -> None:
        """Open the span of a call."""
        said = attributes.request_of(call, inputs)
        if self._content:
            said |= attributes.content_in(call, inputs, self._redact)
        kind = SpanKind.CLIENT if call.kind == LM else SpanKind.INTERNAL
        parent = self._context_of(call.parent)
        call.data = self._tracer.start_span(attributes.title_of(call), parent, kind, said)

    def ended(self, call: Call, outputs: Any, error: BaseException | None) -> None:
        """Close the span of a call."""
        span = call.data
        if span is None:
            return
        span.set_attributes(attributes.response_of(call, outputs, error))
        if self._content:
            span.set_attributes(attributes.content_out(call, outputs, self._redact))
        if error is not None:
            self._fail(span, error)
        self._close(call, span)

    def noted(self, call: Call | None, name: str, facts: Mapping[str, Fact]) -> None:
        """Make an event of a note."""
        if call is not None and call.data is not None:
            call.data.add_event(name, dict(facts))

    def _fail(self, span: Span, error: BaseException) -> None:
        """Mark a span; what an error says may quote a prompt, so without content only its class is told."""
        words = type(error).__name__
        if self._content:
            words = f"{words}: {self._redact(attributes.text_of(error))}"[:_WORDS]
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(Status(StatusCode.ERROR, words))

    def _close(self, call: Call, span: Span) -> None:
        """End a span; calls that outlive it still find their parent, but no longer what it holds."""
        span.end()
        call.data = NonRecordingSpan(span.get_span_context())

    def _context_of(self, parent: Call | None) -> Context | None:
        if parent is not None and parent.data is not None:
            return trace.set_span_in_context(parent.data, Context())
        return Context() if self._is_ours else None  # None: what OpenTelemetry has open here


_to_log = logging.getLogger("course_lib.trace").info


class TraceLogger(Tracer):
    """Writes one line of JSON for each span that ends, to a logger or any function: `TraceLogger(print)`."""

    def __init__(self, write: Callable[[str], object] = _to_log, **options: Any) -> None:
        """Take what writes a line; `options` are the Tracer's."""
        super().__init__(**options)
        self._lines = _Lines(write)
        self._add(self._lines)

    @property
    def lines_lost(self) -> int:
        """Lines that could not be written."""
        return self._lines.lost


class _Lines(SpanProcessor):
    def __init__(self, write: Callable[[str], object]) -> None:
        self._write, self.lost = write, 0

    def on_end(self, span: ReadableSpan) -> None:
        try:
            self._write(json.dumps(dict(attributes.lines_of(span)), ensure_ascii=False))
        except Exception:  # border: a log that is full, or somebody else's function
            self.lost += 1


class DistributedTracer(Tracer):
    """A Tracer whose spans go to a collector, under the name of this service."""

    def __init__(self, collector: str, *, service: str, **options: Any) -> None:
        """Take the collector's address; `options` are the Tracer's."""
        super().__init__(collector=collector, service=service, **options)


class Tracing:
    """`with Tracing(enabled=True) as tracer:` traces the block; with `enabled=False` it costs nothing."""

    def __init__(self, *, enabled: bool = True, **options: Any) -> None:
        """Take the Tracer's options."""
        self._enabled, self._tracer = enabled, Tracer(**(options if enabled else {}))

    def __enter__(self) -> Tracer:
        return self._tracer.__enter__() if self._enabled else self._tracer

    def __exit__(self, *error: Any) -> None:
        if self._enabled:
            self._tracer.__exit__(*error)


def tree(spans: Sequence[ReadableSpan]) -> str:
    """Return spans as an indented text, each with its time and what happened in it."""
    known = {span.context.span_id for span in spans if span.context}
    below: dict[int | None, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda each: each.start_time or 0):
        parent = span.parent.span_id if span.parent and span.parent.span_id in known else None
        below.setdefault(parent, []).append(span)

    def lines(parent: int | None, depth: int) -> Iterator[str]:
        for span in below.get(parent, ()):
            took_ms = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
            failed = str((span.attributes or {}).get("error.type", ""))
            happened = [failed, *(event.name for event in span.events)]
            yield f"{'  ' * depth}{span.name}  {took_ms:.1f} ms  {', '.join(filter(None, happened))}".rstrip()
            yield from lines(span.context.span_id if span.context else None, depth + 1)

    return "\n".join(lines(None, 0))
