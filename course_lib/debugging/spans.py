"""A span under way: written to on the path of every call, so it is small, and becomes OpenTelemetry's later.

Main path: Span(place, parent) -> set_attribute(), add_event(), end() -> readable(resource), for an exporter.
Source: ReadableSpan of opentelemetry-sdk 1.45. The SDK's own start_span() takes longer than DSPy's callback:
it samples, locks, and checks each attribute; here that happens when the span is read, or by an exporter.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from course_lib.redaction import redact_value

_LONGEST_WORDS = 500
MOST_EVENTS, MOST_ATTRIBUTES, LONGEST_VALUE = 128, 128, 16_384
ALL = TraceIdRatioBased(1.0)
_SCOPE = InstrumentationScope("course_lib.debugging")
_FLAGS = {True: TraceFlags(TraceFlags.SAMPLED), False: TraceFlags(TraceFlags.DEFAULT)}
_PLAIN = (str, bool, int, float)

_random = random.Random()  # ids, apart from a program's own seed
_settling = threading.Lock()
os.register_at_fork(after_in_child=_random.seed)
os.register_at_fork(after_in_child=_settling._at_fork_reinit)  # type: ignore[attr-defined]  # noqa: SLF001


def _zero_ns() -> int:
    return time.time_ns() - time.perf_counter_ns()


class Place(NamedTuple):
    """A span's ids: what its children, and other processes, know of it."""

    trace_id: int
    span_id: int
    is_sampled: bool = True
    """Whether spans of this trace are kept."""
    zero_ns: int = 0
    """What the calendar's clock said when the process's own was 0, where the trace began in this process: it
    times the whole trace, so that a calendar that is set meanwhile moves no span against another."""

    @classmethod
    def below(cls, parent: Place | None, sampler: TraceIdRatioBased = ALL) -> Place:
        """Return a new place; without a parent in a trace of its own, kept or not as its id says."""
        span_id = _random.getrandbits(64) or 1
        if parent:
            return cls(parent.trace_id, span_id, parent.is_sampled, parent.zero_ns or _zero_ns())
        trace_id = _random.getrandbits(128) or 1
        return cls(trace_id, span_id, trace_id & sampler.TRACE_ID_LIMIT < sampler.bound, _zero_ns())

    def context(self) -> SpanContext:
        """Return it as OpenTelemetry has it."""
        return SpanContext(self.trace_id, self.span_id, is_remote=False, trace_flags=_FLAGS[self.is_sampled])


class Span:
    """What happened between two moments; ended, it takes nothing more."""

    __slots__ = (
        *("name", "parent", "kind", "place", "attributes", "events", "error", "start_ns", "end_ns"),
        *("content", "words", "redact"),
    )

    def __init__(
        self,
        name: str,
        parent: Place | None,
        kind: SpanKind = SpanKind.INTERNAL,
        *,
        place: Place | None = None,
    ) -> None:
        self.name, self.parent, self.kind = name, parent, kind
        self.place = place or Place.below(parent)
        self.attributes: dict[str, Any] = {}
        self.events: list[tuple[str, int, Mapping[str, Any]]] = []
        self.error: str | None = None
        """What the status says of a failure."""
        self.content: dict[str, Any] = {}
        """JSON values that become attributes, redacted, when the span is read or exported."""
        self.words = ""
        self.redact: Callable[[Any], Any] = redact_value
        """What the error says, and how content is redacted."""
        self.end_ns = 0
        self.start_ns = self._now_ns()

    def _now_ns(self) -> int:
        return self.place.zero_ns + time.perf_counter_ns()

    def set_attribute(self, name: str, value: Any) -> None:
        """Say something of it; a value of another kind than text, number or a list of these becomes text."""
        if not self.end_ns:
            self.attributes[name] = value

    def add_event(self, name: str, facts: Mapping[str, Any]) -> None:
        """Say that something happened in it now; of very many events the first ones are kept."""
        if not self.end_ns and len(self.events) < MOST_EVENTS:
            self.events.append((name, self._now_ns(), facts))

    def end(self) -> None:
        """End it now."""
        self.end_ns = self._now_ns()

    def settled(self) -> Mapping[str, Any]:
        """Return its attributes, with the content redacted; what it was before is then forgotten."""
        content, words = self.content, self.words
        if content or words:  # redacted outside the lock: it is somebody's function, and may take its time
            said = f": {self._redacted(words)}" if words else ""
            shown = {name: _as_json(self._redacted(value)) for name, value in content.items()}
            with _settling:
                if self.content is content:
                    self.error = f"{self.error}{said}"[:_LONGEST_WORDS] if said else self.error
                    self.attributes = {**self.attributes, **shown}
                    self.content, self.words = {}, ""
        return self.attributes

    def _redacted(self, value: Any) -> Any:
        try:
            return self.redact(value)
        except Exception as error:  # border: somebody else's function; what it did not take is not shown
            return f"(not redacted, so not shown: {type(error).__name__})"

    def readable(self, resource: Resource) -> ReadableSpan:
        """Return it as OpenTelemetry's exporters and readers know it."""
        attributes = _checked(self.settled())
        error = None if self.error is None else _plain(self.error)
        return ReadableSpan(
            _plain(self.name),
            self.place.context(),
            self.parent.context() if self.parent else None,
            resource,
            attributes,
            [Event(_plain(name), _checked(facts), at_ns) for name, at_ns, facts in self.events],
            kind=self.kind,
            status=Status(StatusCode.UNSET) if error is None else Status(StatusCode.ERROR, error),
            start_time=self.start_ns,
            end_time=self.end_ns,
            instrumentation_scope=_SCOPE,
        )


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:LONGEST_VALUE]


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what attributes may hold; of very many the first ones."""
    return {_plain(name): _plain(value) for name, value in islice(tuple(values.items()), MOST_ATTRIBUTES)}


def _plain(value: Any) -> Any:
    """Return what an attribute may hold; a text that could not be sent, with its odd characters replaced."""
    if isinstance(value, str):
        return value[:LONGEST_VALUE].encode(errors="replace").decode()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple) and all(isinstance(each, _PLAIN) for each in value):
        return tuple(_plain(each) for each in value)
    return _plain(str(value))
