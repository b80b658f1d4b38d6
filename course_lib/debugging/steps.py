"""Spans as the reports of this room read them, from OpenTelemetry's own or from a file of JSON lines.

Main path: spans_of(tracer.spans) or spans_of(path) -> Span; steps_of(spans) -> Step, one for each place in
the program from which calls came.
Source: opentelemetry.sdk.trace.ReadableSpan and its to_json() (1.45); the attributes `gen_ai.*` and `dspy.*`.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from course_lib.errors import CourseError

_LONGEST = 15_000
"""Longer content was cut by what wrote the span, so it cannot be compared."""
_TEXTS = (
    *("gen_ai.request.model", "gen_ai.input.messages", "gen_ai.output.messages"),
    *("gen_ai.tool.call.arguments", "gen_ai.tool.call.result", "input.value", "output.value"),
)
_REASONS = "gen_ai.response.finish_reasons"
MODULE, LM, TOOL, FORMAT, PARSE, EVALUATE = "module", "lm", "tool", "format", "parse", "evaluate"


class SpanError(CourseError):
    """What should be spans is none."""


@dataclass(frozen=True, slots=True)
class Span:
    """One call."""

    id: str
    parent: str | None
    kind: str
    """`module`, `lm`, `tool`, `format`, `parse`, `evaluate`; or what a program of one's own calls it."""
    name: str
    start_s: float
    end_s: float
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    error: str = ""
    """The class of an error, and what it said where content is kept; "" for a call that did not fail."""

    @property
    def took_s(self) -> float:
        """Seconds from its begin to its end."""
        return self.end_s - self.start_s

    @property
    def prompt_tokens(self) -> int:
        """Tokens sent, 0 for what is no call of a model."""
        return int(self.attributes.get("gen_ai.usage.input_tokens") or 0)

    @property
    def completion_tokens(self) -> int:
        """Tokens that the model wrote."""
        return int(self.attributes.get("gen_ai.usage.output_tokens") or 0)

    @property
    def cost_usd(self) -> float:
        """What the call cost, 0 where no price is known."""
        return float(self.attributes.get("gen_ai.usage.cost") or 0)

    @property
    def is_cached(self) -> bool:
        """True when a cache answered in the model's place."""
        return bool(self.attributes.get("dspy.cache.hit"))

    @property
    def waits_s(self) -> list[float]:
        """Seconds for which it waited before each further attempt."""
        return [float(facts.get("wait_s") or 0) for name, facts in self.events if name == "retry"]

    def content(self, *names: str) -> Any:
        """Return the first of these attributes as the JSON that it holds; None where none is whole."""
        text = next((self.attributes[name] for name in names if name in self.attributes), "")
        if not text or len(text) > _LONGEST:
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text


@dataclass(slots=True)
class Step:
    """A place in the program, by the names from the outermost call to it, and all calls from there."""

    path: tuple[str, ...]
    kind: str
    calls: list[Span] = field(default_factory=list)
    self_s: float = 0.0
    """Seconds in which a call was under way, and none that it made."""

    @property
    def name(self) -> str:
        """The last of its names."""
        return self.path[-1]

    @property
    def tokens(self) -> int:
        """Tokens of its own calls of a model."""
        return sum(span.prompt_tokens + span.completion_tokens for span in self.calls)

    @property
    def took_s(self) -> float:
        """Seconds of all its calls together."""
        return sum(span.took_s for span in self.calls)


def spans_of(source: str | Path | Iterable[Any]) -> list[Span]:
    """Return spans, the first begun first: those of a tracer, or of a file that holds a JSON object a line.

    One that is there twice is taken once.

    Raises:
        SpanError: something among them is no span, or has not ended; a line of the file is no JSON; spans
            are one another's parents.
    """
    if isinstance(source, str | Path):
        source = _lines(Path(source))
    spans = {span.id: span for span in map(_span, source)}
    try:
        TopologicalSorter({span.id: [span.parent] for span in spans.values()}).prepare()
    except CycleError as error:
        raise SpanError(f"each of these spans stands in the next: {error.args[1]!r:.200}") from None
    return sorted(spans.values(), key=lambda span: span.start_s)


def _lines(path: Path) -> Iterator[Any]:
    for number, line in enumerate(path.read_text("utf-8", "replace").split("\n"), 1):
        try:
            if line:
                yield json.loads(line)
        except (ValueError, RecursionError) as error:
            what = f"{path}, line {number}: no JSON ({error}): {line!r:.80}"
            raise SpanError(f"{what}; a run that was stopped may have left half a line: delete it") from None


def _span(one: Any) -> Span:
    if isinstance(one, Span):
        return one
    try:
        plain = one if isinstance(one, Mapping) else json.loads(one.to_json(indent=None))
        events = tuple(
            (each["name"], dict(each.get("attributes") or {})) for each in plain.get("events") or ()
        )
        attributes, status = plain.get("attributes") or {}, plain.get("status") or {}
        is_error = status.get("status_code") == "ERROR"
        span = Span(
            id=plain["context"]["span_id"],
            parent=plain.get("parent_id"),
            kind=attributes.get("dspy.kind", "block"),
            name=plain["name"],
            start_s=_seconds(plain["start_time"]),
            end_s=_seconds(plain["end_time"]),
            attributes=attributes,
            events=events,
            error=is_error * str(status.get("description") or attributes.get("error.type") or "error"),
        )
        _check(span)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise SpanError(
            f"{one!r:.200} is no span that has ended ({error!r}); give tracer.spans, or a file of them"
        ) from None
    return span


def _check(span: Span) -> None:
    texts = [span.parent, *(span.attributes.get(name) for name in _TEXTS)]
    if not all(isinstance(each, str) for each in (span.id, span.name, span.kind)):
        raise TypeError("an id or a name that is no text")
    if not all(each is None or isinstance(each, str) for each in texts):
        raise TypeError("a parent, a model or content that is no text")
    if not isinstance(span.attributes.get(_REASONS) or (), list | tuple):
        raise TypeError("reasons that are no list")
    if not math.isfinite(sum([span.prompt_tokens, span.completion_tokens, span.cost_usd, *span.waits_s])):
        raise ValueError("a number that is none")


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def below(spans: Sequence[Span]) -> dict[str | None, list[Span]]:
    """Return the spans by their parent; those whose parent is not among them stand under None."""
    known, found = {span.id for span in spans}, defaultdict(list)
    for span in spans:
        found[span.parent if span.parent in known else None].append(span)
    return found


def walk(spans: Sequence[Span]) -> Iterator[tuple[tuple[str, ...], Span, Sequence[Span]]]:
    """Yield each call behind the one that it stands in: the names down to its own, it, its own calls."""
    children = below(spans)
    waiting: list[tuple[tuple[str, ...], Span]] = [((), span) for span in reversed(children[None])]
    while waiting:
        above, span = waiting.pop()
        path, within = (*above, span.name), children.get(span.id, [])
        yield path, span, within
        waiting += ((path, each) for each in reversed(within))


def steps_of(spans: Sequence[Span]) -> dict[tuple[str, ...], Step]:
    """Return the places from which the calls came, each behind the one that it stands in."""
    steps = dict[tuple[str, ...], Step]()
    for path, span, within in walk(spans):
        step = steps.setdefault(path, Step(path, span.kind))
        step.calls.append(span)
        step.self_s += span.took_s - covered_s(within, span.end_s)
    return steps


def covered_s(spans: Iterable[Span], end_s: float = math.inf) -> float:
    """Return for how long at least one of the spans, which begin one after another, was under way."""
    total_s, until_s = 0.0, -math.inf
    for span in spans:
        last_s = min(span.end_s, end_s)
        total_s += max(0.0, last_s - max(span.start_s, until_s))
        until_s = max(until_s, last_s)
    return total_s


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text and number in plain values, as text."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            one = list(one.values())
        if isinstance(one, list):
            waiting += reversed(one)
        elif one is not None and not isinstance(one, bool):
            yield str(one)
