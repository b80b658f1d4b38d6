"""What a program did, as a graph: its modules, models and tools, who called whom, how often, how long.

Main path: execution_graph(tracer.spans) -> Graph; a notebook draws it, print() shows its text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.debugging.steps import FORMAT, LM, PARSE, TOOL, Step, spans_of, steps_of

_SHAPES = {LM: '[("{}")]', TOOL: '{{{{"{}"}}}}'}
_LINES = "    linkStyle default stroke:#808080"
"""A grey that is seen on light and on dark: JupyterLab draws no graph again when the theme changes."""
_QUOTED = str.maketrans({'"': "#quot;", "<": "#lt;", ">": "#gt;", "\n": " ", "\r": " "})


@dataclass(frozen=True, slots=True, repr=False)
class Graph:
    """A flow chart in mermaid's language; JupyterLab draws it."""

    mermaid: str
    text: str
    """The same as an indented list, for those who do not see the picture."""

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/vnd.mermaid": self.mermaid, "text/plain": self.text}


def execution_graph(spans: str | Path | Iterable[Any], *, title: str = "What the program did") -> Graph:
    """Return the graph of a run, or of several runs together; adapters' format and parse are left out.

    Args:
        spans: a tracer's, or a file of them.
        title: for those who do not see the picture.
    """
    found = steps_of(spans_of(spans))
    steps = {path: step for path, step in found.items() if step.kind not in (FORMAT, PARSE)}
    ids = {path: f"n{number}" for number, path in enumerate(steps)}
    text = [f"{'  ' * (len(path) - 1)}{step.name}: {_figures(step)}" for path, step in steps.items()]
    described = "; ".join(line.strip() for line in text).translate(_QUOTED).replace(";", ",")
    lines = ["flowchart TD", f"    accTitle: {title.translate(_QUOTED)}", f"    accDescr: {described}"]
    for path, step in steps.items():
        shape = _SHAPES.get(step.kind, '["{}"]')
        label = f"{step.name.translate(_QUOTED)}<br>{_figures(step).translate(_QUOTED)}"
        lines.append(f"    {ids[path]}{shape.format(label)}")
        if path[:-1] in ids:
            lines.append(f"    {ids[path[:-1]]} --> {ids[path]}")
    lines += [_LINES] * any("-->" in line for line in lines)
    return Graph("\n".join(lines), "\n".join(text))


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
