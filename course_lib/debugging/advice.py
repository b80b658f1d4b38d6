"""Where a run's time and tokens went, and what would save some: advice only where the numbers show a cause.

Main path: bottlenecks(tracer.spans) -> Bottlenecks; print it. With Tracer(content=True) it also finds equal
requests and calls that need not wait for one another.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from course_lib.debugging.steps import (
    EVALUATE,
    LM,
    PARSE,
    Span,
    Step,
    below,
    covered_s,
    spans_of,
    steps_of,
    texts_in,
)

_MUCH = 0.5
"""A share of the time or the tokens from which on one step is worth a word."""
_LITTLE = 0.05
"""What saves less than this share of the run is no advice."""
_LONG_PROMPT = 10
"""Tokens sent for each one written."""
_INPUTS = ("input.value", "gen_ai.input.messages")
_OUTPUTS = ("output.value", "gen_ai.output.messages")
_TELLING_CHARS = 8
_MOST_TOGETHER = 100
"""With so many neighbours a call is compared."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing that could be better."""

    kind: str
    """`repeated`, `sequential`, `adapter_fallback`, `retries`, `truncated`, `slow_step` or `long_prompt`."""
    seen: str
    """What the numbers show."""
    do: str
    """What would help."""
    saves_s: float = 0.0
    saves_tokens: int = 0
    spans: tuple[str, ...] = ()
    """The ids of the spans on which it rests."""

    def __str__(self) -> str:
        saved = [
            f"{1000 * self.saves_s:,.0f} ms" * (self.saves_s > 0),
            f"{self.saves_tokens:,} tokens" * bool(self.saves_tokens),
        ]
        saves = " and ".join(filter(None, saved))
        return f"{self.kind}: {self.seen}. {self.do}{f' (saves up to {saves})' * bool(saves)}."


@dataclass(frozen=True, slots=True, repr=False)
class Bottlenecks:
    """The steps of a run, those that took longest first, and the advice, what saves most first."""

    steps: tuple[Step, ...]
    advice: tuple[Advice, ...]
    took_s: float
    """For how long any call was under way."""
    tokens: int
    calls: int
    """Calls of models."""
    cached: int
    """Of these, answered by a cache."""
    has_content: bool
    """False when the spans hold no content, so that equal and independent calls cannot be told."""

    def __repr__(self) -> str:
        busy_s, all_tokens = sum(step.self_s for step in self.steps) or 1.0, self.tokens or 1
        rows = [
            f"{step.self_s / busy_s:6.0%} {step.tokens / all_tokens:7.0%} {len(step.calls):6}  {_place(step)}"
            for step in self.steps
        ]
        cached = f"{self.cached} of {self.calls} calls cached"
        head = f"{1000 * self.took_s:,.0f} ms, {self.tokens:,} tokens, {cached}"
        advice = [f"- {each}" for each in self.advice] or ["No advice: nothing stands out."]
        if not self.has_content:
            advice.append("(Equal and independent calls are found with Tracer(content=True).)")
        return "\n".join([head, "  time  tokens  calls  step", *rows, *advice])


@dataclass(frozen=True, slots=True)
class _Run:
    spans: Sequence[Span]
    steps: Sequence[Step]
    took_s: float
    tokens: int

    @property
    def models(self) -> list[Span]:
        return [span for span in self.spans if span.kind == LM]


def bottlenecks(spans: str | Path | Iterable[Any]) -> Bottlenecks:
    """Return what a run, or several together, spent and where it could spend less.

    Args:
        spans: a tracer's, or a file of them.
    """
    read = spans_of(spans)
    steps = sorted(steps_of(read).values(), key=lambda step: -step.self_s)
    took_s = covered_s(below(read)[None])
    run = _Run(read, steps, took_s, sum(step.tokens for step in steps))
    found = [advice for rule in _RULES for advice in rule(run) if _is_worth(advice, run)]
    return Bottlenecks(
        steps=tuple(step for step in steps if step.self_s > 0.01 * took_s or step.tokens),
        advice=tuple(sorted(found, key=lambda each: -_share(each, run))),
        took_s=took_s,
        tokens=run.tokens,
        calls=len(run.models),
        cached=sum(span.is_cached for span in run.models),
        has_content=any(span.content(*_INPUTS) is not None for span in read),
    )


def _share(advice: Advice, run: _Run) -> float:
    return max(advice.saves_s / (run.took_s or 1.0), advice.saves_tokens / (run.tokens or 1))


def _is_worth(advice: Advice, run: _Run) -> bool:
    return not (advice.saves_s or advice.saves_tokens) or _share(advice, run) >= _LITTLE


def _place(step: Step) -> str:
    return " > ".join(step.path)


def _ids(spans: Iterable[Span]) -> tuple[str, ...]:
    return tuple(span.id for span in spans)


def _repeated(run: _Run) -> Iterable[Advice]:
    """Equal requests to one model, asked again though nothing forbade a cache to answer."""
    equal = defaultdict(list)
    for span in run.models:
        asked = span.attributes.get("gen_ai.input.messages")
        if (
            span.content(*_INPUTS) is not None
            and not span.is_cached
            and not span.attributes.get("gen_ai.request.temperature")
        ):
            equal[span.attributes.get("gen_ai.request.model"), asked].append(span)
    again = [span for same in equal.values() for span in same[1:]]
    if again:
        seen = f"{len(again)} of {len(run.models)} requests were asked before, word for word"
        saves = sum(span.prompt_tokens + span.completion_tokens for span in again)
        yield Advice("repeated", seen, "Let a cache answer them", _took(again), saves, _ids(again))


def _took(spans: Iterable[Span]) -> float:
    return sum(span.took_s for span in spans)


def _sequential(run: _Run) -> Iterable[Advice]:
    """Calls beside one another that waited, though no later one was given what an earlier one returned."""
    children = below(run.spans)
    has_model = {span.id for span in run.models}
    for span in reversed(run.spans):  # parents begin first, so they come after what they hold
        if span.id in has_model and span.parent:
            has_model.add(span.parent)
    groups: dict[tuple[str, ...], list[list[Span]]] = defaultdict(list)
    for parent in (span for span in run.spans if span.kind != EVALUATE):
        within = [each for each in children.get(parent.id, ()) if each.id in has_model and each.kind != LM]
        for group in _together(within):
            groups[parent.name, *_names(group)].append(group)
    for (parent_name, *names), found in groups.items():
        if len(found[0]) > 1:
            seen = f"{', '.join(names)} wait in {parent_name}, and none is given another's result"
            do = (
                "If none decides whether another is made, run them together: asyncio.gather, or dspy.Parallel"
            )
            saves_s = sum(_took(group) - max(span.took_s for span in group) for group in found)
            yield Advice("sequential", seen, do, saves_s, 0, _ids(span for group in found for span in group))


class _Told(NamedTuple):
    """What a call was given, and the texts in that and in what it returned; None where a span has neither."""

    span: Span
    asked: Any
    given: list[str] | None
    returned: list[str] | None

    @classmethod
    def by(cls, span: Span) -> _Told:
        asked, returned = span.content(*_INPUTS), span.content(*_OUTPUTS)
        texts = (None if each is None else list(texts_in(each)) for each in (asked, returned))
        return cls(span, asked, *texts)


def _together(spans: Iterable[Span]) -> Iterator[list[Span]]:
    """Yield groups of neighbours that could have run together."""
    group: list[_Told] = []
    for span in spans:
        told = _Told.by(span)
        if len(group) == _MOST_TOGETHER or not all(_is_free(told, before) for before in group):
            yield [each.span for each in group]
            group = []
        if not any(told.asked == each.asked for each in group):  # else `repeated`
            group.append(told)
    yield [each.span for each in group]


def _names(group: Sequence[Span]) -> tuple[str, ...]:
    counts = Counter(span.name for span in group)
    return tuple(f"{count} x {name}" if count > 1 else name for name, count in counts.items())


def _is_free(told: _Told, before: _Told) -> bool:
    """Return whether a call came after `before`, and was given nothing that that one returned."""
    if before.returned is None or told.given is None or told.span.start_s < before.span.end_s:
        return False
    old, new = before.given or [], told.given
    old_text, new_text = " ".join(old), " ".join(new)
    return not any(
        (text in new and text not in old)
        or (len(text) >= _TELLING_CHARS and new_text.count(text) > old_text.count(text))
        for text in before.returned
    )


def _adapter_fallback(run: _Run) -> Iterable[Advice]:
    """Answers that could not be parsed, so that the same was asked again in another format."""
    children = below(run.spans)
    wasted = []
    for span in run.spans:
        within = children.get(span.id, ())
        failed = [each for each in within if each.kind == PARSE and each.error]
        asked = [each for each in within if each.kind == LM]
        wasted += asked[: len(failed)] if len(asked) > 1 else []
    if wasted:
        seen = f"{len(wasted)} answers could not be parsed, and the adapter asked again"
        do = "Take the adapter that the model answers, such as JSONAdapter, or make the output fields simpler"
        saves = sum(span.prompt_tokens + span.completion_tokens for span in wasted)
        yield Advice("adapter_fallback", seen, do, _took(wasted), saves, _ids(wasted))


def _retries(run: _Run) -> Iterable[Advice]:
    """Time spent on waiting for another attempt."""
    waits = [(span, wait_s) for span in run.spans for wait_s in span.waits_s]
    waited_s = sum(wait_s for _, wait_s in waits)
    if waits:
        seen = f"{len(waits)} attempts failed and were repeated after {waited_s:.1f} s of waiting"
        do = "Ask less often than the model's limit, or have another model to fall back on"
        yield Advice("retries", seen, do, waited_s, 0, _ids(span for span, _ in waits))


def _truncated(run: _Run) -> Iterable[Advice]:
    """Answers that the limit of tokens cut off."""
    reasons = "gen_ai.response.finish_reasons"
    cut = [span for span in run.models if "length" in (span.attributes.get(reasons) or ())]
    if cut:
        seen = f"{len(cut)} answers of a model were cut off by max_tokens"
        yield Advice("truncated", seen, "Raise max_tokens, or ask for a shorter answer", spans=_ids(cut))


def _slow_step(run: _Run) -> Iterable[Advice]:
    """One step that has more than half of the time."""
    busy_s = sum(step.self_s for step in run.steps)
    for step in run.steps:
        if len(run.steps) > 1 and step.self_s > _MUCH * busy_s:
            seen = f"{step.self_s / busy_s:.0%} of the time is {_place(step)}"
            written = sum(span.completion_tokens for span in step.calls)
            do = "Profile it: no model is asked there"
            if step.kind == LM:
                per_token_ms = 1000 * step.self_s / max(1, written)
                each = f"{written / len(step.calls):.0f} tokens a call at {per_token_ms:.1f} ms each"
                do = f"It writes {each}: take a faster model, or ask for a shorter answer"
            yield Advice("slow_step", seen, do, spans=_ids(step.calls))


def _long_prompt(run: _Run) -> Iterable[Advice]:
    """One step that has more than half of the tokens, nearly all of them sent."""
    for step in run.steps:
        sent = sum(span.prompt_tokens for span in step.calls)
        written = sum(span.completion_tokens for span in step.calls)
        if step.tokens > _MUCH * run.tokens and sent > _LONG_PROMPT * written:
            share = f"{step.tokens / run.tokens:.0%} of the tokens"
            seen = f"{share} are those of {_place(step)}, {sent / step.tokens:.0%} of them sent"
            do = "Send fewer demos or less context, or begin each prompt alike for the provider's cache"
            yield Advice("long_prompt", seen, do, spans=_ids(step.calls))


_RULES: tuple[Callable[[_Run], Iterable[Advice]], ...] = (
    *(_repeated, _sequential, _adapter_fallback, _retries, _truncated, _slow_step, _long_prompt),
)
