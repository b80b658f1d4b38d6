"""Trace viewer: a run's spans as a waterfall and a tree; an opened one tells what was asked and answered.

Main path: trace_viewer(tracer.spans), or trace_viewer(before, after) for two runs; read() puts the spans in
their places, draw() makes the rows, show() tells one span, or two and what differs between them.
Prompts and replies, there with Tracer(content=True), stay in Python until their span is opened.
"""

# mypy: allow-subclassing-any
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from course_lib.debugging.steps import LM, TOOL, Span, below, spans_of
from course_lib.errors import CourseError
from course_lib.labs.reading import INK, PRE, STATIC, Rendered, paragraph, show_messages, table, words_of
from course_lib.labs.widget import Lab
from course_lib.lm.recordings import differing

MOST_SPANS = 2_000
"""So many spans of a run are shown, the first ones."""
_MOST_STORED, _MOST_LINES, _LONGEST_FACT = 100, 1_000, 300
_ASKED = {"gen_ai.input.messages": "prompt", "gen_ai.tool.call.arguments": "argument", "input.value": "input"}
_ANSWERED = {"gen_ai.output.messages": "reply", "gen_ai.tool.call.result": "result", "output.value": "output"}
_TOLD = {f"gen_ai.usage.{name}" for name in ("input_tokens", "output_tokens", "cost")}
_CSS = STATIC / "trace_viewer.css"
_INTRO = (
    "Each call stands below the one that made it, with the part of its trace's time in which it was under "
    "way. Click a row, or reach it with Tab and the arrow keys and press Enter, to read it. Of two runs, a "
    "row of the first opens its counterpart in the second too; 'differs' marks what was asked something else."
)

Source = str | Path | Iterable[Any]
Messages = list[Mapping[str, Any]]
Place = tuple[tuple[str, int], ...]
"""From the outermost call to this one: each one's class, and its number among neighbours of that class."""


@dataclass(frozen=True, slots=True)
class Row:
    """One span in its place."""

    span: Span
    place: Place
    bar: str
    """When in its trace it was under way, as CSS."""
    asked: Messages
    answered: Messages

    def words(self) -> str:
        """Return what it took, and whether it failed."""
        span, tokens = self.span, self.span.prompt_tokens + self.span.completion_tokens
        parts = [f"{tokens:,} tokens" * bool(tokens), "cached" * span.is_cached, span.error.partition(":")[0]]
        return ", ".join(filter(None, [f"{1000 * span.took_s:,.1f} ms", *parts]))

    def facts(self) -> dict[str, str]:
        """Return its figures, its events and its other attributes, by name."""
        span = self.span
        told = {"took": f"{1000 * span.took_s:,.1f} ms", "error": span.error}
        if span.kind == LM:
            told["tokens"] = f"{span.prompt_tokens:,} in, {span.completion_tokens:,} out"
            told["cost"] = f"{span.cost_usd:.6f} dollars"
        told |= {f"event {at} {name}": _listed(facts) for at, (name, facts) in enumerate(span.events, 1)}
        others = span.attributes.keys() - _ASKED.keys() - _ANSWERED.keys() - _TOLD
        told["attributes"] = _listed({name: span.attributes[name] for name in sorted(others)})
        return {name: text for name, text in told.items() if text}


def read(source: Source) -> list[Row]:
    """Return spans in their places, each behind the one that it stands below; at most MOST_SPANS.

    Raises:
        CourseError: there is none, or something among them is no span.
    """
    placed = list(islice(_walk(below(spans_of(source))), MOST_SPANS))
    if not placed:
        raise CourseError("there is no span; run a program within `with Tracer(content=True) as tracer:`")
    rows = []
    for _, trace in groupby(placed, key=lambda each: each[1][0]):
        spans = list(trace)
        begin_s = spans[0][0].start_s
        trace_s = max(span.end_s for span, _ in spans) - begin_s or 1.0
        for span, place in spans:
            bar = f"left:{(span.start_s - begin_s) / trace_s:.2%};width:{span.took_s / trace_s:.2%}"
            rows.append(Row(span, place, bar, _messages(span, _ASKED), _messages(span, _ANSWERED)))
    return rows


def _walk(children: Mapping[str | None, Sequence[Span]]) -> Iterator[tuple[Span, Place]]:
    waiting: list[tuple[Span | None, Place]] = [(None, ())]
    while waiting:
        span, place = waiting.pop()
        if span:
            yield span, place
        found, numbers = [], Counter[str]()
        for each in children.get(span.id if span else None, ()):
            # two runs may have asked different models, or have called a signature something else
            name = LM if each.kind == LM else each.name.partition("(")[0]
            found.append((each, (*place, (name, numbers[name]))))
            numbers[name] += 1
        waiting += reversed(found)


def _messages(span: Span, labels: Mapping[str, str]) -> Messages:
    """Return content as messages; of what is none, each field or value becomes one."""
    found: Messages = []
    for name, label in labels.items():
        value = span.content(name) or span.attributes.get(name)
        if isinstance(value, Mapping):
            found += [{"role": f"{label} {field}", "content": _plain(each)} for field, each in value.items()]
        elif isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
            found += value
        elif value is not None:
            found.append({"role": label, "content": _plain(value)})
    return found


def _lines(messages: Messages) -> list[str]:
    return [line for each in messages for line in (f"[{each.get('role')}]", *words_of(each).split("\n"))]


def _searched(row: Row) -> str:
    return "\n".join([row.span.name, *row.facts().values(), *_lines(row.asked + row.answered)]).casefold()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2, default=str)


def _listed(facts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={str(value)[:_LONGEST_FACT]}" for name, value in facts.items())


# -- what is shown -------------------------------------------------------------------------------------


def draw(rows: Sequence[Row], label: str, marks: Sequence[str], *, most: int = MOST_SPANS) -> Rendered:
    """Draw the first rows of a run, each with what marks it, below a line that sums the run up."""
    drawn = [(row, row.words() + mark) for row, mark in zip(rows[:most], marks, strict=False)]
    left = len(rows) - len(drawn)
    head = f"{label}: {_summary(rows)}" + f"; {left:,} of them are not drawn here" * bool(left)
    lines = [f"{'  ' * len(row.place)}{row.span.name}  {words}" for row, words in drawn]
    items = "".join(_item(row, words) for row, words in drawn)
    html = f'{paragraph(head)}<ol class="trace-rows" role="tree" aria-label="{label}">{items}</ol>'
    return Rendered(html, "\n".join([head, *lines]))


def _summary(rows: Sequence[Row]) -> str:
    spans = [row.span for row in rows]
    tokens = sum(span.prompt_tokens + span.completion_tokens for span in spans)
    failed, traces = sum(bool(span.error) for span in spans), sum(len(row.place) == 1 for row in rows)
    shown = _counted(len(rows), "span") if len(rows) < MOST_SPANS else f"the first {MOST_SPANS:,} spans"
    cost_usd = sum(span.cost_usd for span in spans)
    said = f"{failed:,} failed, {_counted(tokens, 'token')}, {cost_usd:.6f} dollars"
    return f"{shown}, {_counted(traces, 'trace')}, {said}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _item(row: Row, words: str) -> str:
    kind = "failed" if row.span.error else row.span.kind if row.span.kind in (LM, TOOL) else "other"
    return (
        f'<li role="treeitem" aria-level="{len(row.place)}"><span class="trace-name" '
        f'style="padding-left:{min(len(row.place), 12) * 0.7:.1f}em">{_breakable(row.span.name)}</span>'
        f'<span class="trace-track" aria-hidden="true"><i class="trace-{kind}" style="{row.bar}"></i></span>'
        f" <span>{escape(words)}</span></li>"  # the space is for those who hear it
    )


def _breakable(name: str) -> str:
    """Return a name as HTML that a narrow column may break behind a dot, not within a word."""
    return escape(name).replace(".", ".<wbr>").replace("(", "<wbr>(")


def show(row: Row, other: Row | None = None) -> Rendered:
    """Show one span, or two side by side below what differs in what they were asked and answered."""
    sides = {"this span": row} if other is None else {"first run": row, "second run": other}
    facts = {side: each.facts() for side, each in sides.items()}
    names = dict.fromkeys(name for told in facts.values() for name in told)
    figures = [{"what": name, **{side: told.get(name) for side, told in facts.items()}} for name in names]
    parts = [table(figures, caption=" > ".join([*(name for name, _ in row.place[:-1]), row.span.name]))]
    if other is not None:
        parts.append(_difference("asked", row.asked, other.asked))
        parts.append(_difference("answered", row.answered, other.answered))
    shown = _joined([*parts, *(_said(side, each) for side, each in sides.items())])
    return Rendered(f'<div style="{INK};line-height:1.5">{shown.html}</div>', shown.text)


def _joined(parts: Sequence[Rendered]) -> Rendered:
    return Rendered("".join(part.html for part in parts), "\n\n".join(part.text for part in parts))


def _difference(what: str, *runs: Messages) -> Rendered:
    before, after = (_lines(each)[:_MOST_LINES] for each in runs)
    found = "\n".join(differing(before, after, most=40)) or "nothing"
    title = f"What differs in what was {what}:"
    return Rendered(f'{paragraph(title)}<pre style="{PRE}">{escape(found)}</pre>', f"{title}\n{found}")


def _said(side: str, row: Row) -> Rendered:
    words = "No texts: Tracer(content=True) keeps what modules, models and tools are given and return."
    said = row.asked + row.answered
    shown = show_messages(said) if said else Rendered(paragraph(words), words)
    html = f'<section class="trace-said" aria-label="{side}">{shown.html}</section>'
    return Rendered(html, f"== {side}\n{shown.text}")


# -- the widget ----------------------------------------------------------------------------------------


class Tree(anywidget.AnyWidget):
    """The rows of a run in the browser, which tells which of them is opened."""

    _esm, _css = STATIC / "trace_viewer.js", _CSS
    html = traitlets.Unicode().tag(sync=True)
    opened = traitlets.Int(-1).tag(sync=True)
    found = traitlets.List(default_value=None, allow_none=True).tag(sync=True)


class TraceViewer(Lab):
    """The lab in the notebook."""

    def __init__(self, *runs: list[Row]) -> None:
        labels = ["This run"] if len(runs) == 1 else ["First run", "Second run"]
        self.runs, self._drawn = runs, list(zip(runs, labels, _marks(runs), strict=True))
        self._searched = [[_searched(row) for row in rows] for rows in runs]
        self.trees = [Tree(html=draw(*drawn).html) for drawn in self._drawn]
        where = {"placeholder": "a name, or words of a prompt or a reply", "layout": {"width": "28em"}}
        self.search = widgets.Text(description="search", **where)
        beside = widgets.Box(self.trees)
        beside.add_class("trace-runs")
        super().__init__(_INTRO, [self.search, beside])
        self.search.observe(lambda _: self.find(), "value")
        for tree in self.trees:
            tree.observe(self._opened, "opened")
        self.trees[0].opened = next((at for at, row in enumerate(runs[0]) if row.span.kind == LM), 0)

    def find(self) -> None:
        """Leave only the rows in which the words of the search stand, and open one of them."""
        words = self.search.value.casefold().strip()
        found = [[at for at, text in enumerate(texts) if words in text] for texts in self._searched]
        for tree, rows in zip(self.trees, found, strict=True):
            tree.found = rows if words else None
        for tree, rows in zip(self.trees, found, strict=True):
            if words and any(found) and tree.opened not in rows:
                tree.opened = rows[0] if rows else -1  # what is told below is listed above
        self.say(f"Found: {' and '.join(f'{len(rows):,}' for rows in found)} rows.")

    def _opened(self, change: Mapping[str, Any]) -> None:
        """Tell the rows that are open now; a row of the first run opens its counterpart in the second."""
        first, last = self.trees[0], self.trees[-1]
        if change["owner"] is first is not last and first.opened >= 0:
            place, others = self.runs[0][first.opened].place, enumerate(self.runs[1])
            beside, last.opened = last.opened, next((at for at, row in others if row.place == place), -1)
            if last.opened != beside:
                return  # the change of that one has told both
        opened = zip(self.runs, self.trees, strict=True)
        now = [rows[tree.opened] for rows, tree in opened if tree.opened >= 0]
        if not now:
            return  # while a search closes one and opens the other
        self.rendered = show(*now)
        self._out.value = (
            self.rendered.html
        )  # what is stored stays as it was: it would lay out all rows again
        self.say("Below: " + " beside ".join(f"{row.span.name}, {row.words()}" for row in now))

    def whole(self) -> Rendered:
        """Return the first rows of each run, and what is open."""
        drawn = _joined([draw(*each, most=_MOST_STORED) for each in self._drawn])
        html = f"<style>{_CSS.read_text('utf-8')}</style>{drawn.html}{self.rendered.html}"
        return Rendered(html, f"{drawn.text}\n\n{self.rendered.text}")


def _marks(runs: Sequence[list[Row]]) -> list[list[str]]:
    """Return what is said of rows that have no counterpart, or one that was asked something else."""
    asked = [{row.place: row.asked for row in rows} for rows in runs]
    words = {True: ", differs", False: ", only here"}
    return [
        ["" if row.asked == others.get(row.place) else words[row.place in others] for row in rows]
        for rows, others in zip(runs, reversed(asked), strict=True)
    ]


def trace_viewer(spans: Source, other: Source | None = None) -> TraceViewer:
    """Show a run, or two side by side; choose with the mouse, or with Tab, the arrows and Enter.

    Raises:
        CourseError: there is no span, or something among them is none.
    """
    return TraceViewer(*(read(each) for each in (spans, other) if each is not None))
