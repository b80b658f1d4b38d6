"""Spans of what DSPy does, joined into whole traces over threads, tasks, streams, HTTP and queues.

Main path: with Tracer(file="run.jsonl") as tracer: program(...); print(tree(tracer.spans)).
Source: CallListener knows each call's parent; spans are OpenTelemetry's, and so are their exporters and the
W3C header. No provider is set for the process: what other libraries trace stays theirs.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from course_lib.debugging import attributes, exporters
from course_lib.debugging.exporters import Batches, JsonLines
from course_lib.debugging.spans import Place, Span
from course_lib.debugging.steps import spans_of, walk
from course_lib.measure.calls import BLOCK, LM, Call, CallListener
from course_lib.notes import Fact
from course_lib.redaction import redact_value

Carrier = TypeVar("Carrier", bound=MutableMapping[str, Any])

_W3C = TraceContextTextMapPropagator()


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
        share: float = 1.0,
        obeys: bool = True,
    ) -> None:
        """Say where spans go, beside memory.

        Args:
            more: any other exporters of OpenTelemetry's; each gets batches from a thread of its own.
            file: one file, a line of JSON a span, appended.
            collector: the address of an OTLP collector or viewer, such as http://127.0.0.1:4318.
            headers: sent to it, such as {"Authorization": "Bearer ..."}.
            content: whether spans hold prompts, answers, inputs, tool arguments and errors' words.
            redact: takes personal data and secrets out of content: of JSON values, nested.
            kept: so many spans are kept in memory, the last ones. Without content one takes about 3 kB; with
                content also what it was given and what it returned, each up to 32,480 characters (130 kB at
                worst) and not redacted before the span is read or exported: give fewer then.
            service: the resource's `service.name`.
            share: of the traces that begin here, chosen by their id, as by OpenTelemetry's TraceIdRatioBased.
                Below 1, the flag of a trace from elsewhere is obeyed, as by ParentBased; 1 keeps those too.
                What is not kept costs next to nothing, and has ids still: for logs, and for inject().
            obeys: False for a server whose callers must not choose what is kept, by a flag or by an id: its
                share is of all traces then.

        Raises:
            ExporterError: a file that cannot be written, or an address that is none.
            ValueError: a share that is not from 0 to 1.
        """
        super().__init__()
        self._sampler, self._obeys = TraceIdRatioBased(share), obeys
        to: list[tuple[str, SpanExporter]] = [(type(each).__name__, each) for each in more]
        to += [(exporters.shown(collector), exporters.collector(collector, headers))] if collector else []
        self.resource = Resource({"service.name": service, "telemetry.sdk.language": "python"})
        self._memory: deque[Span] = deque(maxlen=kept)
        self._batches = [Batches(each, name, self.resource) for name, each in to]
        if file:
            self._batches.append(Batches(JsonLines(file), str(file), self.resource, is_local=True))
        self._content, self._redact = content, redact

    # -- what was seen -------------------------------------------------------------------------------

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, in that order; at most `kept`."""
        while True:
            try:
                return [span.readable(self.resource) for span in tuple(self._memory)]
            except RuntimeError:  # one ended meanwhile
                continue

    @property
    def dropped(self) -> int:
        """Spans that an exporter did not get: its queue was full, or it did not take them."""
        return sum(each.dropped for each in self._batches)

    @property
    def last_error(self) -> str:
        """What is wrong with an exporter now, in one line; empty if nothing is."""
        problems = [f"{each.name}: {each.last_error}" for each in self._batches if each.last_error]
        return "; ".join(problems)

    def flush(self, within_s: float = 2.0, *, file_alone: bool = False) -> bool:
        """Wait until every exporter, or the file alone, has what has ended; False if one takes longer."""
        to = [each for each in self._batches if each.is_local or not file_alone]
        are_done = [each.flush(within_s) for each in to]
        return all(are_done)

    def close(self) -> None:
        """Hand over what waits, for two seconds at most (a file: ten), and end the exporters."""
        for each in self._batches:
            each.close()

    def __exit__(self, *error: object) -> None:
        """Stop listening; a file is complete then, and a collector is not waited for.

        A file that takes nothing for ten seconds is waited for no longer, nor is one for which the redaction
        of what waits takes more than a minute; a warning tells so, and `dropped` counts what is lost.
        """
        super().__exit__(*error)
        for each in self._batches:
            if each.is_local:
                each.finish()

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
            of: what inject() wrote, or OpenTelemetry's own, perhaps in another process: headers, a message.
                One without a valid `traceparent` begins a trace of its own, whichever span is open here.
            kind: SpanKind.SERVER for a request that is answered, SpanKind.CONSUMER for an event.
            facts: attributes.
        """
        call = Call(BLOCK, None, self, self.current())
        parent = self._place_of(call.parent) if of is None else self._sent(of)
        span = Span(name, parent, kind, place=Place.below(parent, self._sampler))
        call.data = span if span.place.is_sampled else span.place
        span.attributes |= {"dspy.kind": BLOCK, **facts}
        span.redact = self._redact
        opened = self.opened(call)
        opened.__enter__()
        try:
            yield span
        except GeneratorExit:  # who read what this stands in has enough
            raise
        except BaseException as error:
            self._fail(span, error)
            raise
        finally:
            # A generator thrown away while suspended ends in another context: nothing to put back there.
            with suppress(ValueError):
                opened.__exit__(None, None, None)
            self._close(call, span)

    def inject(self, carrier: Carrier) -> Carrier:
        """Write the current span into a dict, as W3C `traceparent`: headers of a request, an event's data.

        `httpx.get(url, headers=tracer.inject({}))`; the other side opens `span(name, of=request.headers)`.
        """
        if place := self.place:
            span = NonRecordingSpan(place.context())
            _W3C.inject(carrier, trace.set_span_in_context(span, Context()))
        return carrier

    @property
    def place(self) -> Place | None:
        """The ids of the span that is open in this context, sampled or not."""
        return self._place_of(self.current())

    @property
    def hears(self) -> bool:
        """Whether a call that begins here would have a span."""
        place = self.place
        return place is None or place.is_sampled

    # -- what CallListener says ----------------------------------------------------------------------

    def passes_over(self, parent: Call) -> bool:
        """Say whether what stands in a call is of a trace that is not kept."""
        return isinstance(parent.data, Place) and not parent.data.is_sampled

    def began(self, call: Call, inputs: Mapping[str, Any]) -> None:
        """Open the span of a call; what is known of it already is written when it ends."""
        parent = self._place_of(call.parent)
        place = call.data = Place.below(parent, self._sampler)
        if not place.is_sampled:
            return
        span = call.data = Span("", parent, place=place)
        span.redact = self._redact
        if call.kind == LM:
            span.kind = SpanKind.CLIENT
            span.attributes = attributes.settings_of(call, inputs)
        if self._content:
            span.content = attributes.content_in(call, inputs)

    def ended(self, call: Call, outputs: Any, error: BaseException | None) -> None:
        """Close the span of a call."""
        span = call.data
        if not isinstance(span, Span):
            return
        span.name = attributes.title_of(call)
        span.attributes = {
            **attributes.call_of(call),
            **span.attributes,
            **attributes.end_of(call, outputs, error),
        }
        if self._content:
            span.content |= attributes.content_out(call, outputs)
        if error is not None:
            self._fail(span, error)
        self._close(call, span)

    def noted(self, call: Call | None, name: str, facts: Mapping[str, Fact]) -> None:
        """Make an event of a note."""
        if call is not None and isinstance(call.data, Span):
            call.data.add_event(name, facts)

    def finished(self, span: Span) -> None:
        """Take a span that has ended."""
        self._memory.append(span)
        for each in self._batches:
            each.put(span)

    def _fail(self, span: Span, error: BaseException) -> None:
        """Mark a span; what an error says may quote a prompt, so without content only its class is told."""
        span.error = type(error).__name__
        span.set_attribute("error.type", span.error)
        if self._content:
            span.words = attributes.text_of(error)[: attributes.LONGEST_CONTENT]

    def _close(self, call: Call, span: Span) -> None:
        """End a span; calls that outlive it still find their parent, but no longer what it holds."""
        span.end()
        call.data, call.parent = span.place, None
        if span.place.is_sampled:
            self.finished(span)

    def _place_of(self, call: Call | None) -> Place | None:
        data = call.data if call else None
        return data.place if isinstance(data, Span) else data

    def _sent(self, carrier: Mapping[str, Any]) -> Place | None:
        """Return the place that a carrier names; None for none, and for what is no `traceparent`."""
        given = carrier.get("traceparent")
        if not isinstance(given, str):
            return None
        named = trace.get_current_span(_W3C.extract({"traceparent": given}, Context())).get_span_context()
        is_sampled = named.trace_flags.sampled or self._sampler.rate == 1
        if not self._obeys:
            is_sampled = Place.below(None, self._sampler).is_sampled
        return Place(named.trace_id, named.span_id, is_sampled) if named.is_valid else None


_to_log = logging.getLogger("course_lib.trace").info


class TraceLogger(Tracer):
    """Writes one line of JSON for each span that ends, to a logger or any function: `TraceLogger(print)`.

    Lines with content are redacted and written by a thread of its own, since redaction takes long: half a
    second later, and all of them before the block ends.
    """

    def __init__(self, write: Callable[[str], object] = _to_log, **options: Any) -> None:
        """Take what writes a line; `options` are the Tracer's."""
        super().__init__(**options)
        self._write, self._lost = write, 0
        self._lines = Batches(
            _Lines(self._tell), "the log", self.resource, is_local=True, read=attributes.line_of
        )
        self._batches += [self._lines] if self._content else []

    @property
    def lines_lost(self) -> int:
        """Lines that could not be written."""
        return self._lost + self._lines.dropped

    def finished(self, span: Span) -> None:
        """Write a span's line."""
        super().finished(span)
        if not self._content:
            self._tell(attributes.line_of(span))

    def _tell(self, line: Mapping[str, Any]) -> None:
        """Write a line."""
        try:
            text = json.dumps(line, ensure_ascii=False, default=str)
            self._write(text.encode(errors="replace").decode())
        except Exception:  # border: a log that is full, or somebody else's function
            self._lost += 1


class _Lines(SpanExporter):
    """Writes lines in the thread of a TraceLogger."""

    def __init__(self, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self._tell = tell

    def export(self, lines: Sequence[Any]) -> SpanExportResult:
        for each in lines:
            self._tell(each)
        return SpanExportResult.SUCCESS


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

    def __exit__(self, *error: object) -> None:
        if self._enabled:
            self._tracer.__exit__(*error)


def tree(spans: str | Path | Iterable[Any]) -> str:
    """Return a tracer's spans, or a file of them, as an indented text, each with its time and its events."""
    lines = []
    for path, span, _ in walk(spans_of(spans)):
        happened = [str(span.attributes.get("error.type", "")), *(name for name, _ in span.events)]
        facts = f"{1000 * span.took_s:.1f} ms  {', '.join(filter(None, happened))}".rstrip()
        lines.append(f"{'  ' * (len(path) - 1)}{span.name}  {facts}")
    return "\n".join(lines)
