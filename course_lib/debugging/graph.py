"""What a program did, as a graph: its modules, models and tools, who called whom, how often, how long.

Main path: execution_graph(tracer.spans) -> Graph; a notebook draws it, print() shows its text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

from course_lib.debugging.steps import FORMAT, PARSE, Step, spans_of, steps_of

_INK = "var(--jp-ui-font-color1, #1f2328)"
_FAINT = "var(--jp-ui-font-color2, #57606a)"
_PAPER = "var(--jp-layout-color1, #ffffff)"
_LINE, _SIGN, _ACROSS, _DOWN = 17, 7, 16, 30
"""Pixels: the height of a line, the width of a sign, the distances between boxes."""
_LONGEST = 40  # signs of a line that are drawn

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, repr=False)
class Graph:
    """Boxes, each below the first that has an arrow to it, in the colours of JupyterLab's theme."""

    title: str
    boxes: Sequence[tuple[str, ...]]
    """The lines of each."""
    arrows: Sequence[tuple[int, int]]
    """From which box to which; the first stands before the second in `boxes`."""
    text: str
    """The same in words, for those who do not see the picture."""

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        shown = [[_cut(line) for line in box] for box in self.boxes]
        wide = 16 + _SIGN * max((len(line) for box in shown for line in box), default=0)
        high = 14 + _LINE * max(map(len, shown), default=0)
        at = [(x * (wide + _ACROSS), y * (high + _DOWN)) for x, y in _places(len(shown), self.arrows)]
        width = wide + max((x for x, _ in at), default=0)
        height = high + max((y for _, y in at), default=0)
        drawn = [_arrow(at[first], at[second], wide, high) for first, second in self.arrows]
        drawn += [_box(lines, place, wide, high) for lines, place in zip(shown, at, strict=True)]
        style = f"max-width:100%;min-width:{0.7 * width:.0f}px;font:13px var(--jp-ui-font-family, sans-serif)"
        size = f'width="{width + 2:.0f}" viewBox="-1 -1 {width + 2:.0f} {height + 2:.0f}"'
        said = escape(f"{self.title}. {self.text}")
        svg = f'<svg role="img" aria-label="{said}" {size} style="{style}">{"".join(drawn)}</svg>'
        return f'<div style="overflow-x:auto">{svg}</div>'


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def _places(count: int, arrows: Iterable[tuple[int, int]]) -> list[Point]:
    """Return column and row of each box: its own below it, side by side, and it above their middle."""
    own: list[list[int]] = [[] for _ in range(count)]
    above: dict[int, int] = {}
    rows, columns = [0] * count, [0.0] * count
    for first, second in arrows:
        rows[second] = max(rows[second], rows[first] + 1)
        if above.setdefault(second, first) == first:
            own[first].append(second)
    order, waiting = [], [box for box in reversed(range(count)) if box not in above]
    while waiting:
        order.append(box := waiting.pop())
        waiting += reversed(own[box])
    for column, box in enumerate(box for box in order if not own[box]):
        columns[box] = column
    for box in reversed(order):
        columns[box] = fmean((columns[own[box][0]], columns[own[box][-1]])) if own[box] else columns[box]
    return [*zip(columns, rows, strict=True)]


def _arrow(first: Point, second: Point, wide: float, high: float) -> str:
    (x, y), (to_x, to_y) = (first[0] + wide / 2, first[1] + high), (second[0] + wide / 2, second[1])
    curve = f"M{x:.0f} {y:.0f} C{x:.0f} {to_y:.0f} {to_x:.0f} {y:.0f} {to_x:.0f} {to_y:.0f}"
    head = f"M{to_x - 4:.0f} {to_y - 7:.0f} l4 7 l4 -7"
    return f'<path d="{curve} {head}" style="fill:none;stroke:{_FAINT};stroke-width:1.5"/>'


def _box(lines: Sequence[str], place: Point, wide: float, high: float) -> str:
    x, y = place
    top = y + high / 2 - _LINE * (len(lines) - 1) / 2 + 4.5
    words = "".join(
        f'<text x="{x + wide / 2:.0f}" y="{top + _LINE * at:.0f}" text-anchor="middle" '
        f'style="fill:{_INK}">{escape(line)}</text>'
        for at, line in enumerate(lines)
    )
    frame = f'style="fill:{_PAPER};stroke:{_FAINT}"'
    return f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{high:.0f}" rx="6" {frame}/>{words}'


def execution_graph(spans: str | Path | Iterable[Any], *, title: str = "What the program did") -> Graph:
    """Return the graph of a run, or of several runs together; adapters' format and parse are left out.

    Args:
        spans: a tracer's, or a file of them.
        title: for those who do not see the picture.
    """
    found = steps_of(spans_of(spans))
    steps = {path: step for path, step in found.items() if step.kind not in (FORMAT, PARSE)}
    numbers = {path: number for number, path in enumerate(steps)}
    text = [f"{'  ' * (len(path) - 1)}{step.name}: {_figures(step)}" for path, step in steps.items()]
    return Graph(
        title,
        [(step.name, _figures(step)) for step in steps.values()],
        [(numbers[path[:-1]], number) for path, number in numbers.items() if path[:-1] in numbers],
        "\n".join(text),
    )


def _figures(step: Step) -> str:
    failed = sum(bool(span.error) for span in step.calls)
    cached = sum(span.is_cached for span in step.calls)
    parts = [
        f"{len(step.calls)} calls" * (len(step.calls) > 1),
        f"{1000 * step.took_s:,.0f} ms",
        f"{step.tokens:,} tokens" * (step.tokens > 0),
        f"{cached} cached" * (cached > 0),
        f"{failed} failed" * (failed > 0),
    ]
    return ", ".join(filter(None, parts))
