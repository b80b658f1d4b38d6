"""What tests ask of spans: whole traces, their shape, and where a text is found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

TRIAGE = {"Triage", "Predict(SortTicket)", "ChatAdapter.format", "chat sim-large", "ChatAdapter.parse"}


def traces(spans: Sequence[ReadableSpan]) -> list[list[ReadableSpan]]:
    """Return the spans of each trace; each has one root, and every parent is there."""
    found: dict[int, list[ReadableSpan]] = defaultdict(list)
    for span in spans:
        found[span.context.trace_id].append(span)
    for each in found.values():
        assert [span.name for span in each if span.parent is None] == [roots(each)[0].name]
        ids = {span.context.span_id for span in each}
        assert [span.name for span in each if span.parent and span.parent.span_id not in ids] == []
    return list(found.values())


def roots(spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    return [span for span in spans if span.parent is None]


def shape(spans: Sequence[ReadableSpan]) -> Any:
    """Return a trace as nested tuples of names, siblings in the order of their beginning."""
    below: dict[Any, list[ReadableSpan]] = defaultdict(list)
    for span in sorted(spans, key=lambda each: each.start_time):
        below[span.parent and span.parent.span_id].append(span)

    def node(span: ReadableSpan) -> Any:
        children = below[span.context.span_id]
        return (span.name, *map(node, children)) if children else span.name

    return [node(span) for span in below[None]]


def events(spans: Sequence[ReadableSpan]) -> Counter[str]:
    return Counter(event.name for span in spans for event in span.events)


def named(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def everything(spans: Sequence[ReadableSpan]) -> str:
    """Return all that spans say, as one text."""
    return "\n".join(span.to_json(indent=None) for span in spans)
