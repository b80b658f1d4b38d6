"""Cards: what a check, a hint or a solution shows, as HTML for a notebook and as text for everything else.

Main path: Card(...) -> show_card(card) -> the notebook renders HTML, a terminal prints the text.
Colours come from JupyterLab's theme; the state is always said in words.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from html import escape
from textwrap import indent
from typing import Any

from course_lib.exercises.engine.sources import shell

MOST_PRINTED_CHARS = 20_000
"""How much of what an answer prints is shown, on each of its two streams, for one `check`."""

TEXT = "color:var(--jp-content-font-color1,#1a1a1a)"
SURFACE = "background:var(--jp-layout-color1,#ffffff)"
BORDER = "var(--jp-border-color1,#767676)"
MARKS = {
    "passed": "var(--jp-success-color1,#2e7d32)",
    "failed": "var(--jp-warn-color1,#b25000)",
    "crashed": "var(--jp-error-color1,#c62828)",
}
"""Colour of the bar beside the words that say the same."""

_OWN_COLUMN = "float:none;width:auto"
"""JupyterLab floats the terms of a list in a fifth of the width; the card's grid places them."""
_TERM = f"{_OWN_COLUMN};font-weight:600;white-space:nowrap"
_WRAPPED = "white-space:pre-wrap;word-break:normal;overflow-wrap:break-word"
_TOLD = f"{_OWN_COLUMN};margin:0;{_WRAPPED}"
_ROWS = "display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.25em 1em;margin:0"
_CODE = f"{TEXT};font-family:var(--jp-code-font-family,monospace)"
_PRE = f"margin:0;padding:.5em;{_WRAPPED};background:var(--jp-layout-color2,#eeeeee);{_CODE}"
_QUOTED = re.compile(r"`([^`\n]+)`")
_ROW = f'<dt style="{_TERM}">{{}}</dt><dd style="{_TOLD}">{{}}</dd>'
_SOURCE = f'<div style="flex:1 1 22em;min-width:0"><strong>{{}}</strong><pre style="{_PRE}">{{}}</pre></div>'


@dataclass(frozen=True, slots=True)
class Card:
    """One titled card of labelled rows, with code side by side where given."""

    title: str
    rows: tuple[tuple[str, str], ...] = ()
    """(label, text), in the order shown."""
    code: tuple[tuple[str, str], ...] = ()
    """(label, source), shown side by side where there is room."""
    outcome: str = ""

    def text(self) -> str:
        """Return the card as plain text."""
        lines = [self.title, *(f"  {label}: {indent(text, '    ').lstrip()}" for label, text in self.rows)]
        for label, source in self.code:
            lines += [f"  {label}:", *(f"    {line}" for line in source.splitlines())]
        return "\n".join(lines)

    def html(self) -> str:
        """Return the card as HTML that follows the notebook's theme."""
        code = "".join(_SOURCE.format(*map(escape, labelled)) for labelled in self.code)
        rows = "".join(_ROW.format(escape(label), _prose(label, text)) for label, text in self.rows)
        body = f'<dl style="{_ROWS}">{rows}</dl>' if rows else ""
        if code:
            body += f'<div style="display:flex;flex-wrap:wrap;gap:1em;margin-top:.6em">{code}</div>'
        title, bar = escape(self.title, quote=True), MARKS.get(self.outcome, BORDER)
        return (
            f'<div class="course-card" role="group" aria-label="{title}" '
            f'style="{SURFACE};{TEXT};border:1px solid {BORDER};border-left:6px solid {bar};'
            f'border-radius:4px;padding:.6em 1em;max-width:70em">'
            f'<p style="margin:0 0 .4em;font-weight:600">{title}</p>{body}</div>'
        )

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return {"text/plain": self.text(), "text/html": self.html()}


def _prose(label: str, text: str) -> str:
    """Return a row's text as HTML, with code where `it` says so; what was seen stays as it was."""
    return escape(text) if label == "Observed" else _QUOTED.sub(r"<code>\1</code>", escape(text))


class _Bounded:
    """A stream that passes so many characters on, then says once that it shows no more."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.left = stream, MOST_PRINTED_CHARS

    def write(self, text: str) -> int:
        left, self.left = self.left, self.left - len(text)
        self._stream.write(text[: max(left, 0)])
        if left >= 0 > self.left:
            self._stream.write(f"\n... the rest is not shown: it is over {MOST_PRINTED_CHARS:,} characters\n")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def bounded_output() -> Iterator[None]:
    """Show only the beginning of what is printed in this block."""
    out, err = _Bounded(sys.stdout), _Bounded(sys.stderr)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield
    finally:
        out.left = err.left = sys.maxsize  # a thread of the answer may leave one as `sys.stdout`


def say(*lines: str) -> None:
    """Print plain lines under the cell."""
    for line in lines:
        print(line)


def show_card(card: Card) -> None:
    """Show a card in the notebook, or print it where there is none."""
    if shell() is None:
        say(card.text())
        return
    from IPython.display import display

    display(card)
